"""float16 turns small gradients into 0, and their cosine into NaN

The smallest float16 number is 6e-8, so a gradient whose entries are about 5e-10 becomes a zero vector, which has no
direction. bfloat16 has the exponents of float32 and keeps it, with two to three digits. Where NaN is then replaced by 0
or by 1, a number that nobody measured enters the mean.
"""

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fa_tracking.pitfalls import Outcome

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

ORDER = 3
CURE = "norms, cosines in float64"
FIX = "keep gradients out of float16 (bfloat16 will do) and take their cosine in float64"

ENTRY = 5e-10


def reproduce() -> Outcome:
    import math

    import torch

    from fa_tracking.protocol.norms import cosine

    credit = torch.tensor([0.6, 0.8])
    gradient = ENTRY * torch.tensor([1.0, 1.0])
    true = cosine(credit, gradient).item()
    seen = {"fp16": cosine(credit, gradient.half()).item(), "bf16": cosine(credit, gradient.bfloat16()).item()}
    return Outcome({"cos": true}, seen, math.isnan(seen["fp16"]) and abs(seen["bf16"] - true) < 0.01)


def find(source: "Source") -> Iterator[tuple[ast.AST, str]]:
    for call in source.cosines:
        is_gradient = source.is_gradient(call.node)
        halves = any(_is_half(source, part) for part in source.origins(call.node, steps=2))
        if halves and (is_gradient or _says_nothing(source, call.node)):
            yield call.node, "a cosine of float16 vectors: entries below 6e-8 are 0 there"
        elif is_gradient and _in_autocast(source, call.node):
            yield call.node, "a cosine inside autocast to float16: gradients made there lose entries below 6e-8"


def _says_nothing(source: "Source", call: ast.Call) -> bool:
    """Whether the arguments are named by single letters, as a and b: they may be gradients."""
    names = [part for argument in call.args for part in ast.walk(argument) if isinstance(part, ast.Name)]
    return all(len(name.id) == 1 or source.is_module(name) for name in names)


def _is_half(source: "Source", node: ast.AST) -> bool:
    """Whether the expression turns something into float16 on the spot."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    if node.func.attr == "half":
        return not node.args
    given = [*node.args, *(k.value for k in node.keywords if k.arg == "dtype")]
    return node.func.attr in ("to", "type", "astype") and any(_is_float16(source, each) for each in given)


def _is_float16(source: "Source", node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return node.value in ("float16", "half")
    return source.name(node) in ("torch.float16", "torch.half", "numpy.float16", "numpy.half", "jax.numpy.float16")


def _in_autocast(source: "Source", node: ast.AST) -> bool:
    managers = (
        item.context_expr
        for parent in source.parents(node)
        if isinstance(parent, ast.With)
        for item in parent.items
        if isinstance(item.context_expr, ast.Call)
    )
    return any(_casts_to_float16(source, manager) for manager in managers)


def _casts_to_float16(source: "Source", call: ast.Call) -> bool:
    """The type is float16 where it is said, and where nothing is said on a GPU."""
    name = source.name(call.func)
    if name not in ("torch.autocast", "torch.amp.autocast", "torch.cuda.amp.autocast"):
        return False
    keywords = {k.arg: k.value for k in call.keywords}
    given = keywords.get("dtype", call.args[1] if len(call.args) > 1 and name != "torch.cuda.amp.autocast" else None)
    if given is not None:
        return _is_float16(source, given)
    device = keywords.get("device_type", call.args[0] if call.args else None)
    return name == "torch.cuda.amp.autocast" or (isinstance(device, ast.Constant) and device.value == "cuda")
