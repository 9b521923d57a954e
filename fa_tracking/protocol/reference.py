"""Whether the gradient that autograd returns is BP's: the derivative of the function that the network computes.

Feedback alignment is written as a custom autograd function, a hook, a detached branch; then the backward pass is not
the derivative of the forward pass. Whatever the way, a finite difference tells: φ = ⟨logits, r⟩ for a random r, moved
along a random direction v at h_0, in float64, against ⟨∂φ/∂h_0, v⟩. The tolerance comes from the difference's own
error, by two step sizes.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

from fa_tracking.protocol import taps
from fa_tracking.protocol.diagnostics import Reference
from fa_tracking.protocol.flow import first_tensor, tensors
from fa_tracking.protocol.outputs import logits_of
from fa_tracking.protocol.taps import Tap
from fa_tracking.protocol.undisturbed import Call, undisturbed

SAMPLES = 4
STEP = 1e-6
STEPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
DIRECTIONS = 3
AGREES = 1e-3
"""Relative difference from which on a gradient is another one, where the finite difference is as exact."""
NARROW_AGREES = 0.05
"""The same where the gradient was taken in float32."""
VAGUE = 0.1
"""Relative error beyond which a finite difference says nothing."""


class NotChecked(Exception):  # noqa: N818  it is no failure
    """Why no finite difference can be taken."""


def check(
    network: nn.Module, inputs: Any, batch: int, place: Tap | None, rejoined: bool
) -> tuple[Reference, list[str]]:
    """Whether the gradient at the states is BP's, and what a reader must know of it.

    Args:
        inputs, batch: of a batch, as the network takes them, and its number of samples.
        place: where h_0 is read; where None, or where h_0 cannot be moved, the network's weights are.
        rejoined: whether the gradient flows through ``detach()``.
    """
    few = _first(inputs, batch, SAMPLES)
    given = inputs if few is None else few
    problem: Exception | None = None
    for data, at in [(given, place), *([(given, None)] if place else []), (inputs, place)]:
        try:
            return _held_against_difference(network, data, at, rejoined)
        except NotChecked as error:
            problem = error
            break
        except Exception as error:  # whatever a forward pass in float64, of few samples or of a moved state may raise
            problem = problem or error
    reason = str(problem).strip().partition("\n")[0]
    return Reference.NOT_CHECKED, [f"the reference gradient is not checked: {reason:.160}"]


def _held_against_difference(
    network: nn.Module, inputs: Any, place: Tap | None, rejoined: bool
) -> tuple[Reference, list[str]]:
    """By the gradient in float64; where only the backward pass does not run in it, by that in the network's own type."""
    try:
        return undisturbed(network, lambda call: _checked(_Function(call, network, inputs, place)), True, rejoined)
    except NotChecked:
        raise
    except Exception:
        own = undisturbed(network, lambda call: _Function(call, network, inputs, place).slopes, False, rejoined)
        return undisturbed(network, lambda call: _checked(_Function(call, network, inputs, place, own)), True, rejoined)


def _first(inputs: Any, batch: int, samples: int) -> Any:
    """The first samples of a batch; None where they cannot be told."""
    if batch <= samples:
        return None
    if isinstance(inputs, Tensor):
        return inputs[:samples] if inputs.ndim and len(inputs) == batch else None
    if isinstance(inputs, Mapping):
        return {k: v if (cut := _first(v, batch, samples)) is None else cut for k, v in inputs.items()}
    if type(inputs) in (list, tuple):
        return type(inputs)(v if (cut := _first(v, batch, samples)) is None else cut for v in inputs)
    return None


def _checked(function: "_Function") -> tuple[Reference, list[str]]:
    remarks = function.coupling()
    verdicts = []
    for number in range(DIRECTIONS):
        agrees = function.agrees(number)
        if agrees:
            return Reference.CHECKED, remarks
        verdicts.append(agrees)
    if function.is_narrowed:
        raise NotChecked("the network computes in less than float64")
    if verdicts.count(False) * 2 > DIRECTIONS:
        slope, difference = function.last
        where = "of its weights" if function.place is None else "at h_0"
        told = f"along a random direction {where} autograd has {slope:.4g}, a finite difference {difference:.4g}"
        return Reference.NOT_BP, [f"the reference gradient is not BP's: {told}{function.suspects()}", *remarks]
    raise NotChecked("finite differences do not settle")


COUPLED = (
    "a sample's logits depend on the other samples of its batch, as by BatchNorm without running statistics: every "
    "number here depends on how the batches were made"
)


class _Function:
    """φ of the state h_0, or of the weights where no place of h_0 is known, and its gradient by autograd."""

    def __init__(
        self,
        call: Call,
        network: nn.Module,
        inputs: Any,
        place: Tap | None,
        slopes: Sequence[Tensor | None] | None = None,
    ) -> None:
        """``slopes``: the gradient as it was found in another type; by autograd here where None."""
        self._call, self._inputs, self.place = call, inputs, place
        self._agrees = AGREES if slopes is None else NARROW_AGREES
        self.last = (math.nan, math.nan)
        precision = _Precision()
        moved: list[tuple[GradientEdge | Tensor, Tensor]] = []
        with (
            torch.enable_grad(),
            precision,
            self._at_place(lambda h: moved.append((get_gradient_edge(h), h.detach().clone()))),
        ):
            torch.manual_seed(0)
            logits = logits_of(call(inputs))
        self.is_narrowed = precision.is_narrowed
        self.logits = logits.detach()
        if not self.logits.isfinite().all():
            raise NotChecked("its logits are not finite")
        self._draw = torch.Generator(device="cpu").manual_seed(1)
        self._weights = torch.randn(logits.shape, generator=self._draw, dtype=torch.float64).to(logits.device)
        with torch.enable_grad():
            value = (logits * self._weights).sum()
        self._value = float(value.detach())
        at = moved[:1] if place else [(p, p) for p in network.parameters() if p.requires_grad]
        self._functions = _own_functions(logits)
        if slopes is None:
            slopes = torch.autograd.grad(value, [edge for edge, _ in at], allow_unused=True)
        self.slopes = slopes
        self._moved = [(moved, g) for (_, moved), g in zip(at, slopes, strict=True) if g is not None]
        if not self._moved:
            raise NotChecked("no gradient reaches h_0")

    def suspects(self) -> str:
        """The Python-defined autograd functions in the backward pass, which may be what makes it another one."""
        return f"; the backward pass runs the model's own {', '.join(self._functions)}" if self._functions else ""

    def coupling(self) -> list[str]:
        """The remark on a network whose samples depend on each other."""
        half = _first(self._inputs, len(self.logits), len(self.logits) // 2) if len(self.logits) > 1 else None
        if half is None or self.is_narrowed:
            return []
        try:
            with torch.no_grad():
                torch.manual_seed(0)
                alone = logits_of(self._call(half))
        except Exception:  # it takes no fewer samples
            return []
        whole = self.logits[: len(alone)]
        is_same = torch.allclose(alone, whole, rtol=0, atol=1e-6 * float(whole.abs().max()))
        return [] if is_same else [COUPLED]

    def agrees(self, number: int) -> bool | None:
        """Whether gradient and finite difference agree along a random direction; None: the difference does not tell."""
        directions = [self._direction(value) for value, _ in self._moved]
        slope = sum(float((g.double() * v).sum()) for (_, g), v in zip(self._moved, directions, strict=True))
        found = [self._judged(slope, directions, STEP)] if number == 0 and not self.is_narrowed else []
        if found and found[0][0]:
            return True
        found += [self._judged(slope, directions, step) for step in STEPS]
        if any(agrees for agrees, *_ in found):
            return True
        error, _, difference = min((error, step, difference) for _, error, step, difference in found)
        self.last = slope, difference
        return None if not error <= VAGUE * max(abs(slope), abs(difference)) else False

    def _judged(self, slope: float, directions: Sequence[Tensor], step: float) -> tuple[bool, float, float, float]:
        """Whether they agree within the difference's own error, that error, the step, and the difference."""
        one, half = self._difference(directions, step), self._difference(directions, step / 2)
        better = half + (half - one) / 3  # Richardson: the error of a central difference falls by four
        rounding = 1e-15 * abs(self._value) / step
        error = abs(half - one) + rounding
        if not math.isfinite(error):
            return False, math.inf, step, better
        size = max(abs(slope), abs(better))
        agrees = abs(slope - better) <= error + self._agrees * size and error <= VAGUE * size
        return agrees or slope == better == 0, error, step, better

    def _difference(self, directions: Sequence[Tensor], step: float) -> float:
        return (self._moved_by(directions, step) - self._moved_by(directions, -step)) / (2 * step)

    def _direction(self, value: Tensor) -> Tensor:
        """Random, of the size of the value: of a state for each sample, of a weight as a whole."""
        value = value.detach().double()
        drawn = torch.randn(value.shape, generator=self._draw, dtype=torch.float64).to(value.device)
        drawn = (
            drawn * (value != 0) if value.any() else drawn
        )  # what a ReLU made 0 may stand at the edge of the next one
        if self.place is None or value.ndim < 2:
            return drawn * (value.norm() / math.sqrt(max(1, value.numel())) if value.any() else 1.0)
        own = value.flatten(1).norm(dim=1) / math.sqrt(value[0].numel())
        return drawn * torch.where(own > 0, own, torch.ones_like(own)).reshape(-1, *[1] * (value.ndim - 1))

    @torch.no_grad()
    def _moved_by(self, directions: Sequence[Tensor], step: float) -> float:
        kept: list[tuple[Tensor, Tensor]] = []

        def move(tensor: Tensor, direction: Tensor) -> None:
            kept.append((tensor, tensor.detach().clone()))
            tensor.data.add_(direction.to(tensor.dtype), alpha=step)

        torch.manual_seed(0)
        try:
            if self.place is None:
                for (weight, _), direction in zip(self._moved, directions, strict=True):
                    move(weight, direction)
            with self._at_place(lambda h: move(h, directions[0])):
                logits = logits_of(self._call(self._inputs))
            return float((logits.double() * self._weights).sum())
        finally:
            for tensor, before in reversed(kept):
                tensor.data.copy_(before)

    @contextmanager
    def _at_place(self, act: Callable[[Tensor], object]) -> Iterator[None]:
        """Inside, ``act`` is called with the state h_0 when it passes first."""
        if self.place is None:
            yield
            return
        passed = count()

        def keep(_: Tap, values: Any) -> None:
            h = first_tensor(values)
            if next(passed) == 0 and h is not None:
                act(h)

        with taps.hooked([self.place], keep):
            yield


class _Precision(TorchFunctionMode):
    """Inside, notes whether a float64 tensor is made a narrower one."""

    def __init__(self) -> None:
        super().__init__()
        self.is_narrowed = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not self.is_narrowed and any(t.dtype != torch.float64 for t in tensors(found)):
            self.is_narrowed = any(t.dtype == torch.float64 for t in tensors((args, kwargs or {})))
        return found


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
