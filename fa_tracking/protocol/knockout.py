"""Block knock-out: what is left of the accuracy when a block's branch is taken out of a trained network.

Functional evidence beside (d): blocks that a network can do without have not contributed to its accuracy. A residual
network without one of its blocks keeps most of its function (Veit et al. 2016, arXiv:1605.06431), so a small loss for
single blocks says little; a small loss without all of them says that the blocks do nothing.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from fa_tracking.protocol.probe import hidden_states, logits_of
from fa_tracking.protocol.undisturbed import Call, undisturbed, unwrapped

MOST_BLOCKS = 200
"""Beyond it the measurement, whose time grows with the square of the blocks, takes longer than all the others."""


@dataclass(frozen=True, config=ConfigDict(ser_json_inf_nan="strings"))
class Knockout:
    """Accuracies in [0, 1] on the same samples; NaN where the logits are not finite.

    Attributes:
        samples: how many.
        whole: of the network as it is.
        without: of the network without block l, for l = 0 … L−1.
        without_all: of embedding and read-out alone.
    """

    samples: int
    whole: float
    without: tuple[float, ...]
    without_all: float

    def __str__(self) -> str:
        lines = [f"accuracy on {self.samples} evaluation samples: {self.whole:.4f} with every block"]
        lines += [f"without block {layer}: {accuracy:.4f}" for layer, accuracy in enumerate(self.without)]
        return "\n".join([*lines, f"without any block: {self.without_all:.4f}"])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, NaN as a string."""
        return json.loads(TypeAdapter(Knockout).dump_json(self))


def knockout(model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> Knockout:
    """Measure a network with ``blocks`` in evaluation mode, whole and with branches removed.

    A block that returns its residual branch f_l(h) is made to return zero; one that returns the next state itself is
    made to return its input.

    Raises:
        ValueError: the model has no ``blocks``, more than ``MOST_BLOCKS``, or one that alters the shape, so that
            nothing can stand in its place.
    """
    model = unwrapped(model)
    blocks = list(getattr(model, "blocks", None) or ())
    if not blocks:
        raise ValueError("the model has no blocks to take out")
    if len(blocks) > MOST_BLOCKS:
        raise ValueError(f"the model has {len(blocks)} blocks, and each is taken out of all: more than {MOST_BLOCKS}")
    return undisturbed(model, lambda call: _measure(call, model, blocks, batches))


@torch.no_grad()
def _measure(
    call: Call, model: nn.Module, blocks: Sequence[nn.Module], batches: Sequence[tuple[Tensor, Tensor]]
) -> Knockout:
    removals = _removals(call, model, blocks, batches[0][0])

    def without(layers: Sequence[int]) -> float:
        with _removed([(blocks[layer], removals[layer]) for layer in layers]):
            return accuracy(call, batches)

    every = range(len(blocks))
    return Knockout(
        samples=sum(len(y) for _, y in batches),
        whole=without(()),
        without=tuple(without((layer,)) for layer in every),
        without_all=without(every),
    )


Removal = Callable[[Tensor], Tensor]
"""From a block's input to what it returns when it is out."""


def _removals(call: Call, model: nn.Module, blocks: Sequence[nn.Module], x: Tensor) -> list[Removal]:
    seen: list[tuple[Tensor, Any]] = []
    handles = [b.register_forward_hook(lambda _, args, out: seen.append((args[0], out))) for b in blocks]
    try:
        states = hidden_states(call, model, x)
    finally:
        for handle in handles:
            handle.remove()
    removals: list[Removal] = []
    for layer, ((h, out), following) in enumerate(zip(seen, states[1:], strict=True)):
        if not isinstance(out, Tensor) or out.shape != h.shape:
            into = tuple(out.shape[1:]) if isinstance(out, Tensor) else type(out).__name__
            raise ValueError(f"block {layer} has no branch to take out: it maps {tuple(h.shape[1:])} to {into}")
        removals.append(_pass if torch.equal(out, following) else torch.zeros_like)
    return removals


def _pass(h: Tensor) -> Tensor:
    return h


@contextmanager
def _removed(which: Sequence[tuple[nn.Module, Removal]]) -> Iterator[None]:
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
    correct = 0
    for x, y in batches:
        logits = logits_of(call(x)).cpu()
        if not logits.isfinite().all():
            return math.nan
        correct += int((logits.argmax(1) == y).sum())
    return correct / sum(len(y) for _, y in batches)
