"""A training step as a flat program of tensor operations, recorded once and played again.

It holds no vmap, no autograd, and none of the Python around them. Played by PyTorch it gives the bits of the step that
it was recorded from; compiled by ``torch.compile`` (on a GPU into CUDA graphs) it gives them but for the order of sums.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from fa_tracking.errors import UsageError
from trainers.method import Penalty, Signals, send

Tensors = Mapping[str, Tensor]
Step = Callable[[Tensors, Tensor, Tensor, Penalty], Signals]
"""step(tensors, x, y, penalty): what one batch sends back."""

UNRECORDED = 3
"""Steps on inputs of a shape before one is recorded, which takes as long as some hundred of them."""

UNCOMPILED = 100
"""Steps before a shape's program is compiled, which takes as long as thousands do: not for an epoch's last."""


class Recorded:
    """Gradients of a step by ``tensors``: a program for each shape of its inputs."""

    def __init__(self, step: Step, tensors: Tensors, compiled: bool = False) -> None:
        """
        Args:
            step: depends on nothing that changes but its arguments, and looks into no tensor.
            tensors: what it reads; those that require a gradient are leaves.
            compiled: whether ``torch.compile`` makes the program of a shape that has come often enough.
        """
        self._step, self._tensors, self._compiled = step, tensors, compiled
        self._programs: dict[Any, Callable[..., Any]] = {}
        self._seen: Counter[Any] = Counter()

    def __call__(self, x: Tensor, y: Tensor, penalty: Penalty) -> tuple[Tensor, Tensor]:
        """Set ``grad`` of every tensor; the mean loss and the logits, detached."""
        key = (x.shape, y.shape, "by cell" if isinstance(penalty, Tensor) else penalty)
        self._seen[key] += 1
        if self._seen[key] <= UNRECORDED:
            loss, logits, grads = self._gradients([*self._tensors.values()], x, y, penalty)
        else:
            if key not in self._programs:
                self._programs[key] = self._recorded(x, y, penalty)
            elif self._compiled and self._seen[key] == UNCOMPILED + 1:
                self._programs[key] = _compiled(self._programs[key], x.device)
            with torch.no_grad():
                loss, logits, grads = self._programs[key](self._values(), x, y, penalty)
        for tensor, grad in zip(self._tensors.values(), grads, strict=True):
            tensor.grad = grad
        return loss, logits

    def _gradients(
        self, values: Sequence[Tensor], x: Tensor, y: Tensor, penalty: Penalty
    ) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        needs = [tensor.requires_grad for tensor in self._tensors.values()]
        with torch.enable_grad():
            leaves = [value.detach().requires_grad_(grad) for value, grad in zip(values, needs, strict=True)]
            found = self._step(dict(zip(self._tensors, leaves, strict=True)), x, y, penalty)
            send(found.sent)
        return found.loss, found.logits, [leaf.grad for leaf in leaves]

    def _recorded(self, x: Tensor, y: Tensor, penalty: Penalty) -> Callable[..., Any]:
        def gradients(values: list[Tensor], x: Tensor, y: Tensor, penalty: Penalty) -> Any:
            return self._gradients(values, x, y, penalty)  # a method's own argument counts as one to be recorded

        record = make_fx(gradients, tracing_mode="fake", _allow_non_fake_inputs=True)
        program: fx.GraphModule = record(self._values(), x, y, penalty)
        return program

    def _values(self) -> list[Tensor]:
        return [tensor.detach() for tensor in self._tensors.values()]


def must_compile(device: str) -> None:
    """Compile next to nothing, which takes some seconds: what is missing for it is said before a run has begun.

    Raises:
        UsageError: ``torch.compile`` does not work here.
    """
    try:
        torch.compile(torch.neg)(torch.ones(8, device=device))
    except Exception as error:
        said = str(error).splitlines()[0]
        raise UsageError(f"--compile needs what torch.compile needs, a C++ compiler such as g++: {said}") from error


def _compiled(program: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """For a GPU as CUDA graphs: a step is then one call, whatever the number of its operations."""
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())  # tells the compiler too
    return torch.compile(program, dynamic=False, mode="reduce-overhead" if device.type == "cuda" else "default")
