"""The best epoch by test accuracy flatters

The highest of many test accuracies is above the accuracy of any one of them: the test split has picked what it then
judges, and the more often one looks, the higher it gets. Two methods evaluated at different intervals are no longer
compared. Here: networks that learn random labels, so that nothing can be above chance; the best of forty looks, beside
the same network on labels that it was not picked by.
"""

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fa_tracking.pitfalls import Outcome
from fa_tracking.pitfalls._names import dotted, last_name, split
from fa_tracking.pitfalls._reported import BEST, is_picked_on_validation, is_reported
from fa_tracking.pitfalls._splits import (
    ERROR,
    SCORE,
    contradicts,
    is_cross_validated,
    is_on_test,
    nearest_split,
    split_of,
)

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

ORDER = 14
CURE = "the last epoch's accuracy"
FIX = "report the last epoch, or pick the epoch on a validation split and read its test accuracy once"

LOOKS, TESTED_ON, FRESH = 40, 64, 4096
HIGHEST = {"max", "amax", "nanmax", "argmax", "nanargmax", "maximum", "fmax"}
LOWEST = {"min", "amin", "nanmin", "argmin", "nanargmin", "minimum", "fmin"}
EVALUATES = {"evaluate", "eval", "score", "accuracy", "validate"}
EPOCHS = {"epoch", "epochs", "checkpoint", "checkpoints", "iteration", "iterations", "step", "steps", "round", "rounds"}


def reproduce() -> Outcome:
    import torch

    from fa_tracking.pitfalls._tiny import CLASSES, INPUTS

    generator = torch.Generator().manual_seed(0)
    x, fresh = (torch.randn(n, INPUTS, generator=generator) for n in (TESTED_ON, FRESH))
    y, other = (torch.randint(CLASSES, (n,), generator=generator) for n in (TESTED_ON, FRESH))
    looks = [torch.randn(INPUTS, CLASSES, generator=generator) for _ in range(LOOKS)]
    tested = [((x @ w).argmax(dim=1) == y).double().mean().item() for w in looks]
    best = looks[tested.index(max(tested))]
    true = ((fresh @ best).argmax(dim=1) == other).double().mean().item()
    return Outcome({"accuracy": true}, {"best on test": max(tested)}, max(tested) > 1.5 * true and true < 0.12)


def find(source: "Source") -> Iterator[tuple[ast.AST, str]]:
    for node in source.nodes:
        of_all = isinstance(node, ast.Call | ast.Subscript) and _is_best_of_all(source, node)
        if of_all or _keeps_best(source, node):
            yield node, "the best of many looks at the test split: it picks what it then judges"


def _keeps_best(source: "Source", node: ast.AST) -> bool:
    """``if test_acc > best: best = test_acc``, ``best = max(best, test_acc)``; over the rounds of a loop."""
    match node:
        case ast.Compare(left=left, ops=[ast.Gt() | ast.GtE()], comparators=[right]):
            new, kept, words = left, right, SCORE
        case ast.Compare(left=left, ops=[ast.Lt() | ast.LtE()], comparators=[right]):
            new, kept, words = left, right, ERROR
        case _:
            return isinstance(node, ast.Call) and _is_running_best(source, node)
    if not _is_kept(source, node, new, kept):
        new, kept, words = kept, new, SCORE if words is ERROR else ERROR
        if not _is_kept(source, node, new, kept):
            return False
    return _is_repeated(source, node, kept) and is_on_test(source, new, words)


def _is_kept(source: "Source", test: ast.AST, new: ast.expr, kept: ast.expr) -> bool:
    """Whether what is compared with is the best so far: named so, or given the new value where it is better."""
    if not (dotted(kept) or isinstance(kept, ast.Subscript)):
        return False
    branch = next((up for up in source.parents(test) if isinstance(up, ast.If) and test in ast.walk(up.test)), None)
    same = {ast.dump(new), *(ast.dump(value) for value in source.given(new))}
    for statement in branch.body if branch else ():
        for part in ast.walk(statement):
            if isinstance(part, ast.Assign):
                for target, value in _assigned(part):
                    if _is_same(target, kept) and (_is_same(value, new) or ast.dump(value) in same):
                        return True
    chosen = source.parent(test)
    if isinstance(chosen, ast.IfExp) and chosen.test is test:
        place, pair = source.parent(chosen), (chosen.body, chosen.orelse)
        is_choice = any(_is_same(a, new) and _is_same(b, kept) for a, b in (pair, pair[::-1]))
        return is_choice and isinstance(place, ast.Assign) and any(_is_same(t, kept) for t in place.targets)
    flagged = source.parent(test)
    is_flag = isinstance(flagged, ast.Assign) and any(BEST & split(dotted(target)) for target in flagged.targets)
    return is_flag and bool(BEST & source.words(ast.walk(kept)))


def _assigned(node: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Each place with its value; of a dictionary each entry is a place."""
    for target in node.targets:
        if isinstance(node.value, ast.Dict):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if key is not None:
                    yield ast.Subscript(target, key, ast.Load()), value
        match target, node.value:
            case ast.Tuple(elts=names), ast.Tuple(elts=values) if len(names) == len(values):
                yield from zip(names, values, strict=True)
            case _:
                yield target, node.value


def _is_same(a: ast.expr, b: ast.expr) -> bool:
    return ast.unparse(_plain(a)) == ast.unparse(_plain(b))


def _plain(node: ast.expr) -> ast.expr:
    """``acc`` of ``float(acc)`` and of ``acc.item()``."""
    while isinstance(node, ast.Call):
        if dotted(node.func) in ("float", "int", "round", "copy.deepcopy") and node.args:
            node = node.args[0]
        elif isinstance(node.func, ast.Attribute) and node.func.attr in ("item", "copy", "clone") and not node.args:
            node = node.func.value
        else:
            break
    return node


def _is_running_best(source: "Source", call: ast.Call) -> bool:
    """``best = max(best, test_acc)``."""
    name, statement = last_name(call), source.parent(call)
    while isinstance(statement, ast.Call):
        statement = source.parent(statement)
    if name not in HIGHEST | LOWEST or len(call.args) != 2 or not isinstance(statement, ast.Assign):
        return False
    for kept, new in (call.args, call.args[::-1]):
        if any(_is_same(target, kept) for target, _ in _assigned(statement)):
            words = SCORE if name in HIGHEST else ERROR
            return _is_repeated(source, call, kept) and is_on_test(source, new, words)
    return False


def _is_repeated(source: "Source", node: ast.AST, kept: ast.expr) -> bool:
    """Whether the best outlives the line: a loop goes over it, or an object, a dictionary or the module keeps it."""
    function = source.function(node)
    looped = any(isinstance(up, ast.For | ast.While) and source.function(up) is function for up in source.parents(node))
    outlives = isinstance(kept, ast.Attribute | ast.Subscript) or any(
        dotted(kept) in part.names
        for part in ast.walk(function or ast.Pass())
        if isinstance(part, ast.Global | ast.Nonlocal)
    )
    return looped or outlives


def _is_best_of_all(source: "Source", node: ast.Call | ast.Subscript) -> bool:
    """``max(test_accs)``, ``np.argmax(history["test_acc"])``, where it is kept, printed or returned."""
    name, values = _extreme(source, node)
    if values is None or isinstance(values, ast.Tuple | ast.List | ast.Constant):
        return False
    words = SCORE if name in HIGHEST else ERROR
    keys = [k.value for k in node.keywords if k.arg == "key"] if isinstance(node, ast.Call) else []
    own = source.words(part for each in (_element(values), *keys) for part in ast.walk(each))
    if contradicts(own, words) or not is_reported(source, node) or is_picked_on_validation(source, node):
        return False
    if is_cross_validated(source, values):
        return False
    if split_of(own):
        is_test = split_of(own) == "test" or (_is_keras_validation(values) and _validates_on_test(source))
        if not is_test or words & own:
            return is_test
    made = own if split_of(own) else nearest_split(source, values)
    scored = (words | EVALUATES) & (own | made | source.words(source.origins(values)))
    return split_of(made) == "test" and bool(scored) and _is_over_epochs(source, values)


def _element(values: ast.expr) -> ast.expr:
    """What an extreme is taken of: of ``h["acc"] for h in history`` the entry, not the list."""
    return values.elt if isinstance(values, ast.GeneratorExp | ast.ListComp) else values


def _extreme(source: "Source", node: ast.Call | ast.Subscript) -> tuple[str, ast.expr | None]:
    """Which extreme is taken, and of what; ``sorted(x)[-1]`` is a maximum too."""
    match node:
        case ast.Subscript(
            value=ast.Call(func=ast.Name(id="sorted"), args=[values], keywords=[]), slice=ast.Constant(value=0)
        ):
            return "min", values
        case ast.Subscript(value=ast.Call(func=ast.Name(id="sorted"), args=[values], keywords=[]), slice=ast.UnaryOp()):
            return "max", values
        case ast.Call(func=ast.Attribute(value=values), args=[]) if not source.is_module(values):
            pass
        case ast.Call(args=[values]):
            pass
        case _:
            return "", None
    name = last_name(node) if isinstance(node, ast.Call) else ""
    return name, values if name in HIGHEST | LOWEST else None


def _is_over_epochs(source: "Source", values: ast.expr) -> bool:
    """Whether the list was filled in a loop over epochs or checkpoints, or over numbers."""
    made = [values, *source.given(values)]
    loops: list[ast.For | ast.comprehension] = [
        p for v in made for p in ast.walk(v) if isinstance(p, ast.comprehension)
    ]
    for value in made:
        around = [up for up in source.parents(value) if isinstance(up, ast.For)]
        loops += around[:1]
    heads = [(loop.iter, source.words([*ast.walk(loop.target), *ast.walk(loop.iter)])) for loop in loops]
    return any((isinstance(over, ast.Call) and dotted(over.func) == "range") or EPOCHS & words for over, words in heads)


def _is_keras_validation(values: ast.expr) -> bool:
    keys = [part.value for part in ast.walk(values) if isinstance(part, ast.Constant)]
    return any(isinstance(key, str) and key.startswith("val_") for key in keys)


def _validates_on_test(source: "Source") -> bool:
    """``model.fit(…, validation_data=(x_test, y_test))``."""
    given = [k.value for call in source.calls() for k in call.keywords if k.arg == "validation_data"]
    return any(split_of(source.words(ast.walk(value))) == "test" for value in given)
