"""Block knock-out: what is left of the accuracy when a block's branch is taken out of a trained network.

Functional evidence beside (d): blocks that a network can do without have not contributed to its accuracy. A residual
network without one of its blocks keeps most of its function (Veit et al. 2016, arXiv:1605.06431), so a small loss for
single blocks says little; a small loss without all of them says that the blocks do nothing.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from fa_tracking.errors import first_line
from fa_tracking.protocol.flow import Flow
from fa_tracking.protocol.outputs import logits_of
from fa_tracking.protocol.prefix import Prefix
from fa_tracking.protocol.ranges import Accuracy, Count, refusing
from fa_tracking.protocol.undisturbed import Call, undisturbed, unwrapped
from fa_tracking.protocol.watch import watch

FEW = 16
"""Samples on which it is seen whether passes can be shared."""
MOST_BLOCKS = 200
"""Beyond it the measurement, whose time grows with the square of the blocks, takes longer than all the others."""


@refusing
@dataclass(frozen=True, config=ConfigDict(ser_json_inf_nan="strings"))
class Knockout:
    """Holds accuracies in [0, 1] on the same samples; NaN if the logits are not finite.

    Attributes:
        samples: how many; 0 where nothing is measured.
        whole: accuracy of the whole network.
        without: accuracy without block l, for l = 0 … L−1.
        without_all: accuracy of embedding and read-out alone.
        problem: why nothing is measured; None if it is measured.
    """

    samples: Count = 0
    whole: Accuracy = math.nan
    without: tuple[Accuracy, ...] = ()
    without_all: Accuracy = math.nan
    problem: str | None = None

    def __str__(self) -> str:
        if self.problem is not None:
            return f"not measured: {self.problem}"
        lines = [f"accuracy on {self.samples} evaluation samples: {self.whole:.4f} with every block"]
        lines += [f"without block {layer}: {accuracy:.4f}" for layer, accuracy in enumerate(self.without)]
        return "\n".join([*lines, f"without any block: {self.without_all:.4f}"])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, NaN as a string; ``not_measured`` alone where there is a problem."""
        if self.problem is not None:
            return {"not_measured": str(self)}
        found: dict[str, Any] = json.loads(TypeAdapter(Knockout).dump_json(self))
        return {name: value for name, value in found.items() if name != "problem"}


def knockout(model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> Knockout:
    """Measure a network with ``blocks`` in evaluation mode, whole and without branches.

    A block that returns its residual branch f_l(h) is made to return zero; one that returns the next state itself is
    made to return its input. A model without ``blocks``, with more than ``MOST_BLOCKS``, or with one that alters the
    shape, so that nothing can stand in its place, is a problem of the result.
    """
    beside = KnockoutBeside(model)

    @torch.no_grad()
    def measure(call: Call) -> Knockout:
        for x, y in batches:
            with beside.watching():
                logits = logits_of(call(x))
            beside.after(call, x, y, logits)
        return beside.found()

    return undisturbed(model, measure)


class KnockoutBeside:
    """Measures the knock-out of a network, batch by batch, beside whatever runs its forward passes (``probe.Beside``).

    Of a network without block l only what follows l is computed: what runs before is as it was in the whole pass. On
    the first samples this is held against the network as it runs by itself, and given up where a logit differs.
    """

    def __init__(self, model: nn.Module) -> None:
        """Look for the blocks; what is wrong with them is kept for ``found``."""
        self._samples, self._whole = 0, 0.0
        self._blocks: list[nn.Module] = []
        self._prefix: Prefix | None = None
        self._removals: list[Removal] = []
        self._problem: Exception | None = None
        try:
            self._model = unwrapped(model)
            self._blocks = _blocks_of(self._model)
            self._prefix = Prefix(self._model, self._blocks)
        except Exception as error:  # whatever another's ``blocks`` are
            self._problem = error
        layers = range(len(self._blocks))
        # the deepest first: what a block may keep aside is then of the whole network's pass when it is not run again
        self._cuts = [tuple(layers), *((layer,) for layer in reversed(layers))]
        self._right = [0.0 for _ in self._cuts]

    def watching(self) -> AbstractContextManager[None]:
        """Around one forward pass of the whole network on a batch."""
        return self._prefix.recorded() if self._prefix else nullcontext()

    @torch.no_grad()
    def after(self, call: Call, inputs: Any, labels: Tensor, logits: Tensor) -> None:
        """Take the blocks out on the batch of which the whole network has just made ``logits``.

        Whatever the model raises is kept for ``found``: it is no matter of the measurement beside.
        """
        try:
            if not self._problem:
                self._count(call, inputs, labels, logits)
        except Exception as error:
            self._problem = error

    def found(self) -> Knockout:
        """The knock-out on all batches so far."""
        if self._problem:
            return Knockout(problem=first_line(self._problem))
        if not self._samples:
            return Knockout(problem="no batch was measured")
        without_all, *without = [right / self._samples for right in self._right]
        return Knockout(self._samples, self._whole / self._samples, tuple(reversed(without)), without_all)

    def _count(self, call: Call, inputs: Any, labels: Tensor, logits: Tensor) -> None:
        if not self._samples:
            self._inspect(call, inputs, labels)
        self._samples += len(labels)
        self._whole += _right(logits, labels)
        for i, cut in enumerate(self._cuts):
            if not math.isnan(self._right[i]):
                self._right[i] += _right(self._without(call, inputs, cut, self._prefix), labels)

    def _inspect(self, call: Call, inputs: Any, labels: Tensor) -> None:
        """Whether passes can be shared, by a few samples, or by the batch where the model takes no fewer; and how the
        blocks are taken out."""
        is_by_sample = isinstance(inputs, Tensor) and len(inputs) == len(labels) > FEW
        try:
            self._share_or_not(call, inputs[:FEW] if is_by_sample else inputs)
        except Exception:
            if not is_by_sample:
                raise
            self._share_or_not(call, inputs)
        with self.watching():  # of the whole batch again: what a part keeps aside, and zeros that few samples may be
            self._removals = _removals(call, self._model, self._blocks, inputs)

    def _share_or_not(self, call: Call, inputs: Any) -> None:
        self._removals = _removals(call, self._model, self._blocks, inputs)
        if not self._agrees(call, inputs):
            self._prefix = None

    def _agrees(self, call: Call, inputs: Any) -> bool:
        """Whether nothing goes from a block to a later part but by what it returns."""
        prefix = Prefix(self._model, self._blocks)
        with prefix.recorded():
            logits = logits_of(call(inputs))
        for layer in range(len(self._blocks)):
            with prefix.returned(layer):
                if not _same(logits_of(call(inputs)), logits):
                    return False
        return _same(*(self._without(call, inputs, self._cuts[0], shared) for shared in (prefix, None)))

    def _without(self, call: Call, inputs: Any, cut: Sequence[int], prefix: Prefix | None) -> Tensor:
        """The logits without the blocks of a cut."""
        before = prefix.returned(cut[-1]) if prefix else nullcontext()
        with before, _taken_out([(self._blocks[layer], self._removals[layer]) for layer in cut]):
            return logits_of(call(inputs))


def _blocks_of(model: nn.Module) -> list[nn.Module]:
    blocks = list(getattr(model, "blocks", None) or ())
    if not blocks:
        raise ValueError("the model has no blocks to take out")
    if not all(isinstance(block, nn.Module) for block in blocks):
        raise ValueError("the model's blocks are no modules")
    if len(blocks) > MOST_BLOCKS:
        raise ValueError(f"the model has {len(blocks)} blocks, and each is taken out of all: more than {MOST_BLOCKS}")
    return blocks


Removal = Callable[[Tensor], Tensor]
"""From a block's input to what it returns when it is out."""


def _removals(call: Call, model: nn.Module, blocks: Sequence[nn.Module], inputs: Any) -> list[Removal]:
    flow = watch(model, call, inputs)
    return [_removal(flow, layer, block) for layer, block in enumerate(blocks)]


def _removal(flow: Flow, layer: int, block: nn.Module) -> Removal:
    run = next((run for run in flow.runs if run.module is block), None)
    if run is None or run.given not in flow.graph or run.returned not in flow.graph:
        raise ValueError(f"block {layer} does not run on the way to the logits")
    if run.given_shape != run.returned_shape:
        raise ValueError(
            f"block {layer} has no branch to take out: it maps {_of(run.given_shape)} to {_of(run.returned_shape)}"
        )
    assert run.given is not None and run.returned is not None
    return _pass if flow.carries(run.given, run.returned) else torch.zeros_like


def _of(shape: torch.Size | None) -> tuple[int, ...]:
    return tuple(shape or ())[1:]


def _pass(h: Tensor) -> Tensor:
    return h


@contextmanager
def _taken_out(which: Sequence[tuple[nn.Module, Removal]]) -> Iterator[None]:
    handles = [
        block.register_forward_hook(lambda _, args, out, removal=removal: removal(args[0])) for block, removal in which
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def accuracy(call: Call, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """The share of samples that a network gets right; NaN where its logits are not finite."""
    correct = 0.0
    for x, y in batches:
        correct += _right(logits_of(call(x)), y)
        if math.isnan(correct):
            return math.nan
    return correct / sum(len(y) for _, y in batches)


def _same(logits: Tensor, others: Tensor) -> bool:
    return torch.allclose(logits, others, rtol=0, atol=0, equal_nan=True)


def _right(logits: Tensor, labels: Tensor) -> float:
    """How many samples; NaN where the logits are not finite."""
    logits = logits.cpu()
    return float((logits.argmax(1) == labels.cpu()).sum()) if logits.isfinite().all() else math.nan
