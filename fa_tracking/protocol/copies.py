"""What modules keep as plain attributes while they are measured: derived tensors, lists of running means, objects.

Tensors and arrays are replaced by copies. Lists, mappings and objects stay the very ones, since hooks may hold them
too; what they held before is put back afterwards.
"""

import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MAPPINGS = (dict, OrderedDict, defaultdict, Counter)
SEQUENCES = (list, set, deque)
FIXED = (tuple, frozenset)
CODE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, partial, nn.Module)
"""What is left alone: modules have copies of their tensors, and code has no state of its own."""

STATES: dict[type, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    torch.Generator: (torch.Generator.get_state, torch.Generator.set_state),
    random.Random: (random.Random.getstate, random.Random.setstate),
    np.random.RandomState: (np.random.RandomState.get_state, np.random.RandomState.set_state),
    np.random.Generator: (lambda g: g.bit_generator.state, lambda g, state: setattr(g.bit_generator, "state", state)),
}
"""How the state of a random generator is read and put back."""


class Copies:
    """Copies of tensors and arrays, one of each however often it is asked for, and the way back.

    An object is looked into where it holds nothing but tensors, arrays, numbers, texts, code and containers of these.
    Of any other, such as a trainer that a module knows, the attributes are only put back.
    """

    def __init__(self, widened: Callable[[Tensor], Tensor]) -> None:
        """``widened``: what becomes of a tensor's copy."""
        self._widened = widened
        self._known: dict[int, tuple[Any, Any]] = {}  # the value is held too, so that its id stays its own
        self._back: list[Callable[[], Any]] = []

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

    def _copy(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._widened(value.detach().clone())
        if isinstance(value, np.ndarray):
            return value.copy()
        if isinstance(value, FIXED):
            return self._fixed(value)
        if type(value) in MAPPINGS or type(value) in SEQUENCES:
            self._fill(value)
        elif type(value) in STATES:
            read, put = STATES[type(value)]
            state = read(value)
            self._back.append(lambda: put(value, state))
        elif not isinstance(value, CODE) and isinstance(getattr(value, "__dict__", None), dict):
            self._fill(vars(value), looked_into=all(map(_is_plain, vars(value).values())))
        return value

    def _fixed(self, value: Any) -> Any:
        items = [self.of(each) for each in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)

    def _fill(self, container: Any, looked_into: bool = True) -> None:
        """Copies in the place of what a container holds."""
        before = type(container)(container) if type(container) is not defaultdict else dict(container)
        fill = container.update if isinstance(container, dict | set) else container.extend

        def back() -> None:
            container.clear()
            fill(before)

        self._back.append(back)
        if looked_into:
            copies = {k: self.of(v) for k, v in before.items()} if isinstance(before, dict) else [*map(self.of, before)]
            container.clear()
            fill(copies)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | bytes | int | float | complex) or _is_known(value)


def _is_known(value: Any) -> bool:
    if type(value) in MAPPINGS:
        return all(map(_is_plain, value.values()))
    if type(value) in SEQUENCES or isinstance(value, FIXED):
        return all(map(_is_plain, value))
    known = (Tensor, np.ndarray, np.generic, torch.dtype, torch.device, *STATES, *CODE)
    return isinstance(value, known)
