"""Takes captures of one network, batch after batch, and sees to it that all of them are of the same states."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from fa_tracking.protocol import search, taps, tokens
from fa_tracking.protocol.capture import Beside, Capture, Passed, reduced
from fa_tracking.protocol.flow import Flow
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
from fa_tracking.protocol.taps import State, Tap
from fa_tracking.protocol.tokens import Reading
from fa_tracking.protocol.undisturbed import Call, random_state
from fa_tracking.protocol.watch import watch


class Taking:
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
        return reduced(Passed(inputs, labels, logits, error), hidden, grads, self._reading, deepest, where)

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
