"""Γ per layer: the cosine between a method's local credit and the BP gradient, with its null beside it."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fa_tracking.protocol.capture import Capture
from fa_tracking.protocol.diagnostics.grad_norm import REFERENCE_BATCH
from fa_tracking.protocol.norms import in_range, median_norms, unit
from fa_tracking.protocol.table import Reference

Credit = Callable[[Any, Capture], Sequence[Tensor | None]]
"""credit(model, capture) -> [a_0, …, a_L], each (B, d) like h_l, or None where a layer gets no local credit."""


@dataclass(frozen=True)
class Alignment:
    """Holds Γ at each hidden state h_0 … h_L; None without a measurement (no credit, or a gradient below the floor).

    Attributes:
        gamma: mean over samples of cos(a_l, g_l).
        pooled: cos of all samples' credits and gradients taken as one long vector: the other aggregation in use.
        null_mean: mean of gamma over fresh draws of the feedback.
        null_sd: sample standard deviation over the draws.
        missing: the number of layers with a credit but no Γ, because their gradient is below the floor or not a number.
    """

    gamma: tuple[float | None, ...]
    pooled: tuple[float | None, ...]
    null_mean: tuple[float | None, ...]
    null_sd: tuple[float | None, ...]
    missing: int


def alignment(
    model: nn.Module,
    captures: Sequence[Capture],
    credit: Credit,
    null: Sequence[Credit],
    floor: float,
    null_batches: int | None = None,
) -> Alignment:
    """Compute Γ with the training feedback, and its null from ``null`` (the same rule with fresh feedback).

    Args:
        captures: captures of the evaluation batches, with gradients per sample.
        null_batches: the number of captures on which the null is measured; None: all.
        floor: ``DiagnosticThresholds.g_norm_floor``; below it Γ would compare with noise. If the captured gradient is
            not BP's, no layer has a Γ.

    Raises:
        ValueError: a credit's number of layers or shape does not fit the hidden states.
    """
    norms = [v / REFERENCE_BATCH for v in median_norms([c.grads for c in captures])]
    own = _credits(model, captures, credit)
    null_credits = [_credits(model, captures[:null_batches], draw) for draw in null]

    layers = range(len(own)) if captures[0].reference is not Reference.NOT_BP else ()
    gamma: list[float | None] = [None for _ in own]
    pooled, null_mean, null_sd = list(gamma), list(gamma), list(gamma)
    for layer in layers:
        is_ragged = len({c.grads[layer].shape[1] for c in captures}) > 1
        if (a := own[layer]) is None or is_ragged or not norms[layer] >= floor:
            continue
        grads = torch.cat([c.grads[layer] for c in captures])
        directions = unit(grads)
        gamma[layer] = _mean_cosine(a, directions)
        pooled[layer] = _mean_cosine(a.reshape(1, -1), unit(grads.reshape(1, -1)))
        draws = [_mean_cosine(n, directions[: len(n)]) for credits in null_credits if (n := credits[layer]) is not None]
        null_mean[layer], null_sd[layer] = _mean_and_sd([d for d in draws if d is not None])
    missing = sum(a is not None and g is None for a, g in zip(own, gamma, strict=True))
    return Alignment(tuple(gamma), tuple(pooled), tuple(null_mean), tuple(null_sd), missing)


def asked(model: nn.Module, capture: Capture, credit: Credit) -> Sequence[Tensor | None]:
    """What a rule's credit says of one batch: in the precision of its own tensors, and of copies that it may spoil."""
    own = replace(
        capture,
        logits=capture.logits.clone(),
        error=capture.error.clone(),
        hidden=[h.clone() for h in capture.hidden],
        grads=[g.clone() for g in capture.grads],
    )
    with torch.autocast(capture.logits.device.type, enabled=False):
        return credit(model, own)


def _credits(model: nn.Module, captures: Sequence[Capture], credit: Credit) -> list[Tensor | None]:
    """Per layer the credit of all batches' samples, (N, d)."""
    batches = [asked(model, c, credit) for c in captures]
    for c, layers in zip(captures, batches, strict=True):
        if len(layers) != len(c.hidden):
            raise ValueError(f"credit returned {len(layers)} layers for {len(c.hidden)} hidden states")
        for layer, (a, h) in enumerate(zip(layers, c.hidden, strict=True)):
            if a is not None and a.shape != h.shape:
                raise ValueError(f"credit at layer {layer} has shape {tuple(a.shape)}, h_{layer} {tuple(h.shape)}")
    return [None if layers[0] is None else _joined(list(layers)) for layers in zip(*batches, strict=True)]


def _joined(layers: list[Tensor]) -> Tensor:
    """(N, d); of states that differ in size between batches, of which no cosine is taken, those of the first."""
    return torch.cat([a for a in layers if a.shape[1] == layers[0].shape[1]])


def _mean_cosine(credit: Tensor, directions: Tensor) -> float | None:
    """Mean over the samples in which both vectors have a direction; None where there is none.

    Args:
        directions: unit vectors; NaN where a gradient is zero. A layer with gradients that are NaN never gets here.
    """
    a = in_range(credit)
    cosines = torch.linalg.vecdot(a, directions) / torch.linalg.vector_norm(a, dim=-1)
    defined = (credit != 0).any(dim=-1) & ~directions.isnan().all(dim=-1)
    return cosines[defined].mean().item() if defined.any() else None


def _mean_and_sd(values: Sequence[float]) -> tuple[float | None, float | None]:
    mean = sum(values) / len(values) if values else None
    return mean, (statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None)
