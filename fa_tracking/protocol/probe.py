"""Captures the hidden states and BP gradients of a model in one forward and one backward pass a batch."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fa_tracking.protocol import taps
from fa_tracking.protocol.taps import State, Tap
from fa_tracking.protocol.undisturbed import HALVES, Call, backward_hooked, random_state, undisturbed, unwrapped

CLASS_TOKEN = "tokens: the class token, which alone the logits come from"
FIRST = "tokens: the first one; the gradient, zero or not finite, does not say whether the logits come from it alone"
NO_GRADIENT = "the gradient is exactly zero at every state: nothing flows back through the read-out"
MEAN = "tokens: their mean, since no class token carries the logits; its gradient is the sum over the tokens"
FLATTENED = "convolution states flattened per sample"


@dataclass(frozen=True)
class Capture:
    """What one batch of B samples shows of a network with L blocks.

    Attributes:
        inputs: x, as given to the model.
        labels: (B,) class indices.
        logits: (B, classes).
        error: (B, classes), e = softmax(logits) − onehot(labels).
        hidden: h_0 … h_L, each (B, d). Of token states (B, T, d) the class token, or their mean where the logits do
            not come from the first token alone; convolution states (B, C, H, W) are flattened.
        grads: g_0 … g_L, each (B, d): the gradient of each sample's own cross-entropy (the loss summed over the
            batch, so that nothing depends on the batch size). Of a mean over tokens, the gradient of that mean: the
            sum over the tokens.
        remarks: what a reader of the numbers must know of how they were taken: which modules the states are of, where
            the model itself does not say so; what was done with tokens, precision, hooks.
    """

    inputs: Any
    labels: Tensor
    logits: Tensor
    error: Tensor
    hidden: Sequence[Tensor]
    grads: Sequence[Tensor]
    remarks: tuple[str, ...] = ()


def output_error(logits: Tensor, labels: Tensor) -> Tensor:
    """e = softmax(logits) − onehot(labels), (B, classes).

    The true class's entry is minus the sum of the others, not p − 1: that keeps its digits when p is close to 1.
    """
    error = torch.softmax(logits, dim=-1)
    index = labels[:, None]
    error = error.scatter(1, index, 0.0)
    return error.scatter(1, index, -error.sum(dim=1, keepdim=True))


def capture(model: nn.Module, inputs: Any, labels: Tensor, layers: Sequence[str] | None = None) -> Capture:
    """Run one forward and one backward pass and return what they show, as ``capture_all`` does for many batches."""
    return capture_all(model, [(inputs, labels)], layers)[0]


class Beside(Protocol):
    """What else is measured of each batch, on the forward pass of its capture."""

    def watching(self) -> AbstractContextManager[None]:
        """Around the forward pass."""

    def after(self, call: Call, inputs: Any, labels: Tensor, logits: Tensor) -> None:
        """Once the batch is captured; random numbers may be drawn, and nothing is raised."""


def capture_all(
    model: nn.Module,
    eval_batches: Iterable[tuple[Any, Tensor]],
    layers: Sequence[str] | None = None,
    beside: Beside | None = None,
) -> list[Capture]:
    """One capture a batch. Only gradients with respect to hidden states are computed, none of parameters.

    The model is left bit for bit as it was (``undisturbed``).

    Args:
        eval_batches: pairs (inputs, labels); inputs as the model takes them: a tensor, a tuple of positional or a
            mapping of keyword arguments. The output is the logits, begins with them, or has them as ``logits``.
        layers: names of the modules whose outputs are h_0 … h_L. None: what the model itself shows, else a residual
            stack or chain of layers that is looked for; what was found is said on stderr, once.
        beside: what else is measured on the same passes; the captures are those that they are without it.

    Raises:
        ValueError: there is no batch, the model shows no hidden states, or a batch's shapes do not fit.
    """
    network = unwrapped(model)
    if isinstance(network, torch.jit.ScriptModule):
        raise ValueError("a scripted model shows no modules to read states from: measure the nn.Module it was made of")
    if isinstance(layers, str):
        raise ValueError(f"layers is a list of module names: layers=[{layers!r}]")
    layers = None if layers is None else list(layers)
    about = list(_about(network))
    captures = undisturbed(network, lambda call: list(_captures(call, network, eval_batches, layers, about, beside)))
    if not captures:
        raise ValueError("no evaluation batch was given; the protocol wants 10 disjoint batches of 128")
    return captures


def _captures(
    call: Call,
    network: nn.Module,
    batches: Iterable[Any],
    layers: Sequence[str] | None,
    about: list[str],
    beside: Beside | None,
) -> Iterator[Capture]:
    tokens: str | None = None
    places: list[Tap] | None = None
    for batch in batches:
        inputs, labels = _pair(batch)
        is_first = places is None
        if places is None:
            places, is_found = _places(network, call, inputs, layers)
        with beside.watching() if beside else nullcontext():
            logits, states = _forward(call, inputs, places, exactly=layers is None)
        if is_first and (is_found or layers):
            about = [*_where(network, states, is_found), *about]
        seen, tokens = _backward(inputs, labels.to(logits.device), logits, states, tokens, about)
        if beside:
            with random_state(seen.logits.device):
                beside.after(call, inputs, seen.labels, seen.logits)
        yield seen


def hidden_states(call: Call, model: nn.Module, inputs: Any) -> list[Tensor]:
    """h_0 … h_L of a model that shows them itself, tokens and maps not reduced, without a graph."""
    with torch.enable_grad():
        return [state.value for state in _forward(call, inputs, taps.declared(model))[1]]


def logits_of(output: Any) -> Tensor:
    """The logits in what a model returns.

    Raises:
        ValueError: there are none.
    """
    if isinstance(output, Mapping):
        output = output.get("logits")
    output = getattr(output, "logits", output)
    output = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(output, Tensor):
        raise ValueError(
            "the model's output holds no logits: expected a tensor, a tuple that begins with it, or `logits` in it"
        )
    return output


def _pair(batch: Any) -> tuple[Any, Tensor]:
    """Inputs and labels of a batch; of a mapping the entry ``labels``, the rest being inputs."""
    if isinstance(batch, Mapping) and isinstance(batch.get("labels"), Tensor):
        return {name: value for name, value in batch.items() if name != "labels"}, batch["labels"]
    if isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], Tensor):
        return batch[0], batch[1]
    raise ValueError("an evaluation batch must be a pair (inputs, labels), or a mapping with `labels`")


def _places(network: nn.Module, call: Call, inputs: Any, layers: Sequence[str] | None) -> tuple[list[Tap], bool]:
    """Where the states are read, nowhere if the model returns them; and whether they had to be looked for."""
    if layers is not None:
        return taps.named(network, layers), False
    if taps.shows_hidden(network):
        return [], False
    if places := taps.declared(network):
        return places, False
    return taps.found(network, call, inputs), True


def _where(network: nn.Module, states: Sequence[State], is_found: bool) -> Iterator[str]:
    """What the states of a pass are of, in its order; said on stderr too where nobody named them."""
    where = taps.describe([state.tap for state in states if state.tap])
    if is_found and not taps.is_chain(states):
        raise ValueError(
            f"{type(network).__name__} shows no hidden states: {where} do not follow one from the other; "
            f"name the modules whose outputs they are, as in layers=['layer1', 'layer2']"
        )
    if is_found:
        _say_once(f"{type(network).__name__}: {where}; other modules can be named as layers")
    yield where


@cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr)


def _about(network: nn.Module) -> Iterator[str]:
    halves = sorted({str(p.dtype).removeprefix("torch.") for p in network.parameters() if p.dtype in HALVES})
    if halves:
        yield f"weights in {' and '.join(halves)}, widened to float32 for the measurement"
    if hooked := backward_hooked(network):
        yield f"backward hooks were set aside, of {', '.join(sorted({type(m).__name__ for m in hooked}))}"


def _forward(call: Call, inputs: Any, places: list[Tap], exactly: bool = True) -> tuple[Tensor, list[State]]:
    with torch.enable_grad():
        if not places:
            logits, hidden = call(inputs, return_hidden=True)
            return logits_of(logits), [taps.state(h, layer) for layer, h in enumerate(hidden)]
        with taps.reading(places) as states:
            output = call(inputs)
    if len(states) < len(places) or (exactly and len(states) != len(places)):
        raise ValueError(
            f"expected each of {places[0].name} … {places[-1].name} to run once in a forward pass: "
            f"{len(places)} states, but {len(states)} were seen"
        )
    return logits_of(output), states


def _backward(
    inputs: Any, labels: Tensor, logits: Tensor, states: list[State], tokens: str | None, said: Sequence[str]
) -> tuple[Capture, str | None]:
    """The capture of one batch, and what stands for its tokens: ``tokens`` where an earlier batch has settled it."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"expected logits (B, classes) and labels (B,), got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    _check_labels(labels, logits.shape[1])
    error = error_of(logits, labels)
    own = _own_functions(logits)
    edges = [state.edge for state in states]
    with torch.enable_grad():
        towards = (logits * error.to(logits.dtype)).sum()  # as grad_outputs=error, for which torch loads sympy: 0.6 s
    given = torch.autograd.grad(towards, edges, allow_unused=True)
    unused = [layer for layer, g in enumerate(given) if g is None]
    if unused:
        raise ValueError(f"hidden states {unused} do not lead to the logits: return the very tensors that are used")
    hidden = [_batch_first(state.value, len(labels), layer, state.tap) for layer, state in enumerate(states)]
    grads = [_batch_first(g, len(labels), layer, states[layer].tap) for layer, g in enumerate(given)]
    if own:
        told = f"the backward pass runs the model's own {', '.join(own)}: g is the BP gradient only if that computes it"
        said = [*said, told]
    return reduced(inputs, labels, logits, error, hidden, grads, tokens, said)


def error_of(logits: Tensor, labels: Tensor) -> Tensor:
    """e, (B, classes), in the logits' precision, at least float32.

    It is ∂(summed cross-entropy)/∂logits: a backward pass that starts there saves the loss and keeps e's small digits.
    """
    return output_error(logits.detach().double(), labels).to(torch.promote_types(logits.dtype, torch.float32))


def reduced(
    inputs: Any,
    labels: Tensor,
    logits: Tensor,
    error: Tensor,
    hidden: Sequence[Tensor],
    grads: Sequence[Tensor],
    tokens: str | None,
    said: Sequence[str] = (),
) -> tuple[Capture, str | None]:
    """The capture of one batch from its states and gradients as the model has them, (B, …) each; and what stands for
    its tokens, ``tokens`` where an earlier batch has settled it."""
    tokens = tokens or _settled(grads)
    remarks = [*said]
    if any(h.ndim == 3 for h in hidden):
        remarks.append(tokens or FIRST)
    if not any(g.any() for g in grads):
        remarks.append(NO_GRADIENT)
    if any(h.ndim > 3 for h in hidden):
        remarks.append(FLATTENED)
    return Capture(
        inputs=inputs,
        labels=labels,
        logits=logits.detach(),
        error=error,
        hidden=[_per_sample(h, tokens, mean=True) for h in hidden],
        grads=[_per_sample(g, tokens, mean=False) for g in grads],
        remarks=tuple(remarks),
    ), tokens


def _own_functions(logits: Tensor) -> list[str]:
    """The Python-defined autograd functions behind ``logits``: feedback alignment is often written as one."""
    names, seen, ahead = set(), set(), [logits.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead += [following for following, _ in node.next_functions]
            if hasattr(node, "_forward_cls"):
                names.add(type(node).__name__.removesuffix("Backward"))
    return sorted(names)


def _check_labels(labels: Tensor, classes: int) -> None:
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels are class indices, integers; got {labels.dtype}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels from {int(labels.min())} to {int(labels.max())} do not fit logits of {classes} classes"
        )


def _batch_first(state: Tensor, batch: int, layer: int, tap: Tap | None) -> Tensor:
    """(B, …); of a transformer's (T, B, d) the first two axes are exchanged."""
    if state.ndim == 3 and len(state) != batch == state.shape[1]:
        return state.transpose(0, 1)
    by_sequence = tap is not None and any(getattr(m, "batch_first", True) is False for m in tap.module.modules())
    if state.ndim == 3 and len(state) == batch == state.shape[1] and by_sequence:
        raise ValueError(
            f"hidden state {layer} of {batch} samples has {batch} tokens, and a module there takes sequences first: "
            "which axis is the batch cannot be told; use another batch size"
        )
    if state.ndim < 2 or len(state) != batch:
        raise ValueError(
            f"hidden state {layer} has shape {tuple(state.shape)}; "
            f"expected (B, d), (B, T, d), (T, B, d) or (B, C, H, W) with B = {batch}"
        )
    return state


def _settled(grads: Sequence[Tensor]) -> str | None:
    """What stands for tokens: the first, where the deepest gradient is zero at all others; None: it does not say."""
    deepest = next((g for g in reversed(grads) if g.ndim == 3), None)
    if deepest is None or not deepest.any() or not deepest.isfinite().all():
        return None
    return MEAN if deepest[:, 1:].any() else CLASS_TOKEN


def _per_sample(state: Tensor, tokens: str | None, mean: bool) -> Tensor:
    """(B, d) as it is; of (B, T, d) the class token, or the tokens' mean (of a gradient the sum); others flattened."""
    if state.ndim != 3:
        return state.flatten(1)
    if tokens == MEAN:
        return state.mean(dim=1) if mean else state.sum(dim=1)
    return state[:, 0, :]
