"""The optimizers of a stack's learners, as one call a step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor


class StackedOptimizer:
    """The optimizers of S learners as one: a group of parameters (S', …) for all of the same settings in a row."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer], stacked: Mapping[int, Tensor]) -> None:
        """
        Args:
            optimizers: of the learners, alike but for their settings; each takes over its part of the common state.
            stacked: the tensor (S, …) of each parameter of the first learner, by its id.
        """
        self._optimizers = optimizers
        self._leaves = [stacked[id(p)] for p in _parameters(optimizers[0])]
        self._groups = list(_in_a_row([_settings(o) for o in optimizers]))
        self._parts = [[leaf.detach()[learners] for leaf in self._leaves] for learners, _ in self._groups]
        groups = [{**settings, "params": parts} for (_, settings), parts in zip(self._groups, self._parts, strict=True)]
        self._common = type(optimizers[0])(groups)  # type: ignore[call-arg]
        self._is_shared = False
        for (learners, _), parts in zip(self._groups, self._parts, strict=True):
            for place, part in enumerate(parts):
                own = [o.state[_parameters(o)[place]] for o in optimizers[learners]]
                self._common.state[part] = {key: _joined([state[key] for state in own]) for key in own[0]}

    def step(self) -> None:
        """Step every learner by the gradients (S, …) of the stacked parameters."""
        for (learners, _), parts in zip(self._groups, self._parts, strict=True):
            for leaf, part in zip(self._leaves, parts, strict=True):
                part.grad = None if leaf.grad is None else leaf.grad[learners]
        self._common.step()
        if not self._is_shared:
            self._hand_out(lambda value: value)
            self._is_shared = True

    def set_rates(self) -> None:
        """Take over the learning rates of the learners' own optimizers."""
        for (learners, _), group in zip(self._groups, self._common.param_groups, strict=True):
            group["lr"] = self._optimizers[learners][0].param_groups[0]["lr"]

    def close(self) -> None:
        """Each optimizer's state is its own again."""
        self._hand_out(torch.clone)

    def _hand_out(self, made: Callable[[Tensor], Tensor]) -> None:
        for (learners, _), parts in zip(self._groups, self._parts, strict=True):
            for index, optimizer in enumerate(self._optimizers[learners]):
                for parameter, part in zip(_parameters(optimizer), parts, strict=True):
                    state = self._common.state.get(part, {})
                    own = {k: v[index] if v.shape == part.shape else v for k, v in state.items()}
                    optimizer.state[parameter] = {k: made(v) for k, v in own.items()}


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    found: list[Tensor] = optimizer.param_groups[0]["params"]
    return found


def _settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}


def _in_a_row(settings: Sequence[dict[str, Any]]) -> Iterator[tuple[slice, dict[str, Any]]]:
    start = 0
    for same, row in groupby(settings):
        end = start + len(list(row))
        yield slice(start, end), same
        start = end


def _joined(values: Sequence[Tensor]) -> Tensor:
    """Of a moment (…) all learners' (S, …); of the number of steps, which is that of all, one."""
    return torch.stack(list(values)) if values[0].ndim else values[0].clone()
