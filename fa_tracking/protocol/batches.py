"""The evaluation batches of the protocol: the same draw and the same normalisation in training and in the audit."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

BATCHES = 10
BATCH_SIZE = 128
SEED = 0


def evaluation_batches(
    n_samples: int, batches: int = BATCHES, size: int = BATCH_SIZE, seed: int = SEED
) -> list[Tensor]:
    """Draw index tensors (size,) of ``batches`` disjoint random batches out of ``n_samples``.

    A data set that is too small gets smaller batches: no measurement depends on the batch size.

    Raises:
        ValueError: fewer samples than batches.
    """
    size = min(size, n_samples // batches)
    if size < 1:
        raise ValueError(f"{n_samples} samples do not make {batches} disjoint batches")
    order = torch.randperm(n_samples, generator=torch.Generator().manual_seed(seed))
    return list(order[: batches * size].split(size))


DRAWS = 99
"""Random orders that the labels' order is held against."""


def are_sorted(labels: Sequence[Tensor]) -> bool:
    """Return whether batches hold the classes far more unevenly than random orders of the same labels.

    Unevenness is the χ² statistic of batches and classes. Far is ten standard deviations of 99 random orders above
    their mean, and twice as far above it as the farthest of them.

    Args:
        labels: of each batch, (B,) class indices.
    """
    every = torch.cat([batch.cpu() for batch in labels]).unique(return_inverse=True)[1]
    batch = torch.arange(len(labels)).repeat_interleave(torch.tensor([len(each) for each in labels]))
    classes = int(every.max()) + 1
    expected = torch.outer(torch.bincount(batch), torch.bincount(every)).flatten() / len(every)
    draw = torch.Generator().manual_seed(SEED)

    def unevenness(order: Tensor) -> float:
        counts = torch.bincount(batch * classes + order, minlength=len(expected))
        return float(((counts - expected) ** 2 / expected).sum())

    drawn = [unevenness(every[torch.randperm(len(every), generator=draw)]) for _ in range(DRAWS)]
    mean, spread = statistics.fmean(drawn), statistics.stdev(drawn)
    return unevenness(every) > mean + max(10 * spread, 2 * (max(drawn) - mean)) + 1e-6


def shared(inputs: Sequence[Any]) -> float:
    """Return the share of samples that occur more than once, in one batch or several; 0 if inputs are not tensors.

    Args:
        inputs: of each batch, (B, …).
    """
    alike = [isinstance(x, Tensor) and x.ndim > 1 and x.shape[1:] == inputs[0].shape[1:] for x in inputs]
    if len(inputs) < 2 or not all(alike):
        return 0.0
    draw = torch.Generator().manual_seed(SEED)
    along = torch.randn(inputs[0][0].numel(), generator=draw, dtype=torch.float64)
    projected = torch.cat([x.detach().cpu().flatten(1).double() @ along for x in inputs])
    return 1 - len(projected.unique()) / len(projected)


@dataclass(frozen=True)
class Normalisation:
    """x -> (x − mean)/std, one mean and std a channel (the first axis after the batch), or one for all."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, inputs: Tensor) -> Tensor:
        shape = (-1, *[1] * (inputs.ndim - 2)) if len(self.mean) > 1 else (1,) * (inputs.ndim - 1)
        mean, std = (t.to(inputs.device).reshape(shape) for t in self._tensors)
        wide = torch.promote_types(inputs.dtype, torch.float32)
        return inputs.to(wide, copy=True).sub_(mean).div_(std)  # bytes minus floats would take twice as long

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.mean, dtype=torch.float32), torch.tensor(self.std, dtype=torch.float32)

    @classmethod
    def of(cls, inputs: Tensor) -> "Normalisation":
        """Fit to the training inputs: images (N, C, H, W) per channel; features (N, d) centred one by one, with one
        std.

        Features are centred so that samples share no constant part; one std, since some features hardly ever vary.
        """
        values = inputs.numpy()
        if values.ndim == 4:
            mean, std = values.mean((0, 2, 3), dtype=np.float64), values.std((0, 2, 3), dtype=np.float64)
        else:
            mean = values.mean(0, dtype=np.float64).ravel()
            std = np.full_like(mean, (values.reshape(len(values), -1) - mean).std())
        return cls(tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist()))
