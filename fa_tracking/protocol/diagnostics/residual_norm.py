"""(a) Max per-block growth of the residual stream: max over l of ‖h_{l+1}‖/‖h_l‖."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fa_tracking.protocol.table import Kind, Threshold

if TYPE_CHECKING:
    from fa_tracking.protocol.capture import Capture
    from fa_tracking.protocol.measurement import Measurement

ORDER = 1
FLAG = "a"
TITLE = "max per-block growth"
WORDING = "residual stream exploded"
REQUIRED = True
COLUMN, QUANTITY = "max_block_growth", "max per-block growth ‖h_{l+1}‖/‖h_l‖"
THRESHOLD = Threshold("h_norm_explosion_ratio", 50.0, "above", "--explosion-ratio", "this growth per block", least=0)

DENOMINATOR_FLOOR = 1e-30


def measure(captures: "Sequence[Capture]") -> dict[str, Any]:
    """‖h_l‖ per layer: the median over samples of the per-sample L2 norm. Where these are of the class token alone, the
    growth of the whole stream too: of the norms over all tokens and features."""
    import torch

    from fa_tracking.protocol.norms import median, median_norms

    streams = [torch.cat(layer) for layer in zip(*(c.stream for c in captures), strict=True)]
    stream = largest([median(norms) for norms in streams]) if streams else None
    return {"residual_norms": median_norms([c.hidden for c in captures]), "stream_growth": stream}


def growth(residual_norms: Sequence[float | None]) -> list[float]:
    """‖h_{l+1}‖/‖h_l‖ for every block l, the denominator clamped at 1e-30.

    Between two known layers l < m with unknown ones, None, between them it is (‖h_m‖/‖h_l‖)^(1/(m−l)), the geometric
    mean over their blocks, which the largest growth among them is never below.
    """
    known = [(layer, norm) for layer, norm in enumerate(residual_norms) if norm is not None]
    # `not <` keeps a NaN denominator where max() would replace it
    return [
        (after / (before if not before < DENOMINATOR_FLOOR else DENOMINATOR_FLOOR)) ** (1 / (above - below))
        for (below, before), (above, after) in pairwise(known)
    ]


def largest(residual_norms: Sequence[float | None]) -> float | None:
    """The largest growth, or where layers are unknown its lower bound; NaN if any is NaN.

    No pair of known layers farther apart bounds it better: its mean is one of those of the pairs between.

    Returns:
        1.0 where there are fewer than two layers; None where fewer than two of them are known.
    """
    ratios = growth(residual_norms)
    if any(math.isnan(r) for r in ratios):
        return math.nan
    return max(ratios, default=None if None in residual_norms else 1.0)


def of_blocks(report: "Measurement") -> float | None:
    """The largest growth, or a lower bound of it; as it was logged, where it was and not every norm is known."""
    return report.max_block_growth if _is_logged(report) else largest(report.residual_norms)


def _is_logged(report: "Measurement") -> bool:
    return report.max_block_growth is not None and None in report.residual_norms


def value(report: "Measurement") -> float | None:
    return of_blocks(report) if report.residual_norms else None


def kind(report: "Measurement") -> Kind:
    """A lower bound, which can show an explosion and not exclude one, where a norm is not known, nor the growth."""
    return Kind.BOUND if None in report.residual_norms and not _is_logged(report) else Kind.EXACT


def fires(report: "Measurement") -> bool | None:
    largest_growth = value(report)
    if largest_growth is None:
        return None
    return largest_growth > report.thresholds.h_norm_explosion_ratio and not of_the_class_token_alone(report)


def of_the_class_token_alone(report: "Measurement") -> bool:
    """True where the class token grows beyond the threshold and the whole stream does not.

    A class token that is learned from zero is tiny at h_0 on a healthy network; the stream that carries it is not.
    """
    growth, stream, threshold = value(report), report.stream_growth, report.thresholds.h_norm_explosion_ratio
    return growth is not None and stream is not None and growth > threshold >= stream


def explain(report: "Measurement") -> list[str]:
    largest_growth = value(report)
    norms = "  ".join("?" if v is None else f"{v:.3g}" for v in report.residual_norms)
    lines = [f"‖h_0‖ … ‖h_L‖: {norms or 'none given'}"]
    if largest_growth is None:
        return ["not measured: fewer than two of the norms are known", *lines]
    is_bound = kind(report) is Kind.BOUND
    if is_bound:
        lines.insert(0, "a lower bound, from the known layers: it can show an explosion, not that there is none")
    if report.stream_growth is not None:
        lines.insert(0, f"growth of the whole stream, over all tokens and features = {report.stream_growth:.4g}")
    if of_the_class_token_alone(report):
        lines.insert(1, "growth of the class token alone")
    return [
        f"max over l of ‖h_(l+1)‖/‖h_l‖ {'≥' if is_bound else '='} {largest_growth:.4g}"
        f"   (fires above {report.thresholds.h_norm_explosion_ratio:g})",
        *lines,
    ]
