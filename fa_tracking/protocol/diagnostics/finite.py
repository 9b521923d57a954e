"""Not-finite is never trustworthy: with NaN every comparison is false, so it is a flag of its own, put first."""

import math
from typing import TYPE_CHECKING

from fa_tracking.protocol.diagnostics import residual_norm

if TYPE_CHECKING:
    from fa_tracking.protocol.measurement import Measurement

ORDER = 0
FLAG = "n"
TITLE = "finite measurements"
WORDING = "measurement is not finite"
REQUIRED = True


def value(report: "Measurement") -> float:
    """How many measured numbers are NaN or infinite."""
    return float(len(_not_finite(report)))


def fires(report: "Measurement") -> bool:
    return value(report) > 0


def explain(report: "Measurement") -> list[str]:
    found = [f"{name} = {number}" for name, number in _not_finite(report)]
    return [f"not finite: {', '.join(found)}"] if found else ["every measurement is finite"]


def _not_finite(report: "Measurement") -> list[tuple[str, float]]:
    """By name; not by NumPy or pandas, to which None, a number that is not known, is NaN, one that was measured."""
    named = [
        *((f"‖h_{layer}‖", v) for layer, v in enumerate(report.residual_norms)),
        *((f"‖g_{layer}‖", v) for layer, v in enumerate(report.bp_grad_norms)),
        ("max per-block growth", residual_norm.of_blocks(report)),
        ("growth of the whole stream", report.stream_growth),
        ("stability", report.cross_batch_stability),
        ("gain", report.grad_gain),
        *report.extra.items(),
        ("headline accuracy", report.headline_acc),
        ("frozen accuracy", report.frozen_baseline_acc),
    ]
    return [(name, v) for name, v in named if v is not None and not math.isfinite(v)]
