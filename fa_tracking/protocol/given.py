"""What is given to a measurement: batches, a network, another one in its place; and what is to be said of them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fa_tracking.protocol.outputs import (
    logits_of,
)
from fa_tracking.protocol.undisturbed import HALVES, backward_hooked, undisturbed, unwrapped


def held_against(model: nn.Module, network: nn.Module, inputs: Any, logits: Tensor) -> str:
    """The remark on a network that is measured in the model's place.

    Raises:
        ValueError: it computes other logits.
    """
    with torch.no_grad():
        own = undisturbed(model, lambda call: logits_of(call(inputs))).to(logits)
    largest = float(own.abs().nan_to_num(0, 0).max())
    if own.shape != logits.shape or not torch.allclose(own, logits, rtol=1e-3, atol=1e-3 * largest, equal_nan=True):
        raise ValueError(
            f"reference= computes other logits than {type(unwrapped(model)).__name__}: it must hold the same weights "
            "and compute the same function"
        )
    return f"measured on reference={type(network).__name__}, which computes the same logits"


def pair(batch: Any) -> tuple[Any, Tensor]:
    """Inputs and labels of a batch; of a mapping the entry ``labels``, the rest being inputs."""
    if isinstance(batch, Mapping) and isinstance(batch.get("labels"), Tensor | np.ndarray):
        return {name: value for name, value in batch.items() if name != "labels"}, torch.as_tensor(batch["labels"])
    if isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], Tensor | np.ndarray):
        return batch[0], torch.as_tensor(batch[1])
    raise ValueError("an evaluation batch must be a pair (inputs, labels), or a mapping with `labels`")


def without_statistics(network: nn.Module) -> list[nn.Module]:
    """Its BatchNorms that have no running statistics: what a sample gives depends on the others of its batch."""
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is None]


def about(network: nn.Module) -> Iterator[str]:
    halves = sorted({str(p.dtype).removeprefix("torch.") for p in network.parameters() if p.dtype in HALVES})
    if halves:
        yield f"weights in {' and '.join(halves)}, widened to float32 for the measurement"
    if alone := without_statistics(network):
        kind = type(alone[0]).__name__
        yield f"{kind} without running statistics: every number here depends on how the batches were made"
    if hooked := backward_hooked(network):
        yield f"backward hooks were set aside, of {', '.join(sorted({type(m).__name__ for m in hooked}))}"
