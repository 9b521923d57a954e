"""A missing Γ falls back to 1.0

Where feedback matrices or bridge networks were not saved, or a norm is zero, code returns the cosine of the gradient
with itself, or a plain 1.0, "to keep the log complete". The best possible alignment is then recorded of exactly the
runs in which none was measured. Here: a small network trained by DFA, its matrices lost.
"""

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fa_tracking.pitfalls import Outcome
from fa_tracking.pitfalls._names import dotted, split
from fa_tracking.pitfalls._source import COSINE, GAMMA

if TYPE_CHECKING:
    from torch import Tensor

    from fa_tracking.pitfalls._source import Source

ORDER = 7
CURE = "Γ is null, never 0 or 1"
FIX = "return None or NaN where nothing was measured, and count what is missing"

NORMS = {"norm", "norms"}
NORM = NORMS | {"denom", "denominator", "magnitude", "length"}
OTHER_MEANING = {"distance", "dist", "loss", "lr", "schedule", "scheduler", "anneal", "annealing", "warmup", "decay"}
ALIKE = GAMMA | {"align", "aligned", "similarity", "sim"}
"""Names that mean a cosine only where a zero norm is asked for: a discount, a kernel's width are called gamma too."""
SMALL = 1e-3
SHAPED = {"flatten", "ravel", "view", "reshape", "float", "double", "detach", "clone", "cpu"}


def reproduce() -> Outcome:
    from fa_tracking.pitfalls._tiny import trained
    from fa_tracking.protocol.norms import cosine

    _, matrices, evaluation = trained()
    gradient = evaluation.grads[-1]
    lost: list[Tensor] = []
    credit = evaluation.error @ lost[-1] if lost else gradient
    true = cosine(evaluation.error @ matrices[-1], gradient).mean().item()
    recorded = cosine(credit, gradient).mean().item()
    return Outcome({"Γ": true}, {"Γ recorded": recorded}, abs(recorded - 1) < 1e-6 and true < 0.9)


def find(source: "Source") -> Iterator[tuple[ast.AST, str]]:
    for node in source.nodes:
        if isinstance(node, ast.Return) and _is_one(source, node.value) and _where_missing(source, node):
            yield node, "1.0 is returned where the cosine is not defined: the best alignment of all"
        elif isinstance(node, ast.IfExp) and _replaces_cosine(source, node):
            yield node, "1.0 stands in where the cosine is not defined: the best alignment of all"
        elif isinstance(node, ast.Call) and _defaults_to_one(source, node):
            yield node, "a cosine that is missing becomes 1.0: the best alignment of all"
    for cosine in source.cosines:
        if _with_itself(source, cosine.node):
            yield cosine.node, "the cosine of a vector with itself is 1.0, whatever was learned"


def _is_one(source: "Source", node: ast.AST | None) -> bool:
    """1.0, or a tensor of it."""
    if isinstance(node, ast.Call):
        name = source.name(node.func)
        wrapped = name in ("torch.tensor", "numpy.array", "numpy.float64", "numpy.float32", "jax.numpy.array")
        return name in ("torch.ones", "numpy.ones") or (wrapped and bool(node.args) and _is_one(source, node.args[0]))
    return isinstance(node, ast.Constant) and isinstance(node.value, float) and node.value == 1.0


def _where_missing(source: "Source", node: ast.Return) -> bool:
    """In a function that is named after a cosine: in a branch, or behind one, that asks for a zero norm or a gap."""
    function, parent = source.function(node), source.parent(node)
    if function is None:
        return False
    words = split(function.name)
    if isinstance(parent, ast.If):
        return _is_undefined(source, words, parent.test)
    if isinstance(parent, ast.ExceptHandler):
        return _means_cosine(words)
    before = function.body[: function.body.index(node)] if node in function.body else []
    return bool(before) and isinstance(before[-1], ast.If) and _is_undefined(source, words, before[-1].test)


def _is_undefined(source: "Source", words: set[str], test: ast.expr) -> bool:
    """Whether something with a name of these words is a cosine, and the test asks for a zero norm or a gap."""
    if not _asks_for_a_gap(source, test) or OTHER_MEANING & words:
        return False
    return bool(COSINE & words) or (bool(ALIKE & words) and bool(NORMS & source.words(source.origins(test))))


def _means_cosine(words: set[str]) -> bool:
    return bool(COSINE & words) and not OTHER_MEANING & words


def _asks_for_a_gap(source: "Source", test: ast.expr) -> bool:
    if _asks_what_is_missing(test):
        return True
    for node in ast.walk(test):
        match node:
            case ast.Compare() if any(_is_small(part) for part in (node.left, *node.comparators)):
                return True
            case ast.Call(func=function) if source.name(function).rpartition(".")[2] in ("isnan", "isfinite", "isinf"):
                return True
    return False


def _asks_what_is_missing(test: ast.expr) -> bool:
    """``d is None``, ``layer in saved``, ``not saved``."""
    for node in ast.walk(test):
        match node:
            case ast.Compare(ops=[ast.Is() | ast.IsNot() | ast.In() | ast.NotIn(), *_]) | ast.UnaryOp(op=ast.Not()):
                return True
    return False


def _is_small(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and abs(node.value) <= SMALL
    return bool({"eps", "epsilon", "tol", "tiny"} & split(dotted(node).rpartition(".")[2]))


def _replaces_cosine(source: "Source", node: ast.IfExp) -> bool:
    """``dot / norm if norm > 0 else 1.0``; not ``norm if norm > 0 else 1.0``, which guards a division."""
    if _is_one(source, node.body) == _is_one(source, node.orelse) or not _asks_for_a_gap(source, node.test):
        return False
    other = node.orelse if _is_one(source, node.body) else node.body
    own = source.words(ast.walk(other))
    if NORM & own and not any(isinstance(part, ast.BinOp | ast.Call) for part in ast.walk(other)):
        return False
    return _is_undefined(source, own | _receiver(source, node), node.test)


def _receiver(source: "Source", node: ast.IfExp) -> set[str]:
    """The words of what the value becomes: the name that it is given, or the function that returns it."""
    parent = source.parent(node)
    if isinstance(parent, ast.Assign):
        return source.words(part for target in parent.targets for part in ast.walk(target))
    function = source.function(node)
    return split(function.name) if isinstance(parent, ast.Return) and function else set()


def _defaults_to_one(source: "Source", call: ast.Call) -> bool:
    """``d.get("cos", 1.0)``, ``getattr(x, "cos", 1.0)``, ``nan_to_num(cos, nan=1.0)``, ``where(ok, cos, 1.0)``."""
    given = [*call.args, *(k.value for k in call.keywords if k.arg == "nan")]
    if len(given) < 2 or not any(_is_one(source, each) for each in given[1:]):
        return False
    match source.name(call.func).rpartition(".")[2] or getattr(call.func, "attr", ""):
        case "get" | "getattr" | "pop" | "setdefault":
            keys = [a.value for a in given if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            return any(_means_cosine(split(key)) for key in keys)
        case "nan_to_num":
            return _means_cosine(source.words(ast.walk(given[0])))
        case "where":
            return any(_means_cosine(source.words(ast.walk(branch))) for branch in given[1:])
    return False


def _with_itself(source: "Source", call: ast.Call) -> bool:
    """``cos(g, g)``, ``cos(a if a is not None else g, g)``, and ``cos(a, g)`` after ``if a is None: a = g``."""
    if len(call.args) < 2:
        return False
    a, b = ({ast.dump(branch) for branch in _branches(argument)} for argument in call.args[:2])
    if a & b:
        return True
    left, right = map(_unshaped, call.args[:2])
    return _stands_in(source, left, right) or _stands_in(source, right, left)


def _stands_in(source: "Source", missing: ast.expr, other: ast.expr) -> bool:
    """Whether a name is given the other vector before, where it is missing."""
    earlier = (value for value in source.given(missing) if value.lineno < missing.lineno)
    return any(_replaces(source, value, other) for value in earlier)


def _replaces(source: "Source", value: ast.expr, other: ast.expr) -> bool:
    """Whether a value that is assigned is the other vector, and is so only where something is missing."""
    if isinstance(value, ast.IfExp):
        branches = [value.body, value.orelse] if _asks_what_is_missing(value.test) else []
    else:
        block = source.parent(source.parent(value) or value)
        missing = isinstance(block, ast.If) and _asks_what_is_missing(block.test)
        branches = [value] if missing or isinstance(block, ast.ExceptHandler) else []
    return any(ast.dump(_unshaped(branch)) == ast.dump(other) for branch in branches)


def _unshaped(node: ast.expr) -> ast.expr:
    """``g`` of ``g.detach().flatten()``."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SHAPED:
        node = node.func.value
    return node


def _branches(node: ast.expr) -> list[ast.expr]:
    return [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node]
