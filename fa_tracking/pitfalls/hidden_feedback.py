"""A Tensor hook can replace the gradient unseen

What a function given to ``tensor.register_hook`` returns takes the gradient's place in all that lies below. Where it
returns an error times a feedback matrix, every ``.grad`` below is the feedback's, and so is the gradient that
``torch.autograd.grad`` gives: nothing in the list of modules says so, and a comparison with "backpropagation" compares
the method with itself and reads 1. Here: two layers with such a hook between them.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fa_tracking.pitfalls import Outcome
from fa_tracking.pitfalls._names import Callable, Function, dotted, last_name, parameters, split

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

ORDER = 16
CURE = "hooks are set aside"
FIX = "write the feedback as a torch.autograd.Function of the layer, and take BP's gradient of a copy without the hook"

PRODUCTS = {
    *("matmul", "mm", "mv", "bmm", "einsum", "dot", "tensordot", "linear", "addmm", "baddbmm", "inner", "outer"),
    *("conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "conv1d_input", "conv2d_input"),
}
FEEDBACK = {
    *("feedback", "feedbacks", "fb", "fa", "dfa", "fixed", "random", "backward", "err", "error", "errors", "delta"),
    "sign",  # of the weights, as in sign symmetry
}
MATRIX = re.compile(r"[BR](s|_?\d+|_[a-z0-9]+|fb)?|e")
"""The field's own names: B, B1, B_l for the feedback, e for the error."""
IN_PLACE = {"copy_", "set_"}


def reproduce() -> Outcome:
    import torch
    import torch.nn.functional as F

    from fa_tracking.pitfalls._tiny import CLASSES, INPUTS, WIDTH, data
    from fa_tracking.protocol.norms import cosine
    from fa_tracking.protocol.outputs import output_error

    generator = torch.Generator().manual_seed(0)
    below = torch.randn(INPUTS, WIDTH, generator=generator, requires_grad=True)
    above, matrix = torch.randn(WIDTH, CLASSES, generator=generator), torch.randn(CLASSES, WIDTH, generator=generator)
    x, y = data(64, seed=1)
    gradients: list[torch.Tensor] = []
    for hooked in (False, True):
        h = torch.tanh(x @ below)
        logits = h @ above
        error = output_error(logits.detach(), y) / len(x)
        if hooked:
            h.register_hook(lambda _, error=error: error @ matrix)  # fa-track: ignore
        gradients += torch.autograd.grad(F.cross_entropy(logits, y), below)
    true, called = (gradient.flatten() for gradient in gradients)
    seen = cosine(called, true).item()
    return Outcome({"cos(.grad, BP)": 1.0}, {"cos(.grad, BP)": seen}, abs(seen) < 0.5)


@dataclass(frozen=True)
class Hook:
    """A function that is put on a tensor, and the name of its argument that is the gradient."""

    function: Callable
    gradient: str


def find(source: "Source") -> Iterator[tuple[ast.AST, str]]:
    for node, hook in _hooks(source):
        if any(_is_feedback(source, hook, value) for value in _given_back(source, hook)):
            yield node, "the hook puts feedback in the gradient's place: no .grad below is the loss's gradient"


def _hooks(source: "Source") -> Iterator[tuple[ast.expr, Hook]]:
    """Every place where a hook is put on a tensor, where the file shows its function."""
    for call in source.calls():
        if last_name(call) == "register_hook" and isinstance(call.func, ast.Attribute):
            given = [*call.args[-1:], *(k.value for k in call.keywords if k.arg == "hook")]
            for hook in (found for each in given for found in _meant(source, each)):
                yield call, hook
    for function in source.walk(ast.FunctionDef):  # @h.register_hook
        for decorator in function.decorator_list:
            if isinstance(decorator, ast.Attribute) and decorator.attr == "register_hook":
                yield decorator, _hook(function)


def _meant(source: "Source", node: ast.expr, steps: int = 2) -> list[Hook]:
    """The function that an expression is, or that the call of a factory returns."""
    match node:
        case ast.Lambda():
            return [_hook(node)]
        case ast.Name() | ast.Attribute():
            named = source.named(node)
            values = source.given(node) if steps and not named else ()
            return [*map(_hook, named), *(hook for value in values for hook in _meant(source, value, steps - 1))]
        case ast.Call(args=[inside, *bound]) if last_name(node) == "partial":
            return [_hook(found.function, len(bound)) for found in _meant(source, inside, steps)]
        case ast.Call() if steps:
            return [hook for value in source.returned(node) for hook in _meant(source, value, steps - 1)]
    return []


def _hook(function: Callable, bound: int = 0) -> Hook:
    names = [name for name in parameters(function) if name not in ("self", "cls")]
    return Hook(function, next(iter(names[bound:]), ""))


def _given_back(source: "Source", hook: Hook) -> Iterator[ast.expr]:
    """What a hook returns, or writes into the gradient."""
    for result in source.results(hook.function):
        yield from [result.body, result.orelse] if isinstance(result, ast.IfExp) else [result]
    for node in ast.walk(hook.function):
        match node:
            case ast.Assign(targets=[ast.Subscript(value=target) | ast.Attribute(value=target, attr="data")]):
                if dotted(target) == hook.gradient:
                    yield node.value
            case ast.Call(func=ast.Attribute(value=target, attr=method), args=[value]) if method in IN_PLACE:
                if dotted(target).partition(".")[0] == hook.gradient:
                    yield value


def _is_feedback(source: "Source", hook: Hook, value: ast.expr) -> bool:
    """A product without the gradient, or with a feedback matrix; or what is named feedback, in the gradient's place."""
    parts = list(_within(source, hook.function, value))
    is_product = any(_is_product(part) for part in parts)
    names = [part for part in parts if isinstance(part, ast.Name | ast.Attribute) and dotted(part)]
    own = (name for name in names if dotted(name).partition(".")[0] == hook.gradient)
    takes_gradient = any(_is_value(source, name) for name in own)
    named = any(_is_feedback_name(name) for name in names)
    return (is_product and (named or not takes_gradient)) or (named and not takes_gradient)


def _within(source: "Source", hook: Callable, node: ast.expr, steps: int = 2) -> Iterator[ast.AST]:
    """The parts of a value, and of what its names are given inside the hook."""
    for part in ast.walk(node):
        yield part
        if steps and isinstance(hook, Function) and isinstance(part, ast.Name):
            for given in source.given(part):
                if source.function(given) is hook:
                    yield from _within(source, hook, given, steps - 1)


def _is_value(source: "Source", node: ast.AST) -> bool:
    """Not ``grad.shape``, ``grad.device``, ``grad.dtype``: they hold no gradient."""
    held = dotted(node).split(".")[1:]
    above = source.parent(node)
    read = above.attr if isinstance(above, ast.Attribute) else ""
    asked = {"shape", "device", "dtype", "size", "ndim", "numel"}
    is_like = isinstance(above, ast.Call) and last_name(above).endswith(("_like", "_as"))
    return not asked & {*held, read} and not is_like


def _is_product(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.MatMult)
    return isinstance(node, ast.Call) and last_name(node) in PRODUCTS


def _is_feedback_name(node: ast.AST) -> bool:
    last = dotted(node).rpartition(".")[2]
    return bool(FEEDBACK & split(last)) or bool(MATRIX.fullmatch(last))
