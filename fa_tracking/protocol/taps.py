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

from fa_tracking.protocol.flow import NORMS, Flow
from fa_tracking.protocol.graph import operation
from fa_tracking.protocol.runs import Run, nth_tensor

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
            return tap_of(run, INPUT, taken.index(node))
    for run in reversed(flow.runs[1:]):
        if node in (made := [value.node for value in run.returns]):
            return tap_of(run, OUTPUT, made.index(node))
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
        parts.append(f"{states} = {side}{'s' if others else ''} of {in_short(names)}")
    return ", ".join(parts)


def in_short(names: Sequence[str]) -> str:
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


def tap_of(run: Run, side: str, which: int = 0) -> Tap:
    return Tap(run.name, run.module, side, run.turn, which)
