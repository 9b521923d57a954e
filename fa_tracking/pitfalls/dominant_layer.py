"""One layer makes the mean over layers

Layer 0 sits right behind the input and often aligns well, the deep layers hardly at all; the mean over layers then
speaks of "the network's alignment" and is layer 0's share (the protocol's own case: +0.43 at layer 0, about 0 or below
at depth). On a ViT no layer does this, so the mean does not even err in one direction. Here: a small network trained by
DFA, its mean over layers beside the median layer.
"""

import ast
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fa_tracking.pitfalls import Outcome
from fa_tracking.pitfalls._names import dotted, last_name, split
from fa_tracking.pitfalls._quotient import quotients_of
from fa_tracking.pitfalls._source import COSINE, GAMMA, LAYER

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

ORDER = 6
CURE = "Γ per layer, no mean alone"
FIX = "report the cosine of each layer; where a mean is wanted, print it beside them"

MEANS = {
    *(f"{room}.{name}" for room in ("numpy", "jax.numpy") for name in ("mean", "nanmean", "average")),
    *("torch.mean", "torch.nanmean", "statistics.mean", "statistics.fmean"),
    *("tensorflow.reduce_mean", "tensorflow.math.reduce_mean"),
}
METHODS = {"mean", "nanmean"}
GATHERING = {
    *("torch.stack", "torch.cat", "torch.tensor", "torch.as_tensor", "torch.FloatTensor", "tensorflow.stack"),
    *(f"{room}.{name}" for room in ("numpy", "jax.numpy") for name in ("array", "asarray", "stack", "fromiter")),
    *("list", "tuple", "sorted", "filter", "pandas.Series"),
}
REPEATED = {"seed", "run", "trial", "sample", "batch", "epoch", "step", "episode", "env", "fold", "draw", "loader"}
"""What a mean may well go over, in the singular."""
OTHER = {"method", "dataset", "image", "pair", "query", "sentence", "token", "time", "iteration", "repeat"}
"""What else the values of a dictionary or of a loop may stand for."""
BY_LAYER = {
    *("parameters", "params", "param", "modules", "children", "weights", "feedbacks", "matrices", "hidden", "hiddens"),
    *("depth", "grads", "gradients", "updates"),
}
"""Lists, and methods of a model, that hold one entry a layer."""
INDEX = {"l", "lyr"}
"""Names that a loop gives the number of a layer."""
LOSS = {"loss", "losses", "distance", "dist", "penalty", "reg", "regularizer"}


def reproduce() -> Outcome:
    from fa_tracking.pitfalls._tiny import credit, trained
    from fa_tracking.protocol.alignment import alignment

    net, matrices, evaluation = trained()
    gamma = [g for g in alignment(net, [evaluation], credit(matrices), [], floor=0).gamma if g is not None]
    mean, median = statistics.mean(gamma), statistics.median(gamma)
    seen = {"mean": mean, "layer 0": gamma[0]}
    return Outcome({"median layer": median}, seen, gamma[0] > sum(gamma[1:]) and mean > 1.3 * median)


def find(source: "Source") -> Iterator[tuple[ast.AST, str]]:
    for call in source.calls():
        values = _averaged(source, call)
        named = values is not None and source.is_cosine(values, COSINE | GAMMA) and source.is_layered(values)
        if named or _is_mean_of_gammas(source, call) or _is_mean_over_layers(source, call):
            yield call, REASON
    for total in source.nodes:
        if isinstance(total, ast.AugAssign | ast.Assign) and (mean := _summed_over_layers(source, total)):
            yield mean, REASON


REASON = "a mean of cosines over layers: one layer can make it"


def _averaged(source: "Source", call: ast.Call) -> ast.expr | None:
    if source.name(call.func) in MEANS and call.args:
        return call.args[0]
    parent = source.parent(call)
    if isinstance(parent, ast.Call) and dotted(parent.func) == "float":
        parent = source.parent(parent)
    is_sum = isinstance(call.func, ast.Name) and call.func.id == "sum" and len(call.args) == 1
    return call.args[0] if is_sum and isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Div) else None


def _is_mean_over_layers(source: "Source", call: ast.Call) -> bool:
    """The mean of a list of cosines, or of a dictionary's values, where a loop over layers or a network made it."""
    values = _averaged(source, call)
    if values is None and isinstance(call.func, ast.Attribute) and call.func.attr in METHODS and not call.args:
        values = call.func.value if not source.is_module(call.func.value) else None
    if values is None or call.keywords or len(call.args) > 1:
        return False
    while isinstance(values, ast.Call) and source.name(values.func) in GATHERING and values.args:
        values = values.args[0]
    made = [values, *source.given(values)]
    if any(_are_values_of_layers(source, each) for each in made):
        return True
    for each in made:
        comprehensions = [part for part in ast.walk(each) if isinstance(part, ast.ListComp | ast.GeneratorExp)]
        for comprehension in comprehensions:
            loops = comprehension.generators
            elt = comprehension.elt
            if _is_cosine(source, elt) and any(_goes_over_layers(source, loop, elt) for loop in loops):
                return True
            if any(_are_values_of_layers(source, loop.iter) for loop in loops):
                return True
        # a list that a loop appends to; the loop around the mean itself repeats the whole
        if (
            isinstance(each, ast.Call)
            and last_name(each) == "append"
            and each.args
            and _is_cosine(source, each.args[0])
        ):
            around = set(source.parents(call))
            loops_of = [above for above in source.parents(each) if isinstance(above, ast.For) and above not in around]
            if any(_goes_over_layers(source, loop, each.args[0]) for loop in loops_of):
                return True
    return False


def _are_values_of_layers(source: "Source", node: ast.AST) -> bool:
    """``angles.values()``, where the dictionary is named after cosines or comes from what is so named."""
    match node:
        case ast.Call(func=ast.Attribute(attr="values", value=mapping), args=[]):
            words = source.words(source.origins(mapping))
            return bool((COSINE | GAMMA) & words) and not _is_other(words)
        case ast.Call(args=[inside]) if source.name(node.func) in GATHERING:
            return _are_values_of_layers(source, inside)
    return False


def _goes_over_layers(source: "Source", loop: ast.For | ast.comprehension, value: ast.expr) -> bool:
    """Whether a loop goes over layers, or over a dictionary of cosines that the value is read from."""
    mapping = loop.iter
    if isinstance(mapping, ast.Call) and last_name(mapping) in ("items", "keys"):
        mapping = mapping.func.value if isinstance(mapping.func, ast.Attribute) else mapping
    read = last_name(loop.iter) == "items" if isinstance(loop.iter, ast.Call) else False
    read = read or any(isinstance(p, ast.Subscript) and ast.dump(p.value) == ast.dump(mapping) for p in ast.walk(value))
    if read and dotted(mapping):
        named = source.words(source.origins(mapping))
        if (COSINE | GAMMA) & named and not _is_other(named):
            return True
    words = source.words([*ast.walk(loop.target), *ast.walk(loop.iter)])
    names = {part.id for part in ast.walk(loop.target) if isinstance(part, ast.Name)}
    return bool((LAYER | BY_LAYER) & words or INDEX & names) and not _is_other(words)


def _is_other(words: set[str]) -> bool:
    """Whether names speak of something else that a mean goes over."""
    return bool((REPEATED | OTHER) & {word.removesuffix("s") for word in words}) and not LAYER & words


def _is_cosine(source: "Source", node: ast.AST) -> bool:
    """Whether a value is a cosine: by its name, by the call that makes it, or by the quotient."""
    is_distance = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and isinstance(node.left, ast.Constant)
    if is_distance or LOSS & source.words(ast.walk(node)):
        return False
    parts = list(source.origins(node, steps=2))
    made = {id(cosine.node) for cosine in source.cosines} | {id(quotient.node) for quotient in quotients_of(source)}
    return any(id(part) in made for part in parts) or bool((COSINE | GAMMA) & source.words(parts))


def _summed_over_layers(source: "Source", statement: ast.AugAssign | ast.Assign) -> ast.AST | None:
    """Where ``total += cos`` in a loop over layers becomes a mean: the division, or the statement of a running mean."""
    target, value = _added(statement)
    name = dotted(target) if target else ""
    if not name or value is None or LOSS & split(name) or not _is_cosine(source, value):
        return None
    loops = [above for above in source.parents(statement) if isinstance(above, ast.For)]
    if not any(_goes_over_layers(source, loop, value) for loop in loops[:1]):
        return None
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Div) and not _is_quotient(source, value):
        return statement  # mean += (cos - mean) / n, mean += cos / n
    return next((use for use in source.nodes if _divides(source, use, name, statement)), None)


def _added(statement: ast.AugAssign | ast.Assign) -> tuple[ast.expr | None, ast.expr | None]:
    """The total and what is added to it: of ``total += x``, ``total = total + x``."""
    match statement:
        case ast.AugAssign(target=target, op=ast.Add(), value=value):
            return target, value
        case ast.Assign(targets=[target], value=ast.BinOp(op=ast.Add(), left=left, right=right)):
            here = dotted(target)
            return target, right if dotted(left) == here else left if dotted(right) == here else None
    return None, None


def _is_quotient(source: "Source", node: ast.AST) -> bool:
    return any(quotient.node is node for quotient in quotients_of(source))


def _divides(source: "Source", use: ast.AST, name: str, statement: ast.stmt) -> bool:
    """Whether a node divides the total, in the same function where it is no attribute."""
    match use:
        case ast.BinOp(op=ast.Div(), left=left):
            divided = any(dotted(part) == name for part in ast.walk(left))
        case ast.AugAssign(op=ast.Div(), target=target):
            divided = dotted(target) == name
        case _:
            return False
    return divided and ("." in name or source.function(use) is source.function(statement))


def _is_mean_of_gammas(source: "Source", call: ast.Call) -> bool:
    """``np.mean(gammas)``, ``torch.stack(gammas).mean()``: a plain list of Γ, not gathered over seeds or samples."""
    values = _averaged(source, call)
    if values is None and isinstance(call.func, ast.Attribute) and call.func.attr == "mean" and not call.args:
        values = call.func.value
    while isinstance(values, ast.Call):
        inner = values.func
        if isinstance(inner, ast.Attribute) and inner.attr == "values":
            values = inner.value
        else:
            values = values.args[0] if source.name(inner) in GATHERING and values.args else None
    if values is None or call.keywords or "gammas" not in split(dotted(values).rpartition(".")[2]):
        return False
    made = list(source.given(values))
    loops = (above for value in made for above in source.parents(value) if isinstance(above, ast.For))
    parts = [values, *made, *(part for loop in loops for part in (loop.target, loop.iter))]
    words = source.words(part for each in parts for part in ast.walk(each))
    return not REPEATED & (words | {word.removesuffix("s") for word in words})
