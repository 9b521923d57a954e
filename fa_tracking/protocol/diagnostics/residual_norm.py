"""(a) Max per-block growth of the residual stream: max over l of ‖h_{l+1}‖/‖h_l‖."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fa_tracking.protocol.probe import Capture
    from fa_tracking.protocol.report import DiagnosticReport

ORDER = 1
FLAG = "a"
TITLE = "max per-block growth"
WORDING = "residual stream exploded"
REQUIRED = True

DENOMINATOR_FLOOR = 1e-30


def measure(captures: "Sequence[Capture]") -> dict[str, Any]:
    """‖h_l‖ per layer: the median over samples of the per-sample L2 norm."""
    from fa_tracking.protocol.norms import median_norms

    return {"residual_norms": median_norms([c.hidden for c in captures])}


def growth(residual_norms: Sequence[float]) -> list[float]:
    """‖h_{l+1}‖/‖h_l‖ for every block l, the denominator clamped at 1e-30."""
    # `not <` keeps a NaN denominator where max() would replace it
    return [
        after / (before if not before < DENOMINATOR_FLOOR else DENOMINATOR_FLOOR)
        for before, after in pairwise(residual_norms)
    ]


def value(report: "DiagnosticReport") -> float | None:
    """The largest growth; 1.0 where there are fewer than two layers; NaN if any is NaN."""
    ratios = growth(report.residual_norms)
    if any(math.isnan(r) for r in ratios):
        return math.nan
    return max(ratios, default=1.0)


def fires(report: "DiagnosticReport") -> bool | None:
    if not report.residual_norms:
        return None
    return report.max_per_block_growth > report.thresholds.h_norm_explosion_ratio


def explain(report: "DiagnosticReport") -> list[str]:
    norms = "  ".join(f"{v:.3g}" for v in report.residual_norms)
    return [
        f"max over l of ‖h_(l+1)‖/‖h_l‖ = {report.max_per_block_growth:.4g}"
        f"   (fires above {report.thresholds.h_norm_explosion_ratio:g})",
        f"‖h_0‖ … ‖h_L‖: {norms or 'none given'}",
    ]
