"""The evaluation batches of the protocol: the same draw and the same normalisation in training and in the audit."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

BATCHES = 10
BATCH_SIZE = 128
SEED = 0


def evaluation_batches(
    n_samples: int, batches: int = BATCHES, size: int = BATCH_SIZE, seed: int = SEED
) -> list[Tensor]:
    """Index tensors (size,) of ``batches`` disjoint random batches out of ``n_samples``.

    A data set too small for them gets smaller batches: no measurement depends on the batch size.

    Raises:
        ValueError: fewer samples than batches.
    """
    size = min(size, n_samples // batches)
    if size < 1:
        raise ValueError(f"{n_samples} samples do not make {batches} disjoint batches")
    order = torch.randperm(n_samples, generator=torch.Generator().manual_seed(seed))
    return list(order[: batches * size].split(size))


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
        """From the training inputs: images (N, C, H, W) per channel; features (N, d) centred one by one, with one std.

        Features are centred so that samples share no constant part; one std, since some features hardly ever vary.
        """
        values = inputs.numpy()
        if values.ndim == 4:
            mean, std = values.mean((0, 2, 3), dtype=np.float64), values.std((0, 2, 3), dtype=np.float64)
        else:
            mean = values.mean(0, dtype=np.float64).ravel()
            std = np.full_like(mean, (values.reshape(len(values), -1) - mean).std())
        return cls(tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist()))
