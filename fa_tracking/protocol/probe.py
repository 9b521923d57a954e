"""Captures the hidden states and BP gradients of a model in one forward and one backward pass a batch."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fa_tracking.protocol.capture import Beside, Capture
from fa_tracking.protocol.given import about, held_against, pair
from fa_tracking.protocol.reference import check
from fa_tracking.protocol.table import Reference
from fa_tracking.protocol.taking import Taking
from fa_tracking.protocol.taps import Tap
from fa_tracking.protocol.tokens import TokensDiffer
from fa_tracking.protocol.undisturbed import Call, undisturbed, unwrapped


def capture(model: nn.Module, inputs: Any, labels: Tensor, layers: Sequence[str] | None = None) -> Capture:
    """Run one forward and one backward pass and return what they show, as ``capture_all`` does for many batches."""
    return capture_all(model, [(inputs, labels)], layers)[0]


def capture_all(
    model: nn.Module,
    eval_batches: Iterable[tuple[Any, Tensor]],
    layers: Sequence[str] | None = None,
    beside: Beside | None = None,
    reference: nn.Module | None = None,
) -> list[Capture]:
    """Return one capture per batch. Only gradients with respect to hidden states are computed, none for parameters.

    The model and the batches are left bit for bit as they were (``undisturbed``).

    Args:
        eval_batches: pairs (inputs, labels); inputs as the model takes them: a tensor, a tuple of positional or a
            mapping of keyword arguments. The output is the logits, begins with them, or has them as ``logits``.
        layers: names of the modules whose outputs are h_0 … h_L. None: the states that the model itself shows, else
            those of its blocks or layers, found by a search; one line on stderr says what was found.
        beside: a further measurement on the same passes; it does not change the captures.
        reference: a network with the same function whose backward pass is BP's; it is measured instead of the model.

    Raises:
        ValueError: there is no batch, the model shows no hidden states, a batch's shapes do not fit, the outputs are
            probabilities, the network's depth depends on the data, or ``reference`` computes something else.
    """
    network = unwrapped(model if reference is None else reference)
    if isinstance(network, torch.jit.ScriptModule):
        raise ValueError("a scripted model shows no modules to read states from: measure the nn.Module it was made of")
    if isinstance(layers, str):
        raise ValueError(f"layers is a list of module names: layers=[{layers!r}]")
    layers = None if layers is None else list(layers)
    batches = [pair(batch) for batch in eval_batches]
    if not batches:
        raise ValueError("no evaluation batch was given; the protocol wants 10 disjoint batches of 128")
    for number, (_, labels) in enumerate(batches, 1):
        if not labels.numel():
            raise ValueError(f"evaluation batch {number} is empty; the protocol wants 10 disjoint batches of 128")
    found, remarks = _with_reference(network, layers, batches, beside)
    remarks += about(network)
    if reference is not None:
        remarks.append(held_against(model, network, batches[0][0], found[0].logits))
    return [replace(c, remarks=(*remarks, *c.remarks)) for c in found]


def _with_reference(
    network: nn.Module, layers: Sequence[str] | None, batches: Sequence[tuple[Any, Tensor]], beside: Beside | None
) -> tuple[list[Capture], list[str]]:
    """The captures, and what is to be said of all of them. A ``detach()`` in the way of BP's gradient is set aside."""
    refused: ValueError | None = None
    first: tuple[list[Capture], list[str]] | None = None
    beside = _Once(beside) if beside else None
    for rejoined in (False, True):
        try:
            found, at, about = _taken(network, layers, batches, beside, rejoined)
            checked, remarks = check(network, batches[0][0], len(batches[0][1]), at, rejoined)
        except Exception as error:
            if first is None and not isinstance(error, ValueError):
                raise
            refused = refused or (error if isinstance(error, ValueError) else None)
            continue
        captures = [replace(c, reference=checked) for c in found]
        if checked is not Reference.NOT_BP:
            aside = ["detach() in the forward pass was set aside: gradients flow through it"] if rejoined else []
            return captures, [*about, *remarks, *aside]
        first = first or (captures, [*about, *remarks])
    if first is None:
        assert refused is not None
        raise refused
    return first


def _taken(
    network: nn.Module,
    layers: Sequence[str] | None,
    batches: Sequence[tuple[Any, Tensor]],
    beside: Beside | None,
    rejoined: bool,
) -> tuple[list[Capture], Tap | None, list[str]]:
    """The captures, where h_0 is read, and what is to be said of the states."""
    for is_whole in (False, True):
        taking = Taking(network, layers, is_whole)
        take = partial(taking.captures, batches=batches, beside=beside)
        try:
            captures = undisturbed(network, lambda call, take=take: list(take(call)), rejoined=rejoined)  # type: ignore[misc]
        except TokensDiffer:
            continue
        return captures, taking.first_place, taking.about
    raise AssertionError("whole states have no tokens to differ in")


def places_of(network: nn.Module, call: Call, inputs: Any, layers: Sequence[str] | None) -> list[Tap]:
    """Where the states of a network are read, inside ``undisturbed``; empty where it returns them itself.

    Raises:
        ValueError: it shows none.
    """
    taking = Taking(network, layers, is_whole=False)
    taking._settle(call, inputs)
    return taking._taps


class _Once:
    """What is measured beside, of each batch once, however often the batches are captured."""

    def __init__(self, beside: Beside) -> None:
        self._beside, self._seen = beside, set[int]()

    def watching(self) -> AbstractContextManager[None]:
        return self._beside.watching()

    def after(self, call: Call, inputs: Any, labels: Tensor, logits: Tensor) -> None:
        if id(inputs) not in self._seen:
            self._seen.add(id(inputs))
            self._beside.after(call, inputs, labels, logits)
