"""NaN passes every threshold

Every comparison with NaN is false, so a network that has diverged to NaN is neither above the growth ratio nor below
the gradient's floor: code that flags what exceeds a threshold calls it trustworthy. ``x == float("nan")`` is no way
out; it is false of NaN too. Here: a network with diverged weights.
"""

import ast
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fa_tracking.pitfalls import Outcome

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

ORDER = 10
CURE = "not finite is a flag"
FIX = "ask math.isnan(x), torch.isnan(x) or x != x, and let what is not finite fail the check"


def reproduce() -> Outcome:
    import torch

    from fa_tracking.pitfalls._tiny import data, new_net
    from fa_tracking.protocol.diagnose import diagnose

    net = new_net()
    with torch.no_grad():
        net.embed.weight.mul_(math.inf)
    x, y = data(320, seed=3)
    report = diagnose(net, list(zip(x.split(32), y.split(32), strict=True)))
    limits = report.thresholds
    fired = [
        (report.max_per_block_growth or 0) > limits.h_norm_explosion_ratio,
        (report.bp_grad_norms[-1] or 0) < limits.g_norm_floor,
        (report.cross_batch_stability or 0) > limits.stability_drift_ceiling,
    ]
    naive = "needs walk-back" if any(fired) else "trustworthy"
    careful = "not finite" if "n" in report.flags else report.verdict
    return Outcome({"verdict": careful}, {"verdict": naive}, careful == "not finite" and naive == "trustworthy")


def find(source: "Source") -> Iterator[tuple[ast.AST, str]]:
    for node in source.walk(ast.Compare):
        pairs = zip([node.left, *node.comparators], node.ops, node.comparators, strict=False)
        for left, operator, right in pairs:
            ordered = not isinstance(operator, ast.Is | ast.IsNot | ast.In | ast.NotIn)
            if ordered and (_is_nan(source, left) or _is_nan(source, right)):
                always = "true" if isinstance(operator, ast.NotEq) else "false"
                yield node, f"a comparison with NaN is always {always}"


def _is_nan(source: "Source", node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and source.name(node.func) == "float" and node.args:
        text = node.args[0]
        return isinstance(text, ast.Constant) and str(text.value).strip().lower().lstrip("+-") == "nan"
    return source.name(node) in {f"{room}.{nan}" for room in ("numpy", "math", "torch", "jax.numpy") for nan in _NANS}


_NANS = ("nan", "NaN", "NAN")
