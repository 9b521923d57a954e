"""What modules keep as plain attributes while they are measured: derived tensors, lists of running means, objects.

Tensors and arrays are replaced by copies. Lists, mappings and objects stay the very ones, since hooks may hold them
too; what they held before is put back afterwards.
"""

import random
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CODE = (type, ModuleType, BuiltinFunctionType, FunctionType, MethodType, partial, nn.Module)
"""What is left alone: modules have copies of their tensors, and what functions close over may be the user's own log."""
DEEPEST = 3
"""How far objects within objects are looked into, such as a meter that a logger holds."""

STATES: dict[type, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    torch.Generator: (torch.Generator.get_state, torch.Generator.set_state),
    random.Random: (random.Random.getstate, random.Random.setstate),
    np.random.RandomState: (np.random.RandomState.get_state, np.random.RandomState.set_state),
    np.random.Generator: (lambda g: g.bit_generator.state, lambda g, state: setattr(g.bit_generator, "state", state)),
}
"""How the state of a random generator is read and put back."""


class Copies:
    """Copies of tensors and arrays, one of each however often it is asked for, and the way back.

    An object that holds nothing but tensors, arrays, numbers, texts, code, containers and such objects is looked into.
    Any other, such as a trainer that a module knows, is left alone, for other threads may use it: only whether its
    attributes have changed can be told.
    """

    def __init__(self, widened: Callable[[Tensor], Tensor]) -> None:
        """``widened``: what becomes of a tensor's copy."""
        self._widened = widened
        self._known: dict[int, tuple[Any, Any]] = {}  # the value is held too, so that its id stays its own
        self._back: list[Callable[[], Any]] = []
        self._watched: list[tuple[Any, dict[str, tuple[int, int]]]] = []

    def of(self, value: Any) -> Any:
        """What stands in the place of ``value``: a copy, or the value itself with copies within."""
        if id(value) not in self._known:
            self._known[id(value)] = value, value  # it may hold itself
            self._known[id(value)] = value, self._copy(value)
        return self._known[id(value)][1]

    def restore(self) -> None:
        """Put back what every container and object held, and the states of random generators."""
        for undo in reversed(self._back):
            undo()

    def changed(self) -> list[str]:
        """Attributes of objects that were left alone and are not what they were, by name."""
        return [
            f"{type(value).__name__}.{name}"
            for value, before in self._watched
            for name in sorted(before.keys() | vars(value).keys())
            if before.get(name) != _seen(vars(value).get(name))
        ]

    def _copy(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._widened(value.detach().clone())
        if isinstance(value, np.ndarray | bytearray):
            return value.copy()
        if isinstance(value, tuple | frozenset):
            return self._fixed(value)
        if isinstance(value, dict | list | set | deque):
            self._fill(value)
        elif type(value) in STATES:
            read, put = STATES[type(value)]
            state = read(value)
            self._back.append(lambda: put(value, state))
        elif not isinstance(value, CODE):
            if _is_simple(value):
                self._attributes(value)
            elif isinstance(getattr(value, "__dict__", None), dict):
                self._watched.append((value, {name: _seen(each) for name, each in vars(value).items()}))
        return value

    def _fixed(self, value: Any) -> Any:
        items = [self.of(each) for each in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)

    def _fill(self, container: Any) -> None:
        """Copies in the place of what a container holds, by the methods of its built-in type, whatever it adds."""
        kind: Any = next(kind for kind in (OrderedDict, dict, list, set, deque) if isinstance(container, kind))
        before = dict(container.items()) if isinstance(container, dict) else list(container)
        fill = kind.update if isinstance(container, dict | set) else kind.extend

        def put(held: Any) -> None:
            kind.clear(container)
            fill(container, held)

        self._back.append(lambda: put(before))
        if isinstance(before, dict):
            put({k: self.of(v) for k, v in before.items()})
        else:
            put([self.of(each) for each in before])
        if isinstance(getattr(container, "__dict__", None), dict):
            self._attributes(container)

    def _attributes(self, value: Any) -> None:
        """Copies in the place of what an object holds, in its dictionary and its slots."""
        held = getattr(value, "__dict__", None)
        if isinstance(held, dict):
            before = dict(held)
            self._back.append(partial(_refill, held, before))
            held.update({name: self.of(each) for name, each in before.items()})
        for name in _slots(value):
            own = getattr(value, name)
            self._back.append(partial(_set, value, name, own))
            _set(value, name, self.of(own))


def _is_simple(value: Any, depth: int = 0, seen: frozenset[int] = frozenset()) -> bool:
    """Whether a value is a tensor, an array, a number, a text or code, or holds these alone."""
    simple = (str, bytes, bytearray, int, float, complex, Tensor, np.ndarray, np.generic, torch.dtype, torch.device)
    if value is None or isinstance(value, (*simple, *STATES, *CODE)) or id(value) in seen:
        return True
    seen |= {id(value)}
    if isinstance(value, dict):
        return all(_is_simple(each, depth, seen) for each in value.values())
    if isinstance(value, list | tuple | set | frozenset | deque):
        return all(_is_simple(each, depth, seen) for each in value)
    held = getattr(value, "__dict__", None)
    parts = [*(held.values() if isinstance(held, dict) else ()), *(getattr(value, name) for name in _slots(value))]
    return depth < DEEPEST and bool(parts) and all(_is_simple(each, depth + 1, seen) for each in parts)


def _slots(value: Any) -> list[str]:
    names = [vars(kind).get("__slots__", ()) for kind in type(value).__mro__ if kind.__module__ != "builtins"]
    each = [name for slots in names for name in ((slots,) if isinstance(slots, str) else slots)]
    return [name for name in each if not name.startswith("__") and hasattr(value, name)]


def _seen(value: Any) -> tuple[int, int]:
    """What tells that an attribute was set or, of a tensor, written into."""
    return id(value), value._version if isinstance(value, Tensor) and not value.is_inference() else 0


def _refill(held: dict[str, Any], before: dict[str, Any]) -> None:
    held.clear()
    held.update(before)


def _set(value: Any, name: str, to: Any) -> None:
    with suppress(AttributeError, TypeError):  # it may be frozen
        setattr(value, name, to)
