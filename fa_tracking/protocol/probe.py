"""Captures the hidden states and BP gradients of a model in one forward and one backward pass a batch."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

READ_OUTS = ("out_ln", "norm", "out_head", "head")
"""The module whose input is h_L, in the order in which it is looked for."""


@dataclass(frozen=True)
class Capture:
    """What one batch of B samples shows of a network with L blocks.

    Attributes:
        inputs: x, as given to the model.
        labels: (B,) class indices.
        logits: (B, classes).
        error: (B, classes), e = softmax(logits) − onehot(labels).
        hidden: h_0 … h_L, each (B, d); of token states (B, T, d) the class token;
            convolution states (B, C, H, W) are flattened.
        grads: g_0 … g_L, each (B, d): the gradient of each sample's own cross-entropy (the loss summed over the
            batch, so that nothing depends on the batch size).
    """

    inputs: Any
    labels: Tensor
    logits: Tensor
    error: Tensor
    hidden: Sequence[Tensor]
    grads: Sequence[Tensor]


def output_error(logits: Tensor, labels: Tensor) -> Tensor:
    """e = softmax(logits) − onehot(labels), (B, classes).

    The true class's entry is minus the sum of the others, not p − 1: that keeps its digits when p is close to 1.
    """
    error = torch.softmax(logits, dim=-1)
    index = labels[:, None]
    error = error.scatter(1, index, 0.0)
    return error.scatter(1, index, -error.sum(dim=1, keepdim=True))


def capture(model: nn.Module, inputs: Any, labels: Tensor) -> Capture:
    """Run one forward and one backward pass and return what they show. Parameters' ``grad`` is not touched.

    Only gradients with respect to hidden states are computed, none with respect to parameters.

    Raises:
        ValueError: the model serves neither ``model(x, return_hidden=True)`` nor ``blocks`` with a read-out, or the
            batch's shapes do not fit.
    """
    if not isinstance(inputs, Tensor) or not isinstance(labels, Tensor):
        raise ValueError("an evaluation batch must be a pair of tensors (inputs, labels)")
    x = inputs.detach()
    if x.is_floating_point():
        x.requires_grad_()  # so that h_0 has a graph even where every parameter is frozen
    with evaluation_mode(model), torch.enable_grad():
        logits, states = _forward(model, x)
        if logits.ndim != 2 or labels.shape != logits.shape[:1]:
            raise ValueError(
                f"expected logits (B, classes) and labels (B,), got {tuple(logits.shape)} and {tuple(labels.shape)}"
            )
        _check_states(states, len(labels))
        # ∂(summed cross-entropy)/∂logits is e itself: starting there saves the loss and keeps e's small digits.
        error = output_error(logits.detach().double(), labels).to(torch.promote_types(logits.dtype, torch.float32))
        grads = torch.autograd.grad(logits, states, grad_outputs=error.to(logits.dtype), allow_unused=True)
    unused = [layer for layer, g in enumerate(grads) if g is None]
    if unused:
        raise ValueError(f"hidden states {unused} do not lead to the logits: return the very tensors that are used")
    return Capture(
        inputs=inputs,
        labels=labels,
        logits=logits.detach(),
        error=error,
        hidden=[_per_sample(h.detach()) for h in states],
        grads=[_per_sample(g) for g in grads],
    )


def hidden_states(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """h_0 … h_L as the model has them, tokens and maps not reduced, without a graph.

    Raises:
        ValueError: the model does not show them.
    """
    with torch.no_grad():
        return [h.detach() for h in _forward(model, inputs.detach())[1]]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every module's own mode back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _forward(model: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits and h_0 … h_L: from return_hidden where ``forward`` takes it, else from hooks on ``blocks``."""
    if "return_hidden" in inspect.signature(model.forward).parameters:
        logits, states = model(x, return_hidden=True)
        return logits, list(states)
    blocks = getattr(model, "blocks", None)
    read_out = next((getattr(model, n) for n in READ_OUTS if isinstance(getattr(model, n, None), nn.Module)), None)
    if blocks and read_out is not None:
        return _hooked_forward(model, x, [*blocks, read_out])
    raise ValueError(
        f"{type(model).__name__} shows no hidden states: it needs model(x, return_hidden=True) returning "
        f"(logits, [h_0, …, h_L]), or `blocks` and one of {', '.join(READ_OUTS)}"
    )


def _hooked_forward(model: nn.Module, x: Tensor, stages: list[nn.Module]) -> tuple[Tensor, list[Tensor]]:
    """The input of every block is h_0 … h_{L-1} and the input of the read-out is h_L, whatever a block returns."""
    states: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        h = args[0] if args[0].requires_grad else args[0].detach().requires_grad_()
        states.append(h)
        return (h, *args[1:])

    handles = [stage.register_forward_pre_hook(keep) for stage in stages]
    try:
        logits = model(x)
    finally:
        for handle in handles:
            handle.remove()
    if len(states) != len(stages):
        raise ValueError(
            f"expected each of the {len(stages) - 1} blocks and the read-out to run once in a forward pass, "
            f"but {len(states)} inputs were seen"
        )
    return logits, states


def _check_states(states: Sequence[Tensor], batch: int) -> None:
    for layer, h in enumerate(states):
        if h.ndim < 2 or len(h) != batch:
            raise ValueError(
                f"hidden state {layer} has shape {tuple(h.shape)}; "
                f"expected (B, d), (B, T, d) or (B, C, H, W) with B = {batch}"
            )
        if not h.requires_grad:
            raise ValueError(f"hidden state {layer} has no graph: return it undetached, with grad enabled")


def _per_sample(state: Tensor) -> Tensor:
    """(B, d) as it is; of (B, T, d) the class token; (B, C, H, W) flattened."""
    return state[:, 0, :] if state.ndim == 3 else state.flatten(1)
