"""numpy's standard deviation divides by n

``np.std`` has ddof = 0: it is the spread of a whole population. Seeds are a sample, so the spread over them is divided
by n − 1 (ddof = 1); over three seeds numpy's default is 18 % too small. torch and pandas divide by n − 1 unless told
otherwise, so a number changes with the library. The same holds of a variance, and of a standard error: the spread over
√n is that of a sample. Here: the accuracies of a small network on three seeds.
"""

import ast
import math
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fa_tracking.pitfalls import Outcome
from fa_tracking.pitfalls._names import dotted, last_name, split

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

ORDER = 11
CURE = "n − 1, n beside each mean"
FIX = "give ddof=1, or use statistics.stdev, and print n beside it"

SPREADS = {"std", "var"}
POPULATION = {
    *(f"{room}.{nan}{spread}" for room in ("numpy", "jax.numpy") for nan in ("", "nan") for spread in SPREADS),
    *("statistics.pstdev", "statistics.pvariance"),
    *("tensorflow.math.reduce_std", "tensorflow.math.reduce_variance"),
}
SAMPLE = {"torch.std", "torch.var"}
DIVISOR = ("ddof", "correction", "unbiased")
DDOF_AT = 4

SEEDS = (42, 123, 456)
STEPS = 20

OVER_RUNS = {"acc", "accs", "accuracy", "accuracies", "seed", "seeds", "trial", "trials", "runs"}
RUN = {"run", "seed", "trial", "repeat", "replicate", "repetition"}
WHOLE = {
    *("population", "pop", "individual", "ind", "genome", "generation", "chromosome", "swarm", "particle", "agent"),
    *("member", "candidate", "cand", "offspring", "parent", "species", "island", "task", "inner", "outer"),
}
"""What is there as a whole, in the singular: its spread is that of a population."""
WITHIN = {
    *("class", "label", "category", "layer", "sample", "example", "image", "pixel", "client"),
    *("batch", "minibatch", "loader", "dataloader", "epoch", "step"),
}
"""What lies within one run: its spread says nothing over seeds."""
ONE_RUNS = {"metrics", "metric", "log", "logs", "aux", "history", "info", "summary"}
"""Dictionaries that hold the values of one run."""
COUNT = {"n", "num", "number", "count", "counts", "size", "len", "length", "seeds", "runs", "trials", "samples", "reps"}
NO_COUNT = {"dim", "dims", "in", "out", "fan", "feature", "features", "hidden", "width", "channel", "channels", "input"}
SPLIT = {"test", "train", "val", "valid", "validation", "eval", "final", "best"}
SCORE = {"err", "errs", "error", "errors", "score", "scores", "loss", "losses", "perf"}


def reproduce() -> Outcome:
    import numpy as np

    from fa_tracking.pitfalls._tiny import accuracy, trained

    accuracies = [accuracy(trained(STEPS, seed).evaluation) for seed in SEEDS]
    sample, default = statistics.stdev(accuracies), float(np.std(accuracies))
    shrunk = math.sqrt((len(SEEDS) - 1) / len(SEEDS))
    return Outcome({"sd": sample}, {"np.std": default}, default > 0 and math.isclose(default / sample, shrunk))


def find(source: "Source") -> Iterator[tuple[ast.AST, str]]:
    for call in source.calls():
        values = _values(source, call)
        if values is None:
            continue
        if _in_standard_error(source, call):
            yield call, "the spread in a standard error is divided by n, not by n − 1"
        elif _over_runs(source, call, values):
            yield call, "the standard deviation over runs is divided by n, not by n − 1"
    for node in source.nodes:
        values = _written_out(source, node)
        if values is not None and _over_runs(source, node, values):
            yield node, "the variance over runs is divided by n, not by n − 1"


def _values(source: "Source", call: ast.Call) -> ast.expr | None:
    """What the spread is taken of, where the function divides by n; None where it does not, or may not."""
    name, said = source.name(call.func), _said(call)
    if name in POPULATION or (name in SAMPLE and said):
        silent = said is None and 0 < len(call.args) <= DDOF_AT
        return call.args[0] if call.args and (said or silent) else None
    match call.func:
        case ast.Attribute(attr=spread, value=values) if spread in SPREADS and not source.is_module(values):
            silent = said is None and len(call.args) < DDOF_AT and _is_numpy(source, values)
            return values if said or silent else None
    return None


def _said(call: ast.Call) -> bool | None:
    """Whether the call says by a keyword that it divides by n; None where it says nothing of it."""
    given = [k for k in call.keywords if k.arg in (*DIVISOR, None)]
    if not given:
        return None
    return any(isinstance(k.value, ast.Constant) and k.value.value == 0 for k in given)  # False == 0


def _is_numpy(source: "Source", node: ast.expr, steps: int = 2) -> bool:
    """Whether an array is numpy's, as far as the code shows."""
    match node:
        case ast.Call(func=ast.Attribute() as function):
            made = source.name(function).startswith(("numpy.", "jax.numpy."))
            return made or _is_numpy(source, function.value, steps)
        case ast.Subscript():
            return _is_numpy(source, node.value, steps)
        case ast.Name() if steps:
            return any(_is_numpy(source, made, steps - 1) for made in source.given(node))
    return False


def _written_out(source: "Source", node: ast.AST) -> ast.expr | None:
    """The values of ``sum((v - mean) ** 2 for v in values) / len(values)`` and of ``((v - v.mean()) ** 2).mean()``."""
    match node:
        case ast.BinOp(
            op=ast.Div(), left=ast.Call(func=ast.Name(id="sum"), args=[ast.GeneratorExp() as all_of]), right=n
        ):
            value = _deviation(source, all_of.elt)
            loop = all_of.generators[0]
            is_spread = value is not None and ast.unparse(value) == ast.unparse(loop.target)
            return loop.iter if is_spread and _is_count(source, n) else None
        case ast.Call(func=ast.Attribute(attr="mean", value=inside), args=[]) | ast.Call(args=[inside]) if (
            last_name(node) == "mean"
        ):
            return _deviation(source, inside)
    return None


def _deviation(source: "Source", node: ast.expr) -> ast.expr | None:
    """What the mean is taken off of, and the rest squared."""
    match node:
        case ast.BinOp(op=ast.Pow(), left=ast.BinOp(op=ast.Sub(), left=value, right=mean), right=ast.Constant(value=2)):
            made = [mean, *source.given(mean)]
            means = any(isinstance(each, ast.Call) and last_name(each) in ("mean", "fmean") for each in made)
            sums = any("sum(" in ast.unparse(each) and "len(" in ast.unparse(each) for each in made)
            return value if means or sums or {"mean", "m", "mu", "avg", "average"} & split(dotted(mean)) else None
    return None


def _over_runs(source: "Source", spread: ast.AST, node: ast.expr) -> bool:
    """By what the values are named, and by what the loop that gathers them goes over."""
    one = {part.id for up in source.parents(spread) if isinstance(up, ast.For) for part in _names(up.target)}
    words = source.words(part for part in ast.walk(node) if not (isinstance(part, ast.Name) and part.id in one))
    over = _looped(source, spread, node)
    if _singular(over) & RUN:
        return True
    origins = source.words(source.origins(node))
    if _singular(words | over) & WITHIN or _singular(words | over | origins) & WHOLE:
        return False
    if OVER_RUNS & words or (SPLIT & words and SCORE & words):
        values = [*source.given(node)] or [node]
        return bool(_singular(words) & RUN) or not all(map(_is_of_one_run, values))
    return False


def _names(node: ast.AST) -> Iterator[ast.Name]:
    return (part for part in ast.walk(node) if isinstance(part, ast.Name))


def _singular(words: set[str]) -> set[str]:
    return {word if word == "class" else word.removesuffix("s").removesuffix("se") for word in words} | words


def _looped(source: "Source", spread: ast.AST, node: ast.expr) -> set[str]:
    """The words of what the loops around the values, and not around the spread, go over."""
    parts = list(source.origins(node))
    loops: list[ast.AST] = [part for part in parts if isinstance(part, ast.comprehension)]
    around = set(source.parents(spread))
    for made in (value for part in ast.walk(node) for value in source.given(part)):
        if _gathers(source, made):
            loops += [up for up in source.parents(made) if isinstance(up, ast.For) and up not in around]
    heads = [
        part for loop in loops if isinstance(loop, ast.comprehension | ast.For) for part in (loop.target, loop.iter)
    ]
    mapped = [
        over for part in parts if isinstance(part, ast.Call) and last_name(part) == "map" for over in part.args[1:]
    ]
    return source.words(part for head in (*heads, *mapped) for part in ast.walk(head))


def _gathers(source: "Source", made: ast.expr) -> bool:
    """``values.append(x)``, ``values[i] = x``."""
    statement = source.parent(made)
    stored = isinstance(statement, ast.Assign) and any(isinstance(t, ast.Subscript) for t in statement.targets)
    return stored or (isinstance(made, ast.Call) and last_name(made) in ("append", "extend", "insert"))


def _is_of_one_run(node: ast.expr) -> bool:
    """``metrics["test_loss"]``."""
    while isinstance(node, ast.Call) and node.args:
        node = node.args[0]
    return isinstance(node, ast.Subscript) and bool(ONE_RUNS & split(dotted(node.value).rpartition(".")[2]))


def _in_standard_error(source: "Source", call: ast.Call) -> bool:
    """``np.std(x) / np.sqrt(len(x))``, also by a name for the spread, and ``np.sqrt(np.var(x) / len(x))``."""
    is_variance = "var" in source.name(call.func).rpartition(".")[2] or last_name(call).endswith("var")
    return any(_divides_by_root(source, place, is_variance) for place in (call, *_uses(source, call)))


def _uses(source: "Source", call: ast.Call) -> Iterator[ast.expr]:
    """Where the name or the key that the spread is given is read in the same function."""
    function = source.function(call)
    here = [node for node in source.nodes if isinstance(node, ast.Name | ast.Subscript) and _is_read(node)]
    for node in (node for node in here if source.function(node) is function):
        if isinstance(node, ast.Name):
            if call in _made_alone(source, node):
                yield node
        elif isinstance(node.slice, ast.Constant):
            for made in source.given(node.value):
                if isinstance(made, ast.Dict) and any(_bare(value) is call for value in _entries(made, node.slice)):
                    yield node


def _is_read(node: ast.Name | ast.Subscript) -> bool:
    return isinstance(node.ctx, ast.Load)


def _entries(mapping: ast.Dict, key: ast.Constant) -> list[ast.expr]:
    """What a dictionary holds under a key."""
    pairs = zip(mapping.keys, mapping.values, strict=True)
    return [value for k, value in pairs if isinstance(k, ast.Constant) and k.value == key.value]


def _made_alone(source: "Source", node: ast.Name) -> list[ast.expr]:
    """What a name is given, without a shape or a type."""
    return [_bare(value) for value in source.given(node)]


def _bare(node: ast.expr) -> ast.expr:
    while isinstance(node, ast.Call) and dotted(node.func) == "float" and len(node.args) == 1:
        node = node.args[0]
    return node


def _divides_by_root(source: "Source", node: ast.expr, is_variance: bool) -> bool:
    """Whether the spread, or a multiple of it, is divided by the root of a count."""
    above, below = source.parent(node), node
    while (isinstance(above, ast.BinOp) and isinstance(above.op, ast.Mult)) or _is_float(above):
        if isinstance(above, ast.BinOp) and any(map(_is_drawn, ast.walk(above))):
            return False
        above, below = source.parent(above) if above else None, above if isinstance(above, ast.expr) else below
    if not isinstance(above, ast.BinOp) or not isinstance(above.op, ast.Div) or above.left is not below:
        return False
    if is_variance:
        root = source.parent(above)
        return isinstance(root, ast.Call | ast.BinOp) and _under_root(root) is above and _is_count(source, above.right)
    under = _under_root(above.right)
    return under is not None and _is_count(source, under)


def _is_float(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Call) and dotted(node.func) == "float"


def _is_drawn(node: ast.AST) -> bool:
    """Random numbers that are scaled are weights, not an error."""
    return isinstance(node, ast.Call) and bool(
        {"rand", "randn", "random", "normal", "uniform"} & split(dotted(node.func))
    )


def _under_root(node: ast.expr) -> ast.expr | None:
    """``n`` of ``np.sqrt(n)`` and of ``n ** 0.5``."""
    match node:
        case ast.Call(args=[inside]) if last_name(node) == "sqrt":
            return inside
        case ast.BinOp(op=ast.Pow(), left=inside, right=ast.Constant(value=0.5)):
            return inside
    return None


def _is_count(source: "Source", node: ast.expr) -> bool:
    """How many values there are; n − 1 is not."""
    match node:
        case ast.Call(args=[each, *rest]) if last_name(node) in ("max", "maximum", "float"):
            return any(_is_count(source, one) for one in (each, *rest))
        case ast.Call(args=[each, *_]) if last_name(node) in ("sum", "count_nonzero"):
            return any(
                isinstance(part, ast.Call) and last_name(part) in ("isnan", "isfinite") for part in ast.walk(each)
            )
        case ast.Call():
            return last_name(node) in ("len", "numel", "size")
        case ast.Subscript(value=ast.Attribute(attr="shape")) | ast.Attribute(attr="size"):
            return True
        case ast.Name() | ast.Attribute():
            words = split(dotted(node).rpartition(".")[2])
            counted = (_is_count(source, value) for value in source.given(node))
            return not NO_COUNT & words and (bool(COUNT & words) or any(counted))
    return False
