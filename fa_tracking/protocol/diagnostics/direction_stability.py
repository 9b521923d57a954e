"""(c) Cross-batch direction stability: mean pairwise cosine of the batch-mean gradients at layer ⌊L/2⌋."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fa_tracking.protocol.partial import Report
    from fa_tracking.protocol.probe import Capture

ORDER = 3
FLAG = "c"
TITLE = "cross-batch direction stability"
WORDING = "BP grad direction is drift-dominated"
REQUIRED = True

MIN_BATCHES = 8


def measure(captures: "Sequence[Capture]") -> dict[str, Any]:
    """The mean over pairs of batches; None below eight batches or where no pair has a direction."""
    from fa_tracking.protocol.norms import mean_pairwise_cosine

    layer = (len(captures[0].grads) - 1) // 2
    means = [c.grads[layer].double().mean(dim=0) for c in captures]
    stability = mean_pairwise_cosine(means) if len(captures) >= MIN_BATCHES else None
    return {"stability_layer": layer, "cross_batch_stability": stability, "n_batches": len(captures)}


def value(report: "Report") -> float | None:
    return report.cross_batch_stability


def fires(report: "Report") -> bool | None:
    stability = report.cross_batch_stability
    return None if stability is None else stability > report.thresholds.stability_drift_ceiling


def explain(report: "Report") -> list[str]:
    stability = report.cross_batch_stability
    if stability is None:
        few = report.n_batches is not None and report.n_batches < MIN_BATCHES
        why = (
            f"{report.n_batches} batches, needs at least {MIN_BATCHES}" if few else "no pair of batches has a direction"
        )
        return [f"not measured: {why if report.n_batches is not None else 'no value given'}"]
    at = "" if report.stability_layer is None else f" at layer {report.stability_layer}"
    over = f" over {report.n_batches} batches" if report.n_batches else ""
    return [
        f"mean pairwise cosine{at}{over} = {stability:+.4f}"
        f"   (fires above {report.thresholds.stability_drift_ceiling:g})"
    ]
