"""Looks for the blocks of a network that does not show its states, and for the states between them."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn
from torch.autograd.graph import Node

from fa_tracking.protocol.flow import NORMS, Block, Flow
from fa_tracking.protocol.graph import operation
from fa_tracking.protocol.runs import CONTAINERS, Run, contained, listed
from fa_tracking.protocol.taps import (
    BY_NAME,
    INPUT,
    LISTED,
    NORMALISATIONS,
    OUTPUT,
    Tap,
    describe,
    follow,
    in_short,
    places,
    tap_of,
    unread,
)


def found(model: nn.Module, flow: Flow) -> list[Tap]:
    """The states of the blocks on the path to the logits, or of a plain chain of layers.

    Raises:
        ValueError: there is neither, other blocks run beside these, or where the last state is cannot be told.
    """
    kind = type(model).__name__
    layered = any(sum(_is_layer(c) for c in m.children()) > 1 for m in model.modules() if isinstance(m, CONTAINERS))
    attempts: list[Callable[[], list[Tap]]] = [
        lambda: _of_blocks(flow, flow.blocks),
        lambda: _between(flow) if layered and not flow.blocks else [],
        lambda: _of_all(flow, contained(model)),
        lambda: _of_all(flow, listed(model)),
    ]
    refused, left = "", list[str]()
    for attempt in attempts:
        try:
            taps = attempt()
        except ValueError as error:
            refused = refused or str(error)
            continue
        nodes = places(flow, taps) if taps else []
        if taps and follow(flow, nodes) and not (left := unread(flow, nodes)):
            return taps
        if taps:
            ran = f", and {in_short(left)} run after them, so that they" if follow(flow, nodes) else ""
            refused = refused or f"{describe(taps)}{ran}"
    if refused:
        raise ValueError(f"{kind} shows no hidden states: {refused} do not follow one from the other; {BY_NAME}")
    modules = [name for name, _ in model.named_modules() if name][:LISTED]
    raise ValueError(
        f"{kind} shows no hidden states: name the modules whose outputs they are by layers=[…], of "
        f"{', '.join(map(repr, modules)) or 'none'}, or let it serve model(x, return_hidden=True) -> "
        "(logits, [h_0, …, h_L])"
    )


def _of_blocks(flow: Flow, blocks: Sequence[Block]) -> list[Tap]:
    """Raises ValueError, of which the names are the text, where others run beside these blocks."""
    if blocks and (parallel := flow.beside(blocks)[1]):
        raise ValueError(
            f"{in_short([r.name for r in parallel])} run beside {in_short([b.run.name for b in blocks])}, and"
        )
    if len(blocks) == 1 and (inside := _stack_within(blocks[0].run.module)):
        raise ValueError(f"the {len(inside)} {type(inside[0]).__name__} within {blocks[0].run.name}")
    return along(blocks, flow)


def _of_all(flow: Flow, modules: Sequence[nn.Module]) -> list[Tap]:
    """As ``_of_blocks``, where every one of the modules is a block."""
    blocks = flow.blocks_among(modules)
    ran = {run.module for run in flow.runs if run.module in set(modules) and any(True for _ in run.module.parameters())}
    if blocks and len({b.run.module for b in blocks}) < len(ran):
        raise ValueError(f"{in_short([run.name for run in flow.runs if run.module in ran])}")
    return _of_blocks(flow, blocks)


def _stack_within(module: nn.Module) -> list[nn.Module]:
    """Several modules of one class in a list within a module, each with several layers of its own."""
    for container in module.modules():
        inner = [child for child in container.children() if any(True for _ in child.children())]
        if isinstance(container, CONTAINERS) and len(inner) > 1 and len(set(map(type, inner))) == 1:
            return inner
    return []


def along(blocks: Sequence[Block], flow: Flow) -> list[Tap]:
    """The states before, between and after blocks: what goes into the first, and what comes out of each. Of a block
    that returns its residual branch it is what goes into the next. The last state is what the read-out takes, where it
    takes another one in the same shape; empty where none is taken behind a last branch."""
    if not blocks:
        return []
    taps = [tap_of(blocks[0].run, INPUT, blocks[0].given)]
    for block, following in pairwise(blocks):
        if block.is_branch:
            taps.append(tap_of(following.run, INPUT, following.given))
        else:
            taps.append(tap_of(block.run, OUTPUT, block.returned))
    last = _last(blocks, flow)
    return [*taps, last] if last else []


def _last(blocks: Sequence[Block], flow: Flow) -> Tap | None:
    """Where the last state is read."""
    last = blocks[-1]
    if last.is_branch and (norm := _norm_behind(blocks, flow)):
        return tap_of(norm, OUTPUT)
    shape = last.run.givens[last.given].shape if last.is_branch else last.run.returns[last.returned].shape
    takers = (
        tap_of(run, INPUT, which)
        for run in flow.runs
        if run.began > last.run.ended
        for which, value in enumerate(run.givens)
        if value.shape == shape and value.node in flow.graph and flow.graph.dominates(value.node, last.after)
        and (last.is_branch or value.node is not last.after)
        and not _is_behind_norm(flow, last.after, value.node)
    )  # fmt: skip
    reader = next(takers, None)
    if last.is_branch:
        return reader
    is_taken = any(v.node is last.after for run in flow.runs if run.began > last.run.ended for v in run.givens)
    return reader if reader and not is_taken else tap_of(last.run, OUTPUT, last.returned)


def _is_behind_norm(flow: Flow, before: Node, after: Node | None) -> bool:
    """Whether a normalisation stands on the way from one cut to another."""
    cuts = flow.graph.cuts(before)
    between = cuts[1 : cuts.index(after) + 1] if after in cuts else []
    return any(operation(node) in NORMS for node in between)


def _norm_behind(blocks: Sequence[Block], flow: Flow) -> Run | None:
    """The normalisation behind the last of blocks that return branches, where one makes each state of the others."""
    takers = {run.given: run for run in flow.runs if isinstance(run.module, NORMALISATIONS)}
    are_normed = [(n := takers.get(b.after)) is not None and n.returned is f.before for b, f in pairwise(blocks)]
    return takers.get(blocks[-1].after) if are_normed and all(are_normed) else None


def _between(flow: Flow) -> list[Tap]:
    """What goes into each layer but the first; a normalisation belongs to the layer that follows it. Where a layer
    takes one token of a sequence, or the means of maps, the sequence or the maps that the layer before returns."""
    layers = [run for run in flow.runs if _is_layer(run.module)]
    taps: list[Tap] = []
    begins: Run | None = None
    before: Run | None = None
    for run in layers:
        begins = begins or run
        if isinstance(run.module, NORMALISATIONS):
            continue
        if before is not None:
            is_cut = flow.graph.dominates(before.returned, before.given)
            taps.append(tap_of(before, OUTPUT) if is_cut and _is_pooled(before, begins) else tap_of(begins, INPUT))
        begins, before = None, run
    return taps


def _is_pooled(before: Run, after: Run) -> bool:
    left, taken = before.returned_shape or (), after.given_shape or ()
    return len(taken) == 2 and (len(left) == 3 or (len(left) > 3 and left[1] == taken[1]))


def _is_layer(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False)) and not any(True for _ in module.children())
