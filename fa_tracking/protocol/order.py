"""Whether the states that a network declares or returns are those of its forward pass, one after the other."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from fa_tracking.protocol import taps
from fa_tracking.protocol.flow import Flow
from fa_tracking.protocol.runs import Run, place
from fa_tracking.protocol.taps import Tap


def holds(flow: Flow, places: Sequence[Tap]) -> bool:
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


def returned_nodes(flow: Flow) -> list[Any]:
    return [place(h) for h in flow.output[1]]


def must_follow(network: nn.Module, flow: Flow, nodes: Sequence[Any]) -> None:
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


def siblings(network: nn.Module, flow: Flow, places: Sequence[Tap]) -> list[str]:
    """The blocks, and what is of their classes and stands within none of them: all must run alike in every batch."""
    blocks = {b.run.module for b in flow.stack} or {tap.module for tap in places}
    kinds = {type(module) for module in blocks}
    names = [name for name, module in network.named_modules() if module in blocks]
    return [
        name
        for name, module in network.named_modules()
        if type(module) in kinds and not any(name.startswith(f"{above}.") for above in names)
    ]
