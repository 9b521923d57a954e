"""(c) Cross-batch direction stability: mean pairwise cosine of the batch-mean gradients at layer ⌊L/2⌋."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fa_tracking.protocol.diagnostics import grad_norm
from fa_tracking.protocol.table import Reference, Threshold

if TYPE_CHECKING:
    from fa_tracking.protocol.capture import Capture
    from fa_tracking.protocol.measurement import Measurement

ORDER = 3
FLAG = "c"
TITLE = "cross-batch direction stability"
WORDING = "BP grad direction is drift-dominated"
REQUIRED = True
COLUMN, QUANTITY = "stability", "cross-batch direction stability, a cosine"
THRESHOLD = Threshold("stability_drift_ceiling", 0.30, "above", "--drift-ceiling", "this cosine", least=-1, most=1)

MIN_BATCHES = 8
RAGGED = "(c) is not measured: the batches have states of different sizes, such as sentences of different lengths"
SHARED = 0.1
"""So many samples of a data set may be alike by chance, or empty."""


def measure(captures: "Sequence[Capture]") -> dict[str, Any]:
    """The mean over pairs of batches; None where fewer than eight batches have a direction, or g is not BP's."""
    from fa_tracking.protocol.norms import mean_pairwise_cosine

    layer = (len(captures[0].grads) - 1) // 2
    means = [c.grads[layer].double().mean(dim=0) for c in captures]
    means = [mean for mean in means if (mean != 0).any()]  # a zero vector has no direction
    is_alike = len({mean.shape for mean in means}) <= 1
    is_measured = len(means) >= MIN_BATCHES and is_alike and captures[0].reference is not Reference.NOT_BP
    return {
        "stability_layer": layer,
        "cross_batch_stability": mean_pairwise_cosine(means) if is_measured else None,
        "n_batches": len(captures),
        "remarks": [*_remarks(captures, len(means)), *([] if is_alike else [RAGGED])],
    }


def _remarks(captures: "Sequence[Capture]", with_direction: int) -> Iterator[str]:
    """Where (c) is not what its threshold is for."""
    from fa_tracking.protocol.batches import BATCH_SIZE, BATCHES, are_sorted, shared

    sizes = sorted({len(c.labels) for c in captures})
    if sizes != [BATCH_SIZE]:
        counted = f"{len(captures)} batches of {' to '.join(map(str, dict.fromkeys((sizes[0], sizes[-1]))))} samples"
        yield f"{counted}, the thresholds are for {BATCHES} of {BATCH_SIZE}: (c) depends on the size"
    if with_direction < len(captures):
        yield f"{with_direction} of {len(captures)} batches have a mean gradient with a direction; (c) counts these"
    if (share := shared([c.inputs for c in captures])) > SHARED:
        yield f"{100 * share:.0f} % of the samples stand in the batches more than once: (c) is for disjoint batches"
    if are_sorted([c.labels for c in captures]):
        yield (
            "the labels are not spread over the batches as a random draw spreads them: (c) is for batches drawn at "
            "random, as by evaluation_batches(…)"
        )


def value(report: "Measurement") -> float | None:
    return report.cross_batch_stability


def fires(report: "Measurement") -> bool | None:
    stability = report.cross_batch_stability
    return None if stability is None else stability > report.thresholds.stability_drift_ceiling


def explain(report: "Measurement") -> list[str]:
    stability = report.cross_batch_stability
    if stability is None:
        few = report.n_batches is not None and report.n_batches < MIN_BATCHES
        why = (
            f"{report.n_batches} batches, needs at least {MIN_BATCHES}"
            if few
            else f"fewer than {MIN_BATCHES} batches have a gradient with a direction"
        )
        why = grad_norm.not_measured(report) or why
        return [f"not measured: {why if report.n_batches is not None or report.reference else 'no value given'}"]
    at = "" if report.stability_layer is None else f" at layer {report.stability_layer}"
    over = f" over {report.n_batches} batches" if report.n_batches else ""
    return [
        f"mean pairwise cosine{at}{over} = {stability:+z.4f}"
        f"   (fires above {report.thresholds.stability_drift_ceiling:g})"
    ]
