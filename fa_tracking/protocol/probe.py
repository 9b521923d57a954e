"""Captures the hidden states and BP gradients of a model in one forward and one backward pass a batch."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache, partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fa_tracking.protocol import search, taps, tokens
from fa_tracking.protocol.capture import Capture, reduced
from fa_tracking.protocol.flow import Flow
from fa_tracking.protocol.given import about, held_against, pair
from fa_tracking.protocol.graph import nodes_behind, operation
from fa_tracking.protocol.order import holds, must_follow, returned_nodes, siblings
from fa_tracking.protocol.outputs import (
    checked_labels,
    error_direction,
    error_of,
    logits_of,
    refuse_probabilities,
    scaled_error,
)
from fa_tracking.protocol.reference import check
from fa_tracking.protocol.table import Reference
from fa_tracking.protocol.taps import State, Tap
from fa_tracking.protocol.tokens import Reading, TokensDiffer
from fa_tracking.protocol.undisturbed import Call, random_state, undisturbed, unwrapped
from fa_tracking.protocol.watch import watch


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
    reference: nn.Module | None = None,
) -> list[Capture]:
    """One capture a batch. Only gradients with respect to hidden states are computed, none of parameters.

    The model and the batches are left bit for bit as they were (``undisturbed``).

    Args:
        eval_batches: pairs (inputs, labels); inputs as the model takes them: a tensor, a tuple of positional or a
            mapping of keyword arguments. The output is the logits, begins with them, or has them as ``logits``.
        layers: names of the modules whose outputs are h_0 … h_L. None: what the model itself shows, else its blocks or
            layers, which are looked for; what was found is said on stderr, once.
        beside: what else is measured on the same passes; the captures are those that they are without it.
        reference: a network of the same function whose backward pass is BP's, measured in the model's place.

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
        probe = _Probe(network, layers, is_whole)
        take = partial(probe.captures, batches=batches, beside=beside)
        try:
            captures = undisturbed(network, lambda call, take=take: list(take(call)), rejoined=rejoined)  # type: ignore[misc]
        except TokensDiffer:
            continue
        return captures, probe.first_place, probe.about
    raise AssertionError("whole states have no tokens to differ in")


def places_of(network: nn.Module, call: Call, inputs: Any, layers: Sequence[str] | None) -> list[Tap]:
    """Where the states of a network are read, inside ``undisturbed``; empty where it returns them itself.

    Raises:
        ValueError: it shows none.
    """
    probe = _Probe(network, layers, is_whole=False)
    probe._settle(call, inputs)
    return probe._taps


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


class _Probe:
    """Where the states of a network are read, as its first batch shows, and what is read there of each batch."""

    def __init__(self, network: nn.Module, layers: Sequence[str] | None, is_whole: bool) -> None:
        self._network, self._layers, self._is_whole = network, layers, is_whole
        self._taps: list[Tap] = []
        self._reading: Reading | None = None
        self._order: list[str] | None = None
        self._counted: list[str] = []
        self._seen_at: list[Tap | None] = []
        self._sequence_first: list[bool] = []
        self._operations: Counter[str] = Counter()
        self.first_place: Tap | None = None
        self.about: list[str] = []

    def captures(self, call: Call, batches: Sequence[tuple[Any, Tensor]], beside: Beside | None) -> Iterator[Capture]:
        flow: Flow | None = None
        for number, (inputs, labels) in enumerate(batches, 1):
            if number == 1:
                flow = self._settle(call, inputs)
            with beside.watching() if beside else nullcontext():
                logits, states, order = self._forward(call, inputs)
            self._must_be_as_before(order, number)
            self._count(logits, number)
            if flow:
                self.first_place = states[0].tap
                self.about += self._where(flow, states)
            seen = self._capture(inputs, labels, logits, states, flow)
            flow = None  # its graph is as large as a batch's
            if beside:
                with random_state(seen.logits.device):
                    beside.after(call, inputs, seen.labels, seen.logits)
            yield seen

    def _settle(self, call: Call, inputs: Any) -> Flow:
        """Where the states are to be read, by one forward pass that is watched."""
        shows = self._layers is None and taps.shows_hidden(self._network)
        flow = watch(self._network, call, inputs, **({"return_hidden": True} if shows else {}))
        if self._layers is not None:
            self._taps = taps.named(self._network, self._layers)
        elif not shows:
            self._taps = taps.declared(self._network)
            if not self._taps or not holds(flow, self._taps):
                self._taps = search.found(self._network, flow)
                where = taps.describe(self._taps)
                _say_once(f"{type(self._network).__name__}: {where}; other modules can be named as layers")
                self.about.append(where)
        self._counted = siblings(self._network, flow, self._taps)
        if shows:
            self._seen_at = [taps.seen_at(flow, node) for node in returned_nodes(flow)]
        return flow

    def _forward(self, call: Call, inputs: Any) -> tuple[Tensor, list[State], list[str]]:
        """Logits, states, and the blocks in the order in which they ran."""
        order: list[str] = []
        modules = dict(self._network.named_modules())
        counted = [Tap(name, modules[name], taps.INPUT) for name in self._counted]
        with torch.enable_grad(), taps.hooked(counted, lambda tap, _: order.append(tap.name)):
            if not self._taps:
                output, hidden = call(inputs, return_hidden=True)
                shown = [taps.state(h, layer) for layer, h in enumerate(hidden)]
                return logits_of(output), shown, [*order, f"{len(shown)} states"]
            with taps.reading(self._taps) as states:
                output = call(inputs)
        return logits_of(output), states, [*order, f"{len(states)} states"]

    def _must_be_as_before(self, order: list[str], number: int) -> None:
        self._order = self._order or order
        if order != self._order:
            first, now = (", ".join(o) or "no block" for o in (self._order, order))
            raise ValueError(
                f"the network's depth depends on the data: batch 1 runs {first:.200}, batch {number} {now:.200}; "
                "measure each depth on batches of its own, or name modules that always run as layers=[…]"
            )

    def _count(self, logits: Tensor, number: int) -> None:
        """Remark on a forward pass of other operations than that of the first batch, whatever modules they are in."""
        operations = Counter(operation(node) for node in nodes_behind(logits))
        self._operations = self._operations or operations
        if operations != self._operations:
            told = f"batch {number} runs other operations than batch 1: the network may have another depth there"
            self.about = [*(said for said in self.about if "runs other operations" not in said), told]

    def _where(self, flow: Flow, states: Sequence[State]) -> Iterator[str]:
        """What the states are of, where somebody named or returned them, and what is not read.

        Raises:
            ValueError: returned states are not those of the forward pass.
        """
        nodes = [state.edge.node for state in states]
        if self._layers is not None:
            yield taps.describe([state.tap for state in states if state.tap])
            nodes = taps.places(flow, self._taps)  # type: ignore[assignment]
        elif not self._taps:
            nodes = returned_nodes(flow)
            must_follow(self._network, flow, nodes)
        else:
            nodes = taps.places(flow, self._taps)  # type: ignore[assignment]
        named = {state.tap.name for state in states if state.tap}
        if left := [name for name in taps.unread(flow, nodes) if name not in named]:
            yield f"not read: {', '.join(left)}, which run after the last state"
        if nodes[-1] in flow.graph and (kept := flow.behind(nodes[-1])[1]):
            yield f"taken for the read-out: {', '.join(run.name for run in kept)}, which run after the last state"
        if not taps.follow(flow, nodes):
            yield "a state is bypassed: not all that it holds goes through the next one"
        if several := taps.grouped(flow, nodes):
            listed = ", ".join(several[: taps.LISTED])
            yield f"several blocks lie between two states ({listed}): growth is not per block"
        read = {state.tap.module for state in states if state.tap} or {tap.module for tap in self._seen_at if tap}
        if self._layers is None and any(block.run.module in read for block in flow.blocks):
            feeding, others = flow.beside(flow.blocks)
            if feeding:
                yield f"not measured: {', '.join(run.name for run in feeding)}, which feed the blocks from aside"
            if others:
                yield f"not measured: {', '.join(run.name for run in others)}, which run beside the blocks"

    def _capture(
        self, inputs: Any, labels: Tensor, logits: Tensor, states: Sequence[State], flow: Flow | None
    ) -> Capture:
        """What one batch shows, by its backward passes."""
        labels = checked_labels(labels.to(logits.device), logits)
        refuse_probabilities(logits)
        error, scale = scaled_error(logits, labels)
        edges = [state.edge for state in states]
        if flow:
            self._sequence_first = self._orientation(states, logits)
        direction = error_direction(logits.detach(), labels).to(logits.dtype)
        with torch.enable_grad():  # as grad_outputs=error, for which torch loads sympy: 0.6 s
            towards, along = (logits * error).sum(), (logits * direction).sum()
        (deepest,) = torch.autograd.grad(along, edges[-1:], retain_graph=True, allow_unused=True)
        given = torch.autograd.grad(towards, edges, allow_unused=True)
        unused = [layer for layer, g in enumerate(given) if g is None]
        if unused:
            raise ValueError(
                f"hidden states {unused} do not lead to the logits: return the very tensors that are used, or name "
                "modules whose outputs are used as layers=[…]"
            )
        slopes = [g if scale == 1 else g.double() * scale for g in given]
        hidden = [self._batch_first(s.value, len(labels), layer) for layer, s in enumerate(states)]
        grads = [self._batch_first(g, len(labels), layer) for layer, g in enumerate(slopes)]
        deepest = self._batch_first(deepest, len(labels), len(states) - 1)
        if flow:
            nodes = taps.places(flow, self._taps) if self._taps else returned_nodes(flow)
            channels = [
                h.ndim == 3 and tokens.are_channels(flow.graph, node) for h, node in zip(hidden, nodes, strict=False)
            ]
            settle = tokens.whole if self._is_whole else partial(tokens.reading, grads=[*grads[:-1], deepest])
            self._reading = settle(hidden, channels=channels)
        assert self._reading is not None
        read_at = [s.tap for s in states if s.tap] or self._seen_at
        where = tuple(str(tap) if tap else "returned by the model" for tap in read_at)
        error = error_of(logits, labels)
        return reduced(inputs, labels, logits, error, hidden, grads, self._reading, deepest, where)

    def _orientation(self, states: Sequence[State], logits: Tensor) -> list[bool]:
        """Of each state whether its axis 1 is the batch: by its shape, and where that does not tell, by what the first
        sample's logits come from."""
        batch = len(logits)
        unclear = [s.value.ndim == 3 and s.value.shape[0] == batch == s.value.shape[1] > 1 for s in states]
        by_shape = [s.value.ndim == 3 and s.value.shape[0] != batch == s.value.shape[1] for s in states]
        if not any(unclear):
            return by_shape
        with torch.enable_grad():
            own = logits[0].sum() + (logits[0] * torch.arange(logits.shape[1], device=logits.device)).sum()
        slopes = torch.autograd.grad(own, [s.edge for s in states], retain_graph=True, allow_unused=True)
        for layer, g in enumerate(slopes):
            if unclear[layer]:
                used = (g != 0).any(dim=2)
                along_first, along_second = int(used.any(dim=1).sum()), int(used.any(dim=0).sum())
                if along_first > 1 and along_second > 1:
                    raise ValueError(
                        f"hidden state {layer} of {batch} samples has {batch} tokens: which axis is the batch cannot "
                        "be told; use another batch size, or name modules as layers=[…]"
                    )
                by_shape[layer] = along_first > 1
        return by_shape

    def _batch_first(self, state: Tensor, batch: int, layer: int) -> Tensor:
        """(B, …); of a transformer's (T, B, d) the first two axes are exchanged."""
        found = state.transpose(0, 1) if self._sequence_first[layer] and state.ndim == 3 else state
        if found.ndim < 2 or len(found) != batch:
            raise ValueError(
                f"hidden state {layer} has shape {tuple(state.shape)}; expected (B, d), (B, T, d), (T, B, d) or "
                f"(B, C, H, W) with B = {batch}; name modules whose outputs have it as layers=[…]"
            )
        return found


@cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr)
