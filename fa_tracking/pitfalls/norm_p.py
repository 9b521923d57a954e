"""x.norm(-1) is no norm along the last axis

The first argument of ``Tensor.norm`` is the order p, so x.norm(-1) is the L_{−1} norm (Σ|x|⁻¹)⁻¹ of the whole tensor:
one number, dominated by the smallest entry, and 0 as soon as one entry is 0. It raises nothing, and a per-sample norm
that is to be averaged anyway looks plausible. The same holds of ``torch.norm(x, -1)`` and ``F.normalize(x, -1)``.
"""

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fa_tracking.pitfalls import Outcome
from fa_tracking.pitfalls._names import dotted, split

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

ORDER = 1
CURE = "vector_norm(x, dim=-1)"
FIX = "name the axis: x.norm(dim=-1), or torch.linalg.vector_norm(x, dim=-1)"

FUNCTIONS = {
    "torch.norm",
    "torch.linalg.norm",
    "torch.linalg.vector_norm",
    "torch.nn.functional.normalize",
    "numpy.linalg.norm",
    "jax.numpy.linalg.norm",
}
"""They take the tensor first and then the order."""
MEANT = {"p", "ord", "order"}


def reproduce() -> Outcome:
    import torch

    from fa_tracking.protocol.norms import norms

    x = torch.tensor([[3.0, 4.0], [6.0, 8.0]])
    rows, whole = norms(x).tolist(), x.norm(-1)
    expected = {f"row {i}": norm for i, norm in enumerate(rows)}
    return Outcome(expected, {"x.norm(-1)": whole.item()}, whole.ndim == 0 and whole.item() not in rows)


def find(source: "Source") -> Iterator[tuple[ast.AST, str]]:
    for call in source.calls():
        order = _order(source, call)
        if order is not None and _is_minus_one(source, order) and not {"dim", "axis"} & {k.arg for k in call.keywords}:
            yield call, "−1 is taken as the order p, not as the axis: the L_{−1} norm of the whole tensor"


def _order(source: "Source", call: ast.Call) -> ast.expr | None:
    """The order p, where it is the last positional argument: with an axis after it, it is meant."""
    name, given = source.name(call.func), call.args
    if name in FUNCTIONS:
        return given[1] if len(given) == 2 else None
    method = isinstance(call.func, ast.Attribute) and call.func.attr == "norm" and not source.is_module(call.func.value)
    return given[0] if method and len(given) == 1 else None


def _is_minus_one(source: "Source", node: ast.expr) -> bool:
    """-1, or a name that is given it once and is not called an order."""
    if name := dotted(node):
        values = list(source.given(node))
        meant = bool(MEANT & split(name)) or source.is_argument(node)
        return not meant and len(values) == 1 and not dotted(values[0]) and _is_minus_one(source, values[0])
    try:
        return ast.literal_eval(node) == -1
    except ValueError:
        return False
