"""The evaluation batches of the protocol: disjoint, drawn once by a seed, the same for training and audit."""

import torch
from torch import Tensor

BATCHES = 10
BATCH_SIZE = 128
SEED = 0


def evaluation_batches(n_samples: int, batches: int = BATCHES, size: int = BATCH_SIZE, seed: int = SEED) -> list[Tensor]:
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
