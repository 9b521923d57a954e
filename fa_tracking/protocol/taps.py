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

from fa_tracking.protocol.flow import CONTAINERS, Block, Flow, Run, first_tensor

READ_OUTS = ("out_ln", "norm", "out_head", "head")
"""The module whose input is h_L, in the order in which it is looked for."""

NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

INPUT, OUTPUT = "input", "output"

BY_NAME = "name the modules whose outputs they are, as in layers=['layer1', 'layer2']"

LISTED = 8
"""Up to so many modules are all named."""


@dataclass(frozen=True)
class Tap:
    """A place where a hidden state is read: the first tensor that goes into a module, or comes out of it.

    Attributes:
        turn: of the module's runs in a forward pass only this one, counted from 0; None: each gives a state.
    """

    name: str
    module: nn.Module
    side: str
    turn: int | None = None

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
        shown = "no tensor" if h is None else "a tensor without a graph: detached, or computed under no_grad"
        where = f" ({tap})" if tap else ""
        raise ValueError(
            f"hidden state {layer}{where} is {shown}; name modules whose outputs are used as they are: layers=[…]"
        )
    return State(h.detach().clone(), get_gradient_edge(h), tap)


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
        lambda: _between([run for run in flow.runs if _is_layer(run.module)]) if layered and not flow.blocks else [],
        lambda: _of_blocks(flow, flow.blocks_among(_contained(model))),
        lambda: _of_blocks(flow, flow.blocks_among(_items(model))),
    ]
    refused = ""
    for attempt in attempts:
        try:
            taps = attempt()
        except ValueError as error:
            refused = refused or str(error)
            continue
        if taps and follow(flow, places(flow, taps)):
            return taps
        refused = refused or (describe(taps) if taps else "")
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
        beside, own = _listed([run.name for run in parallel]), _listed([b.run.name for b in blocks])
        raise ValueError(f"{beside} run beside {own}, and")
    return along(blocks, flow)


def along(blocks: Sequence[Block], flow: Flow) -> list[Tap]:
    """The states before, between and after blocks: what goes into the first, and what comes out of each. Of a block
    that returns its residual branch it is what goes into the next, or into the first module after the last one that
    takes a tensor of its shape; empty where there is none such."""
    if not blocks:
        return []
    taps = [_tap(blocks[0].run, INPUT)]
    for block, following in pairwise([*blocks, None]):
        assert block is not None
        if not block.is_branch:
            taps.append(_tap(block.run, OUTPUT))
        elif following is not None:
            taps.append(_tap(following.run, INPUT))
        elif reader := _reader(block, flow):
            taps.append(_tap(reader, INPUT))
        else:
            return []
    return taps


def _tap(run: Run, side: str) -> Tap:
    return Tap(run.name, run.module, side, run.turn)


def _reader(last: Block, flow: Flow) -> Run | None:
    """The first module after a block that takes the state behind it, or what it became, in the same shape."""
    return next(
        (
            run
            for run in flow.runs
            if run.began > last.run.ended
            and run.given_shape == last.run.given_shape
            and run.given in flow.graph
            and flow.graph.dominates(run.given, last.after)  # type: ignore[arg-type]
        ),
        None,
    )


def places(flow: Flow, taps: Sequence[Tap]) -> list[Node | None]:
    """Where in the graph the states of ``taps`` stand, in the order in which they pass."""
    wanted = {(tap.module, tap.side, tap.turn) for tap in taps}
    passed = []
    for run in flow.runs:
        for side, clock, node in ((INPUT, run.began, run.given), (OUTPUT, run.ended, run.returned)):
            if {(run.module, side, run.turn), (run.module, side, None)} & wanted:
                passed.append((clock, node))
    return [node for _, node in sorted(passed, key=lambda each: each[0])]


def seen_at(flow: Flow, node: Node | None) -> Tap | None:
    """A module that takes or returns the state at ``node``; None where none does."""
    given = (run for run in flow.runs[1:] if node is not None and run.given is node)
    returned = (run for run in reversed(flow.runs[1:]) if node is not None and run.returned is node)
    if run := next(given, None):
        return _tap(run, INPUT)
    return _tap(run, OUTPUT) if (run := next(returned, None)) else None


def follow(flow: Flow, states: Sequence[Node | None]) -> bool:
    """Whether each state is a cut for the one before it, and another one."""
    graph = flow.graph
    return all(
        before in graph and after in graph and before is not after and graph.dominates(after, before)  # type: ignore[arg-type]
        for before, after in pairwise(states)
    )


def is_chain(flow: Flow, states: Sequence[Node | None]) -> bool:
    """Whether each state is computed from the one before it, and another one."""
    return all(
        before is not None and after is not None and before is not after and after in flow.graph.made_of(before)
        for before, after in pairwise(states)
    )


def unread(flow: Flow, states: Sequence[Node | None]) -> list[str]:
    """The blocks that run on the path after the last state, by name."""
    deepest = states[-1]
    if deepest not in flow.graph:
        return []
    return [
        b.run.name
        for b in flow.blocks
        if b.after is not deepest and flow.graph.dominates(b.after, deepest)  # type: ignore[arg-type]
    ]


def grouped(flow: Flow, states: Sequence[Node | None]) -> list[str]:
    """The blocks of which two or more lie between one state and the next, by name."""
    graph = flow.graph
    known = [node for node in states if node in graph]
    return [
        b.run.name
        for before, after in pairwise(known)
        for several in [
            [b for b in flow.blocks if graph.dominates(b.before, before) and graph.dominates(after, b.after)]  # type: ignore[arg-type]
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
        parts.append(f"{states} = {side}{'s' if others else ''} of {_listed(names)}")
    return ", ".join(parts)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= LISTED else f"{names[0]} … {names[-1]}"


@contextmanager
def reading(taps: Sequence[Tap]) -> Iterator[list[State]]:
    """A list that fills with the states of a forward pass, in the order in which they pass.

    A value is copied and its place in the graph kept when it passes, so that an operation in place changes neither.
    """
    states: list[State] = []

    def keep(tap: Tap, values: Any) -> None:
        states.append(state(first_tensor(values), len(states), tap))

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


def _contained(model: nn.Module) -> list[nn.Module]:
    """The composite modules in the outermost container that holds several; they may be containers too."""
    for module in model.modules():
        inner = [child for child in module.children() if any(True for _ in child.children())]
        if isinstance(module, CONTAINERS) and len(inner) > 1:
            return inner
    return []


def _items(model: nn.Module) -> list[nn.Module]:
    """What stands in the outermost list of several modules."""
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList | nn.ModuleDict))
    return next((list(m.children()) for m in lists if len(list(m.children())) > 1), [])


def _between(layers: Sequence[Run]) -> list[Tap]:
    """What goes into each layer but the first; a normalisation belongs to the layer that follows it."""
    taps: list[Tap] = []
    begins: Run | None = None
    is_first = True
    for run in layers:
        begins = begins or run
        if isinstance(run.module, NORMALISATIONS):
            continue
        if not is_first:
            taps.append(_tap(begins, INPUT))
        begins, is_first = None, False
    return taps


def _is_layer(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False)) and not any(True for _ in module.children())
