"""Runs any model for a measurement and leaves it bit for bit what it was."""

import copy
import random
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from fa_tracking.protocol.copies import Copies

HALVES = (torch.float16, torch.bfloat16)

Call = Callable[..., Any]
"""call(inputs, **keywords): the model's output for inputs as the model takes them: a tensor, a tuple or a mapping."""

Found = TypeVar("Found")


def undisturbed(
    model: nn.Module, measure: Callable[[Call], Found], precise: bool = False, rejoined: bool = False
) -> Found:
    """What ``measure`` finds by calling ``model``, of which no trace stays in it: mode, gradients, buffers, plain
    attributes, hooks and random state are bit for bit what they were, and so are the inputs.

    Inside, the model is in evaluation mode and holds copies of its parameters, its buffers and the tensors that its
    modules keep as plain attributes. Copies in half precision are widened to float32, where gradients below 6e-8 still
    exist. Autocast, inference mode and ``torch.compile`` are off, reentrant activation checkpoints keep their
    activations, and the hooks of the backward pass are set aside, those of modules and those that the forward pass puts
    on tensors: they may put something else in a gradient's place.

    Args:
        precise: whether copies and inputs are float64.
        rejoined: whether ``tensor.detach()`` in the forward pass is set aside too, so that gradients flow through it.
    """
    model = unwrapped(model)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    widened = _doubled if precise else _widened

    def call(inputs: Any, **keywords: Any) -> Any:
        args, named = arguments(_ready(inputs, device, widened))
        with _SetAside(rejoined):
            return model(*args, **named, **keywords)

    with (
        torch.inference_mode(False),
        evaluation_mode(model),
        random_state(device),
        _no_backward_hooks(model),
        _no_recomputation(),
        _nothing_compiled(),
        torch.autocast(device.type, enabled=False),
        _copies(model, widened),
    ):
        return measure(call)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself behind ``torch.compile`` and data-parallel wrappers."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of a forward pass: a mapping is keywords, a tuple or list positions."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs), {}) if isinstance(inputs, tuple | list) else ((inputs,), {})


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every module's own mode back afterwards."""
    modes = [(module, module.training) for module in all_modules(model)]
    for root in [model, *(module for module, _ in modes if module is not model)]:
        root.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def all_modules(model: nn.Module) -> list[nn.Module]:
    """The modules of a network, and those that they keep in plain lists, mappings and attributes."""
    found: dict[nn.Module, None] = {}
    ahead = [model]
    while ahead:
        for module in ahead.pop().modules():
            if module not in found:
                found[module] = None
                ahead += [kept for name, kept in vars(module).items() if not _is_own(name) for kept in _within(kept)]
    return list(found)


def _is_of_hooks(name: str, held: Any) -> bool:
    return name in _OF_EVERY_MODULE and "_hooks" in name and isinstance(held, dict)


def _is_own(name: str) -> bool:
    return name in _OF_EVERY_MODULE


def _within(value: Any) -> Iterator[nn.Module]:
    seen, ahead = set[int](), [value]
    while ahead:
        each = ahead.pop()
        if isinstance(each, nn.Module):
            yield each
        elif type(each) in (list, tuple, dict, set) and id(each) not in seen:
            seen.add(id(each))
            ahead += each.values() if isinstance(each, dict) else each


def backward_hooked(model: nn.Module) -> list[nn.Module]:
    """The modules whose gradients a hook sees, and may change."""
    return [m for m in all_modules(model) if m._backward_hooks or m._backward_pre_hooks]


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in HALVES else tensor


def _doubled(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _ready(value: Any, device: torch.device, widened: Callable[[Tensor], Tensor]) -> Any:
    """A copy of an input where the model is, wide enough, and, if it is a floating-point one, part of a graph.

    It is no leaf: a forward pass may write into it.
    """
    if isinstance(value, Tensor):
        value = widened(value.detach().clone().to(device))
        grad = torch.is_grad_enabled() and value.is_floating_point()
        return value.requires_grad_().clone() if grad else value
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Mapping):
        return {name: _ready(each, device, widened) for name, each in value.items()}
    if isinstance(value, list | tuple):
        each = [_ready(one, device, widened) for one in value]
        return type(value)(*each) if hasattr(value, "_fields") else type(value)(each)
    if isinstance(getattr(value, "__dict__", None), dict) and any(isinstance(v, Tensor) for v in vars(value).values()):
        copied = copy.copy(value)
        copied.__dict__.update({name: _ready(each, device, widened) for name, each in vars(value).items()})
        return copied
    return value


class _SetAside(TorchFunctionMode):
    """Inside, in this thread, ``tensor.register_hook(…)`` registers nothing; nor does ``detach()`` cut where asked."""

    def __init__(self, rejoined: bool) -> None:
        super().__init__()
        self._rejoined = rejoined

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.register_hook, Tensor.register_post_accumulate_grad_hook):
            return RemovableHandle(OrderedDict())
        if self._rejoined and func in (Tensor.detach, torch.detach):
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def random_state(device: torch.device) -> Iterator[None]:
    """Inside, random numbers may be drawn, on the CPU and on ``device``; afterwards nothing tells."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def _copies(model: nn.Module, widened: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Copies in the place of parameters, buffers and plain attributes, one wherever the same tensor stands.

    Not by ``torch.func.functional_call``: of a module that is registered under two names it restores the wrong tensor.
    Every weight's copy begins a graph, whether the weight is frozen or not.
    """
    modules = [m for m in all_modules(model) if not isinstance(m, torch.jit.ScriptModule)]
    holders: list[dict[str, Any]] = [held for m in modules for held in (m._parameters, m._buffers)]
    kept = [(held, dict(held)) for held in [*holders, *map(vars, modules)]]
    copies = Copies(widened)
    for held, own in kept[: len(holders)]:
        held.update({name: copies.of(tensor) for name, tensor in own.items()})
    for weight in {id(p): p for held in holders[::2] for p in held.values() if p is not None}.values():
        weight.requires_grad_(weight.is_floating_point())
    hooks = [(held, dict(held)) for m in modules for name, held in vars(m).items() if _is_of_hooks(name, held)]
    try:
        for held, own in kept[len(holders) :]:
            held.update({name: copies.of(value) for name, value in own.items() if not _is_own(name)})
        yield
    finally:
        copies.restore()
        for held, own in [*kept, *hooks]:
            held.clear()
            held.update(own)
        if changed := copies.changed():
            print(f"measuring has changed {', '.join(changed)}, which {type(model).__name__} knows of", file=sys.stderr)


_OF_EVERY_MODULE = vars(nn.Module()).keys()


@contextmanager
def _no_backward_hooks(model: nn.Module) -> Iterator[None]:
    kept = [(m, m._backward_hooks, m._backward_pre_hooks) for m in backward_hooked(model)]
    for module, hooks, _ in kept:
        module._backward_hooks, module._backward_pre_hooks = type(hooks)(), type(hooks)()
    try:
        yield
    finally:
        for module, hooks, pre_hooks in kept:
            module._backward_hooks, module._backward_pre_hooks = hooks, pre_hooks


def _nothing_compiled() -> AbstractContextManager[Any]:
    """What is compiled runs as it was written. Where nothing has loaded the compiler there is nothing to ask of it, and
    asking takes a second."""
    has_compiler = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if has_compiler else nullcontext()


@contextmanager
def _no_recomputation() -> Iterator[None]:
    """Reentrant checkpoints refuse ``autograd.grad``: inside, they run what they wrap as it is."""
    kept = torch.utils.checkpoint.CheckpointFunction
    direct = SimpleNamespace(apply=lambda function, _preserve, *args: function(*args))
    torch.utils.checkpoint.CheckpointFunction = direct  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        torch.utils.checkpoint.CheckpointFunction = kept  # type: ignore[misc]
