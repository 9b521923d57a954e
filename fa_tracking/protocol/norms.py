"""Norms, medians and cosines in float64, so that no scale from 1e-30 to 1e30 is lost on the way."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def norms(vectors: Tensor) -> Tensor:
    """Compute the per-sample L2 norm, (..., d) -> (...), in float64. Never ``x.norm(-1)``, which is the L_{−1} norm of
    all of x.
    """
    lengths: Tensor = torch.linalg.vector_norm(vectors.double(), dim=-1)
    return lengths


def median(values: Tensor) -> float:
    """The median of (N,) values, the mean of the middle two where N is even; NaN if any is NaN."""
    if values.isnan().any():
        return math.nan
    ordered = values.sort().values
    low, high = ordered[(len(ordered) - 1) // 2].item(), ordered[len(ordered) // 2].item()
    return low if low == high else (low + high) / 2  # equal infinities stay infinite


def median_norms(batches: Sequence[Sequence[Tensor]]) -> list[float]:
    """Per layer, the median over the samples of all batches of the per-sample norm.

    Args:
        batches: for each batch its layers, each (B, d); d may differ between layers, B between batches.
    """
    return [median(torch.cat([norms(layer) for layer in layers])) for layers in zip(*batches, strict=True)]


def unit(vectors: Tensor) -> Tensor:
    """Vectors (..., d) scaled to length 1 in float64; a zero vector has no direction and becomes NaN."""
    v = in_range(vectors)
    return v.div(torch.linalg.vector_norm(v, dim=-1, keepdim=True))


def in_range(vectors: Tensor) -> Tensor:
    """Vectors (..., d) in float64, scaled where needed so that their squares neither vanish nor overflow.

    Squares of float32 numbers always fit float64; of float64 ones the largest entry is divided out first.
    """
    if vectors.dtype != torch.float64:
        return vectors.double()
    return vectors / vectors.abs().amax(dim=-1, keepdim=True)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Compute the scale-free cosine, (..., d) × (..., d) -> (...); NaN if either vector is zero.

    Unlike ``F.cosine_similarity`` it has no eps: a vector of norm 5e-10 keeps its true cosine.
    """
    return (unit(a) * unit(b)).sum(dim=-1)


def mean_pairwise_cosine(vectors: Sequence[Tensor]) -> float | None:
    """Compute the mean of cos(v_i, v_j) over i < j, each (d,). Zero vectors have no direction and form no pair.

    Returns:
        The mean; None if no pair is left; NaN if a vector is not finite.
    """
    stacked = torch.stack([v.double() for v in vectors])
    directions = unit(stacked[(stacked != 0).any(dim=-1)])
    n = len(directions)
    if n < 2:
        return None
    pairs = torch.triu_indices(n, n, offset=1)
    return (directions @ directions.T)[pairs[0], pairs[1]].mean().item()
