"""Captures the hidden states and BP gradients of a model in one forward and one backward pass a batch."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fa_tracking.protocol import taps, tokens
from fa_tracking.protocol.flow import Flow, Run, nodes_behind, operation, place, watch
from fa_tracking.protocol.norms import norms
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
from fa_tracking.protocol.undisturbed import HALVES, Call, backward_hooked, random_state, undisturbed, unwrapped


@dataclass(frozen=True)
class Capture:
    """What one batch of B samples shows of a network with L blocks.

    Attributes:
        inputs: x, as given to the model.
        labels: (B,) class indices.
        logits: (B, classes).
        error: (B, classes), e = softmax(logits) − onehot(labels).
        hidden: h_0 … h_L, each (B, d). Of token states (B, T, d) the class token where the logits come from it alone;
            all other states are flattened per sample.
        grads: g_0 … g_L, each (B, d): the gradient of each sample's own cross-entropy (the loss summed over the
            batch, so that nothing depends on the batch size).
        gain: ‖g_L‖/‖e‖ of each sample, in the limit where e vanishes; without samples of which it cannot be said.
        stream: for each layer (B,) norms over all tokens and features, where ``hidden`` is of the class token; else ().
        states: where each of h_0 … h_L was read.
        tokens: (B, n), which tokens of each sample ``hidden`` is of; None: the whole state.
        reference: whether g is the derivative of what the network computes.
        remarks: what a reader of the numbers must know of how they were taken: which modules the states are of, where
            the model itself does not say so; what was done with tokens, precision, hooks.
    """

    inputs: Any
    labels: Tensor
    logits: Tensor
    error: Tensor
    hidden: Sequence[Tensor]
    grads: Sequence[Tensor]
    gain: Tensor
    stream: Sequence[Tensor] = ()
    states: tuple[str, ...] = ()
    tokens: Tensor | None = None
    reference: Reference | None = None
    remarks: tuple[str, ...] = ()


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
    batches = [_pair(batch) for batch in eval_batches]
    if not batches:
        raise ValueError("no evaluation batch was given; the protocol wants 10 disjoint batches of 128")
    for number, (_, labels) in enumerate(batches, 1):
        if not labels.numel():
            raise ValueError(f"evaluation batch {number} is empty; the protocol wants 10 disjoint batches of 128")
    found, about = _with_reference(network, layers, batches, beside)
    about += _about(network)
    if reference is not None:
        about.append(_held_against(model, network, batches[0][0], found[0].logits))
    return [replace(c, remarks=(*about, *c.remarks)) for c in found]


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
            if not self._taps or not _holds(flow, self._taps):
                self._taps = taps.found(self._network, flow)
                where = taps.describe(self._taps)
                _say_once(f"{type(self._network).__name__}: {where}; other modules can be named as layers")
                self.about.append(where)
        self._counted = _siblings(self._network, flow, self._taps)
        if shows:
            self._seen_at = [taps.seen_at(flow, node) for node in _returned_nodes(flow)]
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
            nodes = _returned_nodes(flow)
            _must_follow(self._network, flow, nodes)
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
            nodes = taps.places(flow, self._taps) if self._taps else _returned_nodes(flow)
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


def _holds(flow: Flow, places: Sequence[Tap]) -> bool:
    """Whether declared states are cuts in their order, the last one goes into the read-out as the last block leaves it,
    and all blocks lie before it."""
    first_runs = {run.module: run for run in reversed(flow.runs)}
    if not all(tap.module in first_runs for tap in places):
        return False
    *blocks, read_out = (first_runs[tap.module] for tap in places)
    if any(one.began > other.began for one, other in pairwise([*blocks, read_out])):
        return False
    nodes = taps.places(flow, places)
    if len(nodes) != len(places) or not taps.follow(flow, nodes) or taps.unread(flow, nodes):
        return False
    if taps.grouped(flow, nodes) or taps.is_normed(flow, nodes) or not _is_left(blocks[-1], read_out):
        return False
    return all(flow.graph.dominates(nodes[-1], b.after) for b in flow.blocks)


def _is_left(block: Run, read_out: Run) -> bool:
    """Whether a read-out takes a state in the form in which a block leaves it; it may have more tokens."""
    taken = read_out.given_shape
    for left in (block.given_shape, block.returned_shape):
        if taken == left or (taken and left and len(taken) == len(left) == 3 and taken[2] == left[2]):
            return True
    return False


def _returned_nodes(flow: Flow) -> list[Any]:
    return [place(h) for h in flow.output[1]]


def _must_follow(network: nn.Module, flow: Flow, nodes: Sequence[Any]) -> None:
    kind = type(network).__name__
    if not taps.follow(flow, nodes):
        raise ValueError(
            f"the states that {kind} returns do not follow one from the other: return the very tensors that are used, "
            "or name modules whose outputs they are as layers=[…]"
        )
    if left := taps.unread(flow, nodes):
        raise ValueError(
            f"the last state that {kind} returns is not what its read-out reads: {', '.join(left)} run after it; "
            "return the states behind these too, or name modules as layers=[…]"
        )
    if taps.is_normed(flow, nodes):
        raise ValueError(
            f"the last state that {kind} returns stands behind its last normalisation, and not behind its last block: "
            "return what goes into the normalisation, or name modules as layers=[…]"
        )


def _siblings(network: nn.Module, flow: Flow, places: Sequence[Tap]) -> list[str]:
    """The blocks, and what is of their classes and stands within none of them: all must run alike in every batch."""
    blocks = {b.run.module for b in flow.stack} or {tap.module for tap in places}
    kinds = {type(module) for module in blocks}
    names = [name for name, module in network.named_modules() if module in blocks]
    return [
        name
        for name, module in network.named_modules()
        if type(module) in kinds and not any(name.startswith(f"{above}.") for above in names)
    ]


def _held_against(model: nn.Module, network: nn.Module, inputs: Any, logits: Tensor) -> str:
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


def _pair(batch: Any) -> tuple[Any, Tensor]:
    """Inputs and labels of a batch; of a mapping the entry ``labels``, the rest being inputs."""
    if isinstance(batch, Mapping) and isinstance(batch.get("labels"), Tensor | np.ndarray):
        return {name: value for name, value in batch.items() if name != "labels"}, torch.as_tensor(batch["labels"])
    if isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], Tensor | np.ndarray):
        return batch[0], torch.as_tensor(batch[1])
    raise ValueError("an evaluation batch must be a pair (inputs, labels), or a mapping with `labels`")


@cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr)


def without_statistics(network: nn.Module) -> list[nn.Module]:
    """Its BatchNorms that have no running statistics: what a sample gives depends on the others of its batch."""
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is None]


def _about(network: nn.Module) -> Iterator[str]:
    halves = sorted({str(p.dtype).removeprefix("torch.") for p in network.parameters() if p.dtype in HALVES})
    if halves:
        yield f"weights in {' and '.join(halves)}, widened to float32 for the measurement"
    if alone := without_statistics(network):
        kind = type(alone[0]).__name__
        yield f"{kind} without running statistics: every number here depends on how the batches were made"
    if hooked := backward_hooked(network):
        yield f"backward hooks were set aside, of {', '.join(sorted({type(m).__name__ for m in hooked}))}"


def reduced(
    inputs: Any,
    labels: Tensor,
    logits: Tensor,
    error: Tensor,
    hidden: Sequence[Tensor],
    grads: Sequence[Tensor],
    read: Reading,
    deepest: Tensor | None = None,
    states: tuple[str, ...] = (),
) -> Capture:
    """The capture of one batch from its states and gradients as the model has them, (B, …) each.

    Args:
        read: what stands for a sample's tokens.
        deepest: the gradient at h_L along e/‖e‖; from g_L and e where None.
    """
    index = read.index([*grads[:-1], grads[-1] if deepest is None else deepest])
    slopes = [read.of(g, index) for g in grads]
    if deepest is None:
        size = norms(error)
        gain = (norms(slopes[-1]) / size)[size != 0]
    else:
        gain = norms(read.of(deepest, index))
    return Capture(
        inputs=inputs,
        labels=labels,
        logits=logits.detach(),
        error=error,
        hidden=[read.of(h, index) for h in hidden],
        grads=slopes,
        gain=gain,
        stream=[norms(h.flatten(1)) for h in hidden] if index is not None else (),
        states=states,
        tokens=index,
        remarks=read.remarks,
    )
