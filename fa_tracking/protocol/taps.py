"""Which tensors of a network are its hidden states h_0 … h_L: inputs and outputs of modules, by name or by search."""

import difflib
import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, groupby, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from fa_tracking.protocol.undisturbed import Call

READ_OUTS = ("out_ln", "norm", "out_head", "head")
"""The module whose input is h_L, in the order in which it is looked for."""

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

INPUT, OUTPUT = "input", "output"

LISTED = 8
"""Up to so many modules are all named."""


@dataclass(frozen=True)
class Tap:
    """A place where a hidden state is read: the first tensor that goes into a module, or comes out of it."""

    name: str
    module: nn.Module
    side: str


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
        raise ValueError(f"hidden state {layer} is {shown}")
    return State(h.detach().clone(), get_gradient_edge(h), tap)


def is_chain(states: Sequence[State]) -> bool:
    """Whether each state is computed from the one before it, and is another one."""
    return all(_is_behind(before.edge, after.edge) for before, after in pairwise(states))


def _is_behind(before: GradientEdge, after: GradientEdge) -> bool:
    seen, ahead = {after.node}, [after.node]
    while ahead:
        for node, _ in ahead.pop().next_functions:
            if node == before.node:
                return True
            if node is not None and node not in seen:
                seen.add(node)
                ahead.append(node)
    return False


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
    taps = [Tap(f"blocks.{i}", block, INPUT) for i, block in enumerate(blocks)]
    return [*taps, Tap(name, getattr(model, name), INPUT)]


def found(model: nn.Module, call: Call, inputs: Any) -> list[Tap]:
    """The states of a residual stack, or of a plain chain of layers, found by watching one forward pass.

    The stack is the class of composite modules that together hold most parameters (ResNet's ``BasicBlock``, a
    transformer's encoder layer). Where there is none, an ``nn.Sequential`` of layers is read between its layers, and
    one of containers between these.

    Raises:
        ValueError: there is neither, or where the last state is cannot be told.
    """
    passes = _watch(model, call, inputs)
    if stack := _stack(model):
        taps = _along([p for p in passes if p.name in stack], passes)
    elif any(sum(_is_layer(c) for c in m.children()) > 1 for m in model.modules() if isinstance(m, CONTAINERS)):
        taps = _between([p for p in passes if _is_layer(p.module)])
    else:
        inner = _contained(model)
        taps = _along([p for p in passes if p.name in inner], passes)
    if not taps:
        modules = [name for name, _ in model.named_modules() if name][:LISTED]
        raise ValueError(
            f"{type(model).__name__} shows no hidden states: name the modules whose outputs they are by layers=[…], of "
            f"{', '.join(map(repr, modules)) or 'none'}, or let it serve model(x, return_hidden=True) -> "
            "(logits, [h_0, …, h_L])"
        )
    return taps


def describe(taps: Sequence[Tap]) -> str:
    """Such as ``h_0 = input of layer1.0, h_1 … h_8 = outputs of layer1.0 … layer4.1``."""
    numbered = count()
    parts = []
    for side, group in groupby(taps, key=lambda tap: tap.side):
        names = [tap.name for tap in group]
        first, *others = [next(numbered) for _ in names]
        states = f"h_{first} … h_{others[-1]}" if others else f"h_{first}"
        listed = ", ".join(names) if len(names) <= LISTED else f"{names[0]} … {names[-1]}"
        parts.append(f"{states} = {side}{'s' if others else ''} of {listed}")
    return ", ".join(parts)


@contextmanager
def reading(taps: Sequence[Tap]) -> Iterator[list[State]]:
    """A list that fills with the states of a forward pass, in the order in which they pass.

    A value is copied and its place in the graph kept when it passes, so that an operation in place changes neither.
    """
    states: list[State] = []

    def keep(tap: Tap, values: Any) -> None:
        states.append(state(first_tensor(values), len(states), tap))

    with _hooks(taps, keep):
        yield states


@contextmanager
def _hooks(taps: Sequence[Tap], keep: Callable[[Tap, Any], None]) -> Iterator[None]:
    def hook(tap: Tap) -> Any:
        if tap.side == INPUT:
            return tap.module.register_forward_pre_hook(lambda _, *given: keep(tap, given), with_kwargs=True)
        return tap.module.register_forward_hook(lambda _module, _args, output: keep(tap, output))

    handles = [hook(tap) for tap in {(tap.module, tap.side): tap for tap in taps}.values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(values: Any) -> Tensor | None:
    """The first floating-point tensor in nested tuples, lists and mappings."""
    if isinstance(values, Tensor):
        return values if values.is_floating_point() else None
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, tuple | list):
        return next((t for v in values if (t := first_tensor(v)) is not None), None)
    return None


@dataclass
class _Pass:
    """One run of a module: when it began and ended, what went in and came out."""

    name: str
    module: nn.Module
    began: int
    given: Tensor | None
    ended: int = 0
    returned: Tensor | None = None


def _watch(model: nn.Module, call: Call, inputs: Any) -> list[_Pass]:
    """Every module's runs in one forward pass, in the order of their beginnings."""
    passes: list[_Pass] = []
    under_way: dict[nn.Module, list[_Pass]] = defaultdict(list)
    clock = count()

    def watch(name: str, module: nn.Module) -> list[Any]:
        def before(_module: nn.Module, args: Any, kwargs: Any) -> None:
            passes.append(_Pass(name, module, next(clock), first_tensor((args, kwargs))))
            under_way[module].append(passes[-1])

        def after(_module: nn.Module, _args: Any, output: Any) -> None:
            run = under_way[module].pop()
            run.ended, run.returned = next(clock), first_tensor(output)

        return [module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)]

    handles = [handle for name, module in model.named_modules() for handle in watch(name, module)]
    try:
        with torch.no_grad():
            call(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return passes


def _stack(model: nn.Module) -> set[str]:
    """The names of the composite modules of one class, none within another, that hold most parameters together.

    Of classes that hold at least half as many, the outermost: a stage before the convolutions within it.
    """
    by_class: dict[type, dict[str, nn.Module]] = defaultdict(dict)
    for name, module in model.named_modules():
        outer = by_class[type(module)]
        is_composite = not isinstance(module, CONTAINERS) and any(True for _ in module.children())
        if name and is_composite and not any(name.startswith(f"{above}.") for above in outer):
            outer[name] = module
    stacks = [stack for stack in by_class.values() if len(stack) > 1]
    largest = max(map(_parameters, stacks), default=0)
    outermost = (stack for stack in stacks if 2 * _parameters(stack) >= largest > 0)
    return set(next(outermost, {}))


def _contained(model: nn.Module) -> set[str]:
    """The names of the composite modules in the outermost container that holds several; they may be containers too."""
    for name, module in model.named_modules():
        inner = {
            f"{name}.{child}".lstrip(".") for child, m in module.named_children() if any(True for _ in m.children())
        }
        if isinstance(module, CONTAINERS) and len(inner) > 1:
            return inner
    return set()


def _parameters(modules: Mapping[str, nn.Module]) -> int:
    return sum({id(p): p.numel() for m in modules.values() for p in m.parameters()}.values())


def _along(blocks: Sequence[_Pass], passes: Sequence[_Pass]) -> list[Tap]:
    """Blocks that return the next state: the first one's input and all outputs. Blocks that return a residual branch:
    their inputs, and the input of the first module after them that takes a tensor of the same shape."""
    if not blocks:
        return []
    inputs = [Tap(p.name, p.module, INPUT) for p in blocks]
    if any(before.returned is after.given for before, after in pairwise(blocks)):
        return [inputs[0], *(Tap(p.name, p.module, OUTPUT) for p in blocks)]
    last = blocks[-1]
    after = (p for p in passes if p.began > last.ended and _shape(p.given) == _shape(last.given))
    follower = next(after, None)
    return [*inputs, Tap(follower.name, follower.module, INPUT)] if follower else []


def _shape(tensor: Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape


def _between(layers: Sequence[_Pass]) -> list[Tap]:
    """What goes into each layer but the first; a normalisation belongs to the layer that follows it."""
    taps: list[Tap] = []
    begins: _Pass | None = None
    is_first = True
    for p in layers:
        begins = begins or p
        if isinstance(p.module, NORMALISATIONS):
            continue
        if not is_first:
            taps.append(Tap(begins.name, begins.module, INPUT))
        begins, is_first = None, False
    return taps


def _is_layer(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False)) and not any(True for _ in module.children())
