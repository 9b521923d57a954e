"""What the recipe of a config does in each epoch and step: the learning rate, the labels, the clipping."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.method import generator
from fa_tracking.trainers.model import BlockModel

EPS = 1e-6
"""Beside the norm that a clipped gradient is divided by, as in ``torch.nn.utils.clip_grad_norm_``."""


def rate(config: RunConfig, epoch: int) -> float:
    """The learning rate of an epoch, counted from 1.

    Of E epochs, w of them warm-up: lr·e/(w + 1) in the e-th of these; then lr, or with the cosine schedule
    lr·½(1 + cos(π(e − w − 1)/(E − w))), which is lr in its first epoch and would be 0 in the one after the last.
    """
    warmup = config.lr_warmup
    if epoch <= warmup:
        return config.lr * epoch / (warmup + 1)
    if config.lr_schedule == "constant":
        return config.lr
    return config.lr * (1 + math.cos(math.pi * (epoch - warmup - 1) / (config.epochs - warmup))) / 2


def label_draw(config: RunConfig, epoch: int) -> torch.Generator:
    """Where an epoch's random labels come from: the same for a run that goes on after it was killed."""
    return generator(config.seed, f"labels of epoch {epoch}")


def labels_of(config: RunConfig, true: Tensor, classes: int, draw: torch.Generator) -> Tensor:
    """The training labels (B,) of a batch: the true ones, or drawn anew, uniform over the classes."""
    if config.labels == "true":
        return true
    return torch.randint(classes, true.shape, generator=draw).to(true.device)


def clipped_parts(model: BlockModel) -> list[list[nn.Parameter]]:
    """The parameters that are clipped together: the embedding's, and each block's. The read-out's are not clipped."""
    parts = [list(part.parameters()) for part in (model.embed, *model.blocks)]
    return [[p for p in part if p.requires_grad] for part in parts]


def clip(parts: Iterable[Sequence[Tensor]], norm: float, learners: int = 0) -> None:
    """Scale each part's gradients down to a norm of at most ``norm``, in place.

    Args:
        parts: tensors with ``grad``; those without one are left out.
        norm: infinite: nothing is touched.
        learners: S where each gradient is (S, …) of S learners side by side, each clipped by itself; 0: of one learner.
    """
    if math.isinf(norm):
        return
    for part in parts:
        grads = [p.grad for p in part if p.grad is not None]
        if not grads:
            continue
        rows = [g.reshape(learners or 1, -1) for g in grads]
        total = _norm(rows)
        if total.isinf().any():  # float32 has no room for the squares of what it holds, from 1e19 on
            total = _norm([r.double() for r in rows])
        scale = (norm / (total + EPS)).clamp(max=1.0).to(grads[0].dtype)
        for g in grads:
            g.mul_(scale.reshape(-1, *[1] * (g.ndim - 1)) if learners else scale)


def _norm(rows: Sequence[Tensor]) -> Tensor:
    """(S,) of all entries of each of S rows, in several tensors."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(r, dim=1) for r in rows]), dim=0)
