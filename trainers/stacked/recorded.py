"""A function of tensors as a flat program of tensor operations, recorded once and played again.

It holds no vmap, no autograd, and none of the Python around them. Played by PyTorch it gives the bits of the function
that it was recorded from; compiled by ``torch.compile`` (on a GPU into CUDA graphs) it gives them but for the order of
sums.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_map_only

from fa_tracking.errors import UsageError

Program = Callable[..., Any]
"""program(values, *inputs): tensors in nested tuples and lists."""

UNRECORDED = 3
"""Calls on inputs of a shape before one is recorded, which takes as long as some hundred of them."""

UNCOMPILED = 100
"""Calls before a shape's program is compiled, which takes as long as thousands do: not for an epoch's last batch."""


class Recorded:
    """A function of tensors and of inputs: a program for each shape of the inputs."""

    def __init__(self, function: Program, compiled: bool = False, unrecorded: int | None = None) -> None:
        """
        Args:
            function: depends on nothing that changes but its arguments, and looks into no tensor.
            compiled: whether ``torch.compile`` makes the program of a shape that has come often enough.
            unrecorded: in the place of ``UNRECORDED``.
        """
        self._function, self._compiled = function, compiled
        self._unrecorded = UNRECORDED if unrecorded is None else unrecorded
        self.programs: dict[Any, Program] = {}
        self._seen: Counter[Any] = Counter()

    def __call__(self, values: Sequence[Tensor], *inputs: Any) -> Any:
        """What the function returns. On a GPU a compiled program returns the same tensors each time."""
        key = tuple(each.shape if isinstance(each, Tensor) else each for each in inputs)
        self._seen[key] += 1
        if self._seen[key] <= self._unrecorded:
            return self._function(values, *inputs)
        if key not in self.programs:
            self.programs[key] = self._recorded(values, *inputs)
        elif self._compiled and self._seen[key] == max(UNCOMPILED, self._unrecorded + 1) + 1:
            self.programs[key] = _compiled(self.programs[key], values[0].device)
        with torch.no_grad():
            return self.programs[key](values, *inputs)

    def _recorded(self, values: Sequence[Tensor], *inputs: Any) -> Program:
        def function(values: list[Tensor], *inputs: Any) -> Any:
            return self._function(values, *inputs)  # a method's own argument counts as one to be recorded

        program: fx.GraphModule = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(values, *inputs)
        return program


def kept(found: Any) -> Any:
    """Copies of what a program returned, for use after its next call."""
    return tree_map_only(Tensor, torch.clone, found)


def must_compile(device: str) -> None:
    """Compile next to nothing, which takes some seconds: what is missing for it is said before a run has begun.

    Raises:
        UsageError: ``torch.compile`` does not work here.
    """
    try:
        torch.compile(torch.neg)(torch.ones(8, device=device))
    except Exception as error:
        said = str(error).splitlines()[0]
        raise UsageError(f"--compile needs a C++ compiler such as g++ for torch.compile: {said}") from error


def _compiled(program: Program, device: torch.device) -> Program:
    """For a GPU as CUDA graphs: a program is then one call, whatever the number of its operations."""
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())  # tells the compiler too
    return torch.compile(program, dynamic=False, mode="reduce-overhead" if device.type == "cuda" else "default")
