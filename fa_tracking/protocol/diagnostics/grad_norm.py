"""(b) ‖g_L‖, the BP gradient norm at the deepest hidden layer, against the numerical floor.

g is the gradient of each sample's own loss over a reference batch of 128, which is what a mean-reduced loss gave
when the floor was calibrated; so the number does not depend on the batch size.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fa_tracking.protocol.table import Kind, Reference, Threshold

if TYPE_CHECKING:
    from fa_tracking.protocol.capture import Capture
    from fa_tracking.protocol.measurement import Measurement

ORDER = 2
FLAG = "b"
TITLE = "deepest gradient norm"
WORDING = "BP grad at numerical floor"
REQUIRED = True
COLUMN, QUANTITY = "deepest_grad_norm", "deepest gradient norm ‖g_L‖"
THRESHOLD = Threshold("g_norm_floor", 1e-7, "below", "--grad-floor", "this ‖g_L‖", least=0)

REFERENCE_BATCH = 128
NO_GRADIENT = "the gradient is exactly zero at every state: nothing flows back through the read-out"
LOST = "the gradient is exactly zero at every state, though the error is not: it is lost on its way back"
SMALL = 1e-30
"""An output error below it, in the median, may be why a gradient in float32 is zero."""
NO_ERROR = "the gradient is exactly zero at every state: the output error is, in every batch"

CHANCE_ERROR = 0.95
"""‖e‖ at chance where a report does not know its number of classes: what revision 1.0 took, √0.9 of ten classes."""


def chance_error(classes: int) -> float:
    """‖e‖ = ‖softmax − onehot‖ of a uniform output over C classes: √(1 − 1/C). The gain times it asks for collapse."""
    return math.sqrt(1 - 1 / classes)


def measure(captures: "Sequence[Capture]") -> dict[str, Any]:
    """‖g_l‖ per layer, and the gain ‖g_L‖/‖e‖: both medians over samples, at the reference batch.

    Where the gradient is not BP's there is neither: a number that is none is not handed on.
    """
    import torch

    from fa_tracking.protocol.norms import median, median_norms

    chance = chance_error(captures[0].logits.shape[1])
    reference = captures[0].reference
    if reference is Reference.NOT_BP:
        missing = [None for _ in captures[0].grads]
        return {"bp_grad_norms": missing, "grad_gain": None, "chance_error": chance, "reference": reference}
    norms = median_norms([c.grads for c in captures])
    gains = torch.cat([c.gain for c in captures])
    gain = median(gains) if len(gains) else None
    has_error = any(float(c.error.abs().median()) > SMALL for c in captures)
    is_zero = not any(g.any() for c in captures for g in c.grads)
    return {
        "bp_grad_norms": [v / REFERENCE_BATCH for v in norms],
        "grad_gain": None if gain is None else gain / REFERENCE_BATCH,
        "chance_error": chance,
        "reference": reference,
        "remarks": [] if not is_zero else [LOST if gain and has_error else NO_ERROR if gain else NO_GRADIENT],
    }


def not_measured(report: "Measurement") -> str:
    """Why no number that is made of gradients is measured; empty where the reference is not the reason."""
    return f"the reference gradient is {Reference.NOT_BP}" if report.reference is Reference.NOT_BP else ""


def deepest_layer(report: "Measurement") -> int | None:
    """The deepest layer whose norm is known: L, or in partial evidence a proxy of it."""
    return max((layer for layer, norm in enumerate(report.bp_grad_norms) if norm is not None), default=None)


def value(report: "Measurement") -> float | None:
    layer = deepest_layer(report)
    return None if layer is None else report.bp_grad_norms[layer]


def kind(report: "Measurement") -> Kind:
    """A proxy where ‖g_L‖ itself is not known, but that of a layer before it."""
    return Kind.PROXY if report.bp_grad_norms[-1] is None else Kind.EXACT


def explained_by_small_error(report: "Measurement") -> bool:
    """True where ‖g_L‖ is below the floor because the output error is small, not because the Jacobian is."""
    deepest, floor = value(report), report.thresholds.g_norm_floor
    chance = at_chance(report.grad_gain, report.chance_error)
    if deepest is None or chance is None or not math.isfinite(chance):
        return False
    return bool(deepest < floor <= chance)


def at_chance(gain: float | None, chance: float | None) -> float | None:
    """‖g_L‖ were the error that of a uniform output: the gain times ‖e‖ there, ``CHANCE_ERROR`` where None."""
    return None if gain is None else gain * (CHANCE_ERROR if chance is None else chance)


def fires(report: "Measurement") -> bool | None:
    deepest = value(report)
    if deepest is None:
        return None
    return deepest < report.thresholds.g_norm_floor and not explained_by_small_error(report)


def explain(report: "Measurement") -> list[str]:
    deepest, floor = value(report), report.thresholds.g_norm_floor
    if deepest is None:
        return [f"not measured: {not_measured(report) or 'no gradient norm given'}"]
    is_proxy = report.bp_grad_norms[-1] is None
    name = f"‖g_{deepest_layer(report)}‖" if is_proxy else "‖g_L‖"
    lines = [f"{name} = {deepest:.4g}   (fires below {floor:g}; loss at mean reduction over {REFERENCE_BATCH})"]
    if is_proxy:
        lines.append(f"by proxy {name}, the deepest layer that is known: ‖g_L‖ itself is not")
    chance = at_chance(report.grad_gain, report.chance_error)
    if chance is None:
        lines.append("gain ‖g_L‖/‖e‖: not measured")
    else:
        lines.append(f"gain ‖g_L‖/‖e‖ = {report.grad_gain:.4g}   (at chance-level error: ‖g_L‖ = {chance:.4g})")
    if explained_by_small_error(report):
        lines.append("small gradient explained by small error")
    norms = "  ".join("?" if v is None else f"{v:.3g}" for v in report.bp_grad_norms)
    lines.append(f"‖g_0‖ … ‖g_L‖: {norms}")
    return lines
