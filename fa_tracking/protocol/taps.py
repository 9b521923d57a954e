"""Which tensors of a network are its hidden states h_0 … h_L: inputs and outputs of modules, by name or by search."""

import difflib
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, groupby, pairwise
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from fa_tracking.protocol.flow import CONTAINERS, NORMS, Block, Flow, Run, contained, listed, nth_tensor, operation

READ_OUTS = ("out_ln", "norm", "out_head", "head")
"""The module whose input is h_L, in the order in which it is looked for."""

NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

INPUT, OUTPUT = "input", "output"

BY_NAME = "name the modules whose outputs they are, as in layers=['layer1', 'layer2']"
CUT = (
    "computed under no_grad or from .data; name modules whose outputs are used as layers=[…], or give reference=, a "
    "model of the same weights that cuts no graph"
)

LISTED = 8
"""Up to so many modules are all named."""


@dataclass(frozen=True)
class Tap:
    """A place where a hidden state is read: the first tensor that goes into a module, or comes out of it.

    Attributes:
        turn: of the module's runs in a forward pass only this one, counted from 0; None: each gives a state.
        which: of the floating-point tensors that pass there, counted from 0.
    """

    name: str
    module: nn.Module
    side: str
    turn: int | None = None
    which: int = 0

    def __str__(self) -> str:
        again = f" (run {self.turn + 1})" if self.turn else ""
        return f"{self.side} of {self.name}{again}"


@dataclass(frozen=True)
class State:
    """A hidden state: its value as it was when it passed, and where its gradient is to be asked for."""

    value: Tensor
    edge: GradientEdge
    tap: Tap | None = None


def state(h: Tensor | None, layer: int, tap: Tap | None = None) -> State:
    """h_layer as it is now.

    Raises:
        ValueError: there is none, or no gradient can be asked for.
    """
    if h is None or not h.requires_grad:
        where = f" ({tap})" if tap else ""
        shown = "no tensor" if h is None else f"a tensor without a graph, {CUT}"
        raise ValueError(f"hidden state {layer}{where} is {shown}")
    return State(h.data.clone(), get_gradient_edge(h), tap)


def shows_hidden(model: nn.Module) -> bool:
    """Whether the model serves ``model(x, return_hidden=True)``."""
    return "return_hidden" in inspect.signature(model.forward).parameters


def named(model: nn.Module, layers: Sequence[str]) -> list[Tap]:
    """The outputs of the modules called ``layers``; a module that runs several times gives a state each time.

    Raises:
        ValueError: there is no such module.
    """
    modules = dict(model.named_modules())
    for name in layers:
        if name not in modules or not name:
            near = difflib.get_close_matches(name, modules, n=3, cutoff=0.5) or list(modules)[1:9]
            raise ValueError(f"{type(model).__name__} has no module {name!r}; it has, among others, {', '.join(near)}")
    if not layers:
        raise ValueError("layers names no module: give at least one, as in layers=['layer1', 'layer2']")
    return [Tap(name, modules[name], OUTPUT) for name in layers]


def declared(model: nn.Module) -> list[Tap]:
    """The inputs of ``blocks`` and of the read-out, whatever a block returns; empty for a model without them."""
    blocks = getattr(model, "blocks", None)
    name = next((n for n in READ_OUTS if isinstance(getattr(model, n, None), nn.Module)), None)
    if name is None or not isinstance(blocks, nn.ModuleList | nn.Sequential) or not len(blocks):
        return []
    taps = [Tap(f"blocks.{i}", block, INPUT, 0) for i, block in enumerate(blocks)]
    return [*taps, Tap(name, getattr(model, name), INPUT, 0)]


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
            ran = f", and {_names(left)} run after them, so that they" if follow(flow, nodes) else ""
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
        raise ValueError(f"{_names([r.name for r in parallel])} run beside {_names([b.run.name for b in blocks])}, and")
    if len(blocks) == 1 and (inside := _stack_within(blocks[0].run.module)):
        raise ValueError(f"the {len(inside)} {type(inside[0]).__name__} within {blocks[0].run.name}")
    return along(blocks, flow)


def _of_all(flow: Flow, modules: Sequence[nn.Module]) -> list[Tap]:
    """As ``_of_blocks``, where every one of the modules is a block."""
    blocks = flow.blocks_among(modules)
    ran = {run.module for run in flow.runs if run.module in set(modules) and any(True for _ in run.module.parameters())}
    if blocks and len({b.run.module for b in blocks}) < len(ran):
        raise ValueError(f"{_names([run.name for run in flow.runs if run.module in ran])}")
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
    taps = [_tap(blocks[0].run, INPUT, blocks[0].given)]
    for block, following in pairwise(blocks):
        if block.is_branch:
            taps.append(_tap(following.run, INPUT, following.given))
        else:
            taps.append(_tap(block.run, OUTPUT, block.returned))
    last = _last(blocks, flow)
    return [*taps, last] if last else []


def _tap(run: Run, side: str, which: int = 0) -> Tap:
    return Tap(run.name, run.module, side, run.turn, which)


def _last(blocks: Sequence[Block], flow: Flow) -> Tap | None:
    """Where the last state is read."""
    last = blocks[-1]
    if last.is_branch and (norm := _norm_behind(blocks, flow)):
        return _tap(norm, OUTPUT)
    shape = last.run.givens[last.given].shape if last.is_branch else last.run.returns[last.returned].shape
    takers = (
        _tap(run, INPUT, which)
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
    return reader if reader and not is_taken else _tap(last.run, OUTPUT, last.returned)


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


def places(flow: Flow, taps: Sequence[Tap]) -> list[Node | None]:
    """Where in the graph the states of ``taps`` stand, in the order in which they pass."""
    wanted = {(tap.module, tap.side, tap.turn): tap.which for tap in taps}
    passed = []
    for run in flow.runs:
        for side, clock, values in ((INPUT, run.began, run.givens), (OUTPUT, run.ended, run.returns)):
            for turn in (run.turn, None):
                which = wanted.get((run.module, side, turn))
                if which is not None:
                    passed.append((clock, values[which].node if which < len(values) else None))
                    break
    return [node for _, node in sorted(passed, key=lambda each: each[0])]


def seen_at(flow: Flow, node: Node | None) -> Tap | None:
    """A module that takes or returns the state at ``node``; None where none does."""
    if node is None:
        return None
    for run in flow.runs[1:]:
        if node in (taken := [value.node for value in run.givens]):
            return _tap(run, INPUT, taken.index(node))
    for run in reversed(flow.runs[1:]):
        if node in (made := [value.node for value in run.returns]):
            return _tap(run, OUTPUT, made.index(node))
    return None


def follow(flow: Flow, states: Sequence[Node | None]) -> bool:
    """Whether each state is a cut for the one before it, and another one."""
    graph = flow.graph
    return all(
        before in graph and after in graph and before is not after and graph.dominates(after, before)
        for before, after in pairwise(states)
    )


def is_normed(flow: Flow, states: Sequence[Node | None]) -> bool:
    """Whether a normalisation stands between the last block and the last state, and none between the others."""
    after = [b.after for b in flow.stack]
    if not after or states[-1] not in flow.graph or after[-1] not in flow.graph:
        return False
    behind = flow.graph.cuts(after[-1])
    between = behind[: behind.index(states[-1])] if states[-1] in behind else []
    is_other = any(node is states[-1] for node in after) or all(state not in after for state in states)
    return not is_other and any(operation(node) in NORMS for node in [*between[1:], states[-1]] if node)


def unread(flow: Flow, states: Sequence[Node | None]) -> list[str]:
    """The blocks that run on the path after the last state, by name."""
    deepest = states[-1]
    if deepest is None or deepest not in flow.graph:
        return []
    stack = [b.run.name for b in flow.stack if b.after is not deepest and flow.graph.dominates(b.after, deepest)]
    others = [run.name for run in flow.behind(deepest)[0]]
    return [*stack, *(name for name in others if not any(name in (o, *_above(o)) or o in _above(name) for o in stack))]


def _above(name: str) -> list[str]:
    """The names of the modules that hold the one of this name."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def grouped(flow: Flow, states: Sequence[Node | None]) -> list[str]:
    """The blocks of which two or more lie between one state and the next, by name."""
    graph = flow.graph
    known = [node for node in states if node in graph]
    return [
        b.run.name
        for before, after in pairwise(known)
        for several in [
            [b for b in flow.stack if graph.dominates(b.before, before) and graph.dominates(after, b.after)]
        ]
        if len(several) > 1
        for b in several
    ]


def describe(taps: Sequence[Tap]) -> str:
    """Such as ``h_0 = input of layer1.0, h_1 … h_8 = outputs of layer1.0 … layer4.1``."""
    numbered = count()
    parts = []
    for side, group in groupby(taps, key=lambda tap: tap.side):
        names = [tap.name for tap in group]
        first, *others = [next(numbered) for _ in names]
        states = f"h_{first} … h_{others[-1]}" if others else f"h_{first}"
        parts.append(f"{states} = {side}{'s' if others else ''} of {_names(names)}")
    return ", ".join(parts)


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= LISTED else f"{names[0]} … {names[-1]}"


@contextmanager
def reading(taps: Sequence[Tap]) -> Iterator[list[State]]:
    """A list that fills with the states of a forward pass, in the order in which they pass.

    A value is copied and its place in the graph kept when it passes, so that an operation in place changes neither.
    """
    states: list[State] = []

    def keep(tap: Tap, values: Any) -> None:
        states.append(state(nth_tensor(values, tap.which), len(states), tap))

    with hooked(taps, keep):
        yield states


@contextmanager
def hooked(taps: Sequence[Tap], keep: Callable[[Tap, Any], None]) -> Iterator[None]:
    """Inside, ``keep(tap, values)`` is called whenever a tap's values pass."""
    by_side: dict[tuple[nn.Module, str], dict[int | None, Tap]] = {}
    for tap in taps:
        by_side.setdefault((tap.module, tap.side), {})[tap.turn] = tap
    turns: Counter[tuple[nn.Module, str]] = Counter()

    def passed(key: tuple[nn.Module, str], values: Any) -> None:
        turn = turns[key]
        turns[key] += 1
        tap = by_side[key].get(turn) or by_side[key].get(None)
        if tap:
            keep(tap, values)

    def hook(key: tuple[nn.Module, str]) -> Any:
        module, side = key
        if side == INPUT:
            return module.register_forward_pre_hook(lambda _, *given: passed(key, given), with_kwargs=True)
        return module.register_forward_hook(lambda _module, _args, output: passed(key, output))

    handles = [hook(key) for key in by_side]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
            taps.append(_tap(before, OUTPUT) if is_cut and _is_pooled(before, begins) else _tap(begins, INPUT))
        begins, before = None, run
    return taps


def _is_pooled(before: Run, after: Run) -> bool:
    left, taken = before.returned_shape or (), after.given_shape or ()
    return len(taken) == 2 and (len(left) == 3 or (len(left) > 3 and left[1] == taken[1]))


def _is_layer(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False)) and not any(True for _ in module.children())
