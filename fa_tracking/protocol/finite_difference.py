"""The loss as a function of one state, and its derivative along a direction by finite differences."""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from fa_tracking.protocol import taps
from fa_tracking.protocol.outputs import logits_of
from fa_tracking.protocol.runs import nth_tensor, place, tensors
from fa_tracking.protocol.taps import Tap
from fa_tracking.protocol.undisturbed import Call

STEP = 1e-6


STEPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
"""Of the size of h_0; the other steps are tried where at the first the difference has no clear error."""


CLEAR = 1e-4
"""Relative error up to which a finite difference is exact enough."""


VAGUE = 0.1
"""Relative error beyond which it says nothing."""


AGREES, NARROW_AGREES = 3e-4, 0.05
"""Relative difference from which on a gradient is another one: taken in float64, and in the network's own type."""


class NotChecked(Exception):  # noqa: N818  it is no failure
    """Why no finite difference can be taken."""


def some(inputs: Any, batch: int, samples: int) -> Any:
    """Samples from all over a batch; None where they cannot be told, or the batch has no more."""
    if batch <= samples:
        return None
    if isinstance(inputs, Tensor):
        index = torch.arange(samples, device=inputs.device) * batch // samples
        return inputs[index] if inputs.ndim and len(inputs) == batch else None
    if isinstance(inputs, Mapping):
        return {k: v if (cut := some(v, batch, samples)) is None else cut for k, v in inputs.items()}
    if type(inputs) in (list, tuple):
        return type(inputs)(v if (cut := some(v, batch, samples)) is None else cut for v in inputs)
    return None


COUPLED = (
    "a sample's logits depend on the other samples of its batch: every number here depends on how the batches were made"
)


class Function:
    """φ of the state h_0, and its gradient by autograd."""

    def __init__(
        self, call: Call, network: nn.Module, inputs: Any, at: Tap | None, slope: Tensor | None = None
    ) -> None:
        """``slope``: the gradient as it was found in another type; by autograd here where None."""
        self._call, self._inputs, self._at, self._maker = call, inputs, at, None
        self._agrees, self._is_clear = (AGREES if slope is None else NARROW_AGREES), False
        self.last = (math.nan, math.nan)
        watched = _Watched()
        h, node, logits = self._run(watched)
        edge = self._edge
        self.is_narrowed, self.logits = watched.is_narrowed, logits.detach()
        if not self.logits.isfinite().all():
            raise NotChecked("its logits are not finite")
        self._made, self._state = watched.made.get(node), h
        self._maker = None if self._made is not None else self._made_by(network)
        self._draw = torch.Generator(device="cpu").manual_seed(1)
        self._weights = torch.randn(logits.shape, generator=self._draw, dtype=torch.float64).to(logits.device)
        with torch.enable_grad():
            value = (logits * self._weights).sum()
        self._value = float(value.detach())
        self._functions = _own_functions(logits)
        if slope is None:
            if edge is None:
                raise NotChecked("no gradient can be asked for at h_0")
            (slope,) = torch.autograd.grad(value, [edge])
        self.slope = slope

    def suspects(self) -> str:
        """The Python-defined autograd functions in the backward pass, which may be what makes it another one."""
        return f"; the backward pass runs the model's own {', '.join(self._functions)}" if self._functions else ""

    def coupling(self) -> list[str]:
        """The remark on a network whose samples depend on each other."""
        half = some(self._inputs, len(self.logits), len(self.logits) // 2) if len(self.logits) > 1 else None
        if half is None or self.is_narrowed:
            return []
        try:
            _reset_random()
            alone = logits_of(self._call(half)).detach()
        except Exception:  # it takes no fewer samples
            return []
        whole = self.logits[torch.arange(len(alone)) * len(self.logits) // len(alone)]
        is_same = torch.allclose(alone, whole, rtol=0, atol=1e-6 * float(whole.abs().max()))
        return [] if is_same or not self.is_repeatable() else [COUPLED]

    def is_repeatable(self) -> bool:
        """Whether the network computes the same again."""
        return torch.equal(self._run(_Watched())[2].detach(), self.logits)

    def agrees(self, is_first: bool) -> bool | None:
        """Whether gradient and finite difference agree along a random direction; None: the difference does not tell."""
        direction = self._direction()
        slope = float((self.slope.detach().double() * direction).sum())
        if self._is_clear:  # at the first direction: a second look, without its error
            difference = self._central(direction, STEP)
            if abs(slope - difference) <= self._agrees * max(abs(slope), abs(difference)):
                return True
        error, difference = self._difference(direction, STEP) if not self.is_narrowed else (math.inf, 0.0)
        self._is_clear = error <= CLEAR * max(abs(slope), abs(difference))
        if not error <= CLEAR * max(abs(slope), abs(difference)):
            error, difference = min(self._difference(direction, step) for step in STEPS)
        size = max(abs(slope), abs(difference))
        if is_first or not abs(slope - difference) <= self._agrees * size:
            self.last = slope, difference
        if slope == difference == 0:
            return True
        if not error <= VAGUE * size:
            return None
        return abs(slope - difference) <= 10 * error + self._agrees * size

    def _difference(self, direction: Tensor, step: float) -> tuple[float, float]:
        """The difference's own error, and the difference."""
        one, half = (self._central(direction, s) for s in (step, step / 2))
        error = abs(half - one) / 3 + 1e-15 * abs(self._value) / step
        better = half + (half - one) / 3  # Richardson: the error of a central difference falls by four
        return (error, better) if math.isfinite(error) else (math.inf, better)

    def _central(self, direction: Tensor, step: float) -> float:
        return (self._moved_by(direction, step) - self._moved_by(direction, -step)) / (2 * step)

    def _direction(self) -> Tensor:
        """Random, of the size of each sample's state; 0 where the state is, for that may be the edge of a ReLU."""
        h = self._state
        drawn = torch.randn(h.shape, generator=self._draw, dtype=torch.float64).to(h.device)
        if h.ndim < 2 or not h.any():
            return drawn
        own = h.flatten(1).norm(dim=1) / math.sqrt(h[0].numel())
        own = torch.where(own > 0, own, torch.ones_like(own)).reshape(-1, *[1] * (h.ndim - 1))
        return drawn * own * (h != 0)

    def _moved_by(self, direction: Tensor, step: float) -> float:
        logits = self._run(_Watched(self._made, step * direction), self._moving(step * direction))[2]
        return float((logits.detach().double() * self._weights).sum())

    def _made_by(self, network: nn.Module) -> Tap:
        """The module that returns h_0 first, where no call of torch makes it, as a custom autograd function does."""
        places = [taps.Tap(name, module, taps.OUTPUT) for name, module in network.named_modules() if name]
        turns: Counter[nn.Module] = Counter()
        found: list[Tap] = []

        def look(tap: Tap, values: Any) -> None:
            h = nth_tensor(values, 0)
            is_alike = h is not None and h.requires_grad and h.shape == self._state.shape
            if not found and is_alike and torch.equal(h.detach(), self._state):  # type: ignore[union-attr]
                found.append(replace(tap, turn=turns[tap.module]))
            turns[tap.module] += 1

        with taps.hooked(places, look):
            self._run(_Watched())
        if not found:
            raise NotChecked("h_0 is made by an operation that cannot be moved")
        return found[0]

    def _moving(self, by: Tensor) -> AbstractContextManager[None]:
        """Inside, what the module that makes h_0 returns is moved."""
        if self._maker is None:
            return nullcontext()

        def move(_: Tap, values: Any) -> None:
            h = nth_tensor(values, 0)
            assert h is not None
            h.data.add_(by.to(h.dtype))

        return taps.hooked([self._maker], move)

    def _run(
        self, watched: "_Watched", moving: AbstractContextManager[None] | None = None
    ) -> tuple[Tensor, Node | None, Tensor]:
        """h_0, its place in the graph, and the logits of one forward pass."""
        seen: list[tuple[Tensor, Node | None]] = []

        def keep(tap: Tap, values: Any) -> None:
            h = nth_tensor(values, tap.which)
            if h is not None and not seen:
                self._edge = torch.autograd.graph.get_gradient_edge(h) if h.requires_grad else None
                seen.append((h.data.clone(), place(h)))

        _reset_random()
        with torch.enable_grad(), taps.hooked([self._at] if self._at else [], keep), moving or nullcontext(), watched:
            output = self._call(self._inputs, **({} if self._at else {"return_hidden": True}))
        if not self._at:
            h = output[1][0]
            self._edge = torch.autograd.graph.get_gradient_edge(h)
            seen.append((h.data.clone(), place(h)))
            output = output[0]
        if not seen:
            raise NotChecked("h_0 is not made")
        return *seen[0], logits_of(output)


def _reset_random() -> None:
    """So that whatever a forward pass draws, it draws the same each time."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


class _Watched(TorchFunctionMode):
    """Inside, the calls of torch are counted; the result of one of them is moved.

    Attributes:
        made: by place in the graph the number of the call that made it.
        is_narrowed: whether a float64 tensor was made a narrower one.
    """

    def __init__(self, moved: int | None = None, by: Tensor | None = None) -> None:
        super().__init__()
        self.made: dict[Node | None, int] = {}
        self.is_narrowed = False
        self._number, self._moved, self._by = -1, moved, by

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self._number += 1
        results = [found] if isinstance(found, Tensor) else [*tensors(found)]
        if self._moved is None:
            for result in results:
                if result.grad_fn is not None:
                    self.made.setdefault(result.grad_fn, self._number)
            if not self.is_narrowed and any(t.is_floating_point() and t.dtype != torch.float64 for t in results):
                self.is_narrowed = any(t.dtype == torch.float64 for t in tensors((args, kwargs or {})))
        elif self._number == self._moved and self._by is not None:
            return self._with_move(found, results)
        return found

    def _with_move(self, found: Any, results: Sequence[Tensor]) -> Any:
        """What a call returned, moved: another tensor in its place, or, where it wrote into one, that one."""
        assert self._by is not None
        wrote = isinstance(found, Tensor) and found._version > 0
        for result in results:
            if result.shape == self._by.shape:
                by = self._by.to(result.dtype)
                if found is result and not wrote:
                    return result + by
                result.data.add_(by)
                return found
        raise NotChecked("h_0 cannot be moved")


def _own_functions(logits: Tensor) -> list[str]:
    """The Python-defined autograd functions behind ``logits``: feedback alignment is often written as one."""
    names, seen, ahead = set(), set(), [logits.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead += [following for following, _ in node.next_functions]
            if hasattr(node, "_forward_cls"):
                names.add(type(node).__name__.removesuffix("Backward"))
    return sorted(names)
