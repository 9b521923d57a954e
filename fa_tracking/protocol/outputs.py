"""A classifier's outputs and labels: which tensor is the logits, whether they are logits, and the output error e."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

TINY = 1e-30
"""An output error below it, in all of a batch, is scaled up for the backward pass: float32 ends at 1e-38."""


def logits_of(output: Any) -> Tensor:
    """Find the logits in a model's output.

    Raises:
        ValueError: there are none.
    """
    if isinstance(output, Mapping):
        output = output.get("logits")
    output = getattr(output, "logits", output)
    if isinstance(output, tuple | list) and output:
        first, *others = output
        if (
            isinstance(first, Tensor)
            and first.ndim == 2
            and any(isinstance(other, Tensor) and other.shape == first.shape for other in others)
        ):
            raise ValueError(
                f"the model returns {1 + len(others)} outputs, several of them of the logits' shape "
                f"{tuple(first.shape)}: wrap it in a module that returns the logits alone"
            )
        output = first
    if not isinstance(output, Tensor):
        raise ValueError(
            "the model's output holds no logits: expected a tensor, a tuple that begins with it, or `logits` in it"
        )
    return output


def output_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute e = softmax(logits) − onehot(labels), (B, classes).

    The true class's entry is minus the sum of the others, not p − 1: that keeps its digits when p is close to 1.
    """
    error = torch.softmax(logits, dim=-1)
    index = labels[:, None]
    error = error.scatter(1, index, 0.0)
    return error.scatter(1, index, -error.sum(dim=1, keepdim=True))


def error_direction(logits: Tensor, labels: Tensor) -> Tensor:
    """e/‖e‖, (B, classes), in float64, however small e is: e = (1 − p_y)(q − onehot), where q is the softmax over the
    classes but the true one."""
    others = logits.double().scatter(1, labels[:, None], -torch.inf)
    direction = torch.softmax(others, dim=-1).scatter(1, labels[:, None], -1.0)
    return direction.div(torch.linalg.vector_norm(direction, dim=1, keepdim=True))


def scaled_error(logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    """e in the logits' type, over a scale that is 1 but where all of e would be lost there."""
    error = output_error(logits.detach().double(), labels)
    largest = float(error.abs().max()) if len(error) else 1.0
    scale = largest if 0 < largest < TINY else 1.0
    return (error / scale).to(logits.dtype), scale


def error_of(logits: Tensor, labels: Tensor) -> Tensor:
    """e, (B, classes), in the logits' precision, at least float32.

    It is ∂(summed cross-entropy)/∂logits: a backward pass that starts there saves the loss and keeps e's small digits.
    """
    return output_error(logits.detach().double(), labels).to(torch.promote_types(logits.dtype, torch.float32))


def refuse_probabilities(logits: Tensor) -> None:
    """Raise ValueError where the rows are probabilities: softmax would be taken twice, and e be another loss's."""
    rows = logits.detach().double()
    rounding = max(1e-3, 2 * torch.finfo(logits.dtype).eps)
    if len(rows) and bool((rows >= 0).all()) and bool(((rows.sum(dim=1) - 1).abs() < rounding).all()):
        raise ValueError(
            "the outputs are probabilities, each row sums to 1: let the model return logits, without its last softmax"
        )


def checked_labels(labels: Tensor, logits: Tensor) -> Tensor:
    """The labels as int64.

    Raises:
        ValueError: they are no class indices, or do not fit the logits.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"expected logits (B, classes) and labels (B,), got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    if logits.shape[1] < 2:
        raise ValueError("logits of one class: cross-entropy needs two or more, one column each")
    _check_labels(labels, logits.shape[1])
    return labels.long()


def _check_labels(labels: Tensor, classes: int) -> None:
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels are class indices, integers; got {labels.dtype}")
    known = labels.long()
    if len(known) and not 0 <= int(known.min()) <= int(known.max()) < classes:
        raise ValueError(f"labels from {int(known.min())} to {int(known.max())} do not fit logits of {classes} classes")
