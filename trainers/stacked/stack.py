"""Many learners as one program: parameters side by side, (S, …) of S learners, one forward and backward pass for all.

The forward pass is ``torch.func.vmap`` over the learners' own code; autograd runs outside of it, once, over what every
learner sends back. A learner's own tensors are views of the stack's, so its optimizer, its checkpoint, its training
state and its credit are those of a learner that trains alone.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from fa_tracking.protocol.capture import Capture, Passed, reduced
from fa_tracking.protocol.outputs import error_of
from fa_tracking.protocol.tokens import Reading
from fa_tracking.protocol.tokens import reading as read_of
from fa_tracking.protocol.undisturbed import evaluation_mode
from fa_tracking.trainers.feedback import OwnWeights
from fa_tracking.trainers.learner import Learner
from fa_tracking.trainers.method import LearningRule, Penalty, Signals, send
from fa_tracking.trainers.model import BlockModel
from fa_tracking.trainers.recipe import clip, clipped_parts
from fa_tracking.trainers.stacked.optimizer import StackedOptimizer
from fa_tracking.trainers.stacked.recorded import Recorded, kept

UNRECORDED = 30
"""Calls before an evaluation is recorded: it runs a few times an epoch, and a run may have few epochs."""


class _Both(nn.Module):
    """A learner as one module, whose tensors can be exchanged together."""

    def __init__(self, model: BlockModel, rule: LearningRule) -> None:
        super().__init__()
        self.model, self.rule = model, rule

    def forward(self, run: Callable[..., Any], *inputs: Any) -> Any:
        return run(self.model, self.rule, *inputs)


class Stack:
    """S learners whose networks and rules have the same shapes; with ``close`` each gets tensors of its own again."""

    def __init__(self, learners: Sequence[Learner], compiled: bool = False) -> None:
        """Move the tensors of each learner's network, rule and optimizer into the stack's.

        Args:
            compiled: whether ``torch.compile`` makes programs of the step and the evaluations (see ``Recorded``).

        Raises:
            ValueError: a rule cannot be stacked.
        """
        if not all(learner.rule.can_stack() for learner in learners):
            raise ValueError(f"{type(learners[0].rule).__module__} cannot be stacked")
        self._learners = [_Both(learner.model, learner.rule) for learner in learners]
        self._template = self._learners[0]
        self._tensors = {name: _side_by_side(each) for name, each in self._by_name()}
        of = {id(each[0]): self._tensors[name] for name, each in self._by_name()}
        followers = self._template.rule.followers(self._template.model)
        self._parts = [[of[id(p)] for p in part] for part in clipped_parts(self._template.model)]
        self._followers = [(of[id(follower)], of[id(leader)]) for follower, leader in followers]
        self._optimizer = StackedOptimizer([learner.optimizer for learner in learners], of)
        self._step = Recorded(self._gradients, compiled)
        self._logits = Recorded(self._read_out, compiled, UNRECORDED)
        self.states = Recorded(self._shown, compiled, UNRECORDED)

    def set_rates(self) -> None:
        """Take over the learning rate that each learner's optimizer has now."""
        self._optimizer.set_rates()

    def train_step(self, x: Tensor, y: Tensor, penalty: Penalty, clip_norm: float = math.inf) -> tuple[Tensor, Tensor]:
        """One step of every learner on its own batch: x (S, B, …), y (S, B), penalty of all learners or (S,).

        Returns:
            The mean loss (S,) and the logits (S, B, classes), detached.
        """
        loss, logits, grads = self._step(self._values(), x, y, penalty)
        for tensor, grad in zip(self._tensors.values(), grads, strict=True):
            tensor.grad = grad
        clip(self._parts, clip_norm, len(self._learners))
        for follower, leader in self._followers:
            follower.grad = leader.grad
        self._optimizer.step()
        return loss, logits

    def logits(self, x: Tensor) -> Tensor:
        """(S, B, classes) of inputs (B, …) that all learners see, in evaluation mode; until the next call."""
        found: Tensor = self._logits(self._values(), x)
        return found

    def captures(self, batches: Sequence[tuple[Tensor, Tensor]]) -> list[list[Capture]]:
        """What the protocol's batches show of each learner: one forward and one backward pass per batch for all."""
        seen: list[list[Capture]] = [[] for _ in self._learners]
        read: list[Reading | None] = [None for _ in self._learners]
        for x, y in batches:
            logits, hidden, errors, grads = kept(self.states(self._values(), x, y))
            for learner, captures in enumerate(seen):
                states, slopes = [h[learner] for h in hidden], [g[learner] for g in grads]
                reading = read[learner] = read[learner] or read_of(states, slopes)
                captures.append(reduced(Passed(x, y, logits[learner], errors[learner]), states, slopes, reading))
        return seen

    def _values(self) -> list[Tensor]:
        return [tensor.detach() for tensor in self._tensors.values()]

    def _leaves(self, values: Sequence[Tensor]) -> dict[str, Tensor]:
        """The stack's tensors by name, as beginnings of a graph."""
        needs = [tensor.requires_grad for tensor in self._tensors.values()]
        leaves = [value.detach().requires_grad_(grad) for value, grad in zip(values, needs, strict=True)]
        return dict(zip(self._tensors, leaves, strict=True))

    def _gradients(
        self, values: Sequence[Tensor], x: Tensor, y: Tensor, penalty: Penalty
    ) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        """Of a step the mean loss, the logits and the gradient of each tensor."""
        in_dims = (0, 0, 0, 0 if isinstance(penalty, Tensor) else None)
        with torch.enable_grad():
            leaves = self._leaves(values)
            found: Signals = vmap(self._call(_signals), in_dims=in_dims)(leaves, x, y, penalty)
            send(found.sent)
        return found.loss, found.logits, [leaf.grad for leaf in leaves.values()]

    @torch.no_grad()
    def _read_out(self, values: Sequence[Tensor], x: Tensor) -> Tensor:
        tensors = dict(zip(self._tensors, values, strict=True))
        with evaluation_mode(self._template.model):
            return vmap(self._call(_logits), in_dims=(0, None))(tensors, x)

    def _shown(
        self, values: Sequence[Tensor], x: Tensor, y: Tensor
    ) -> tuple[Tensor, list[Tensor], Tensor, Sequence[Tensor]]:
        """Logits, h_0 … h_L, e and g_0 … g_L of all learners, (S, B, …) each."""
        inputs = x.detach().requires_grad_()
        with evaluation_mode(self._template.model), torch.enable_grad():
            logits, hidden = vmap(self._call(_hidden), in_dims=(0, None))(self._leaves(values), inputs)
        errors = torch.stack([error_of(each, y) for each in logits])
        grads = torch.autograd.grad(logits, hidden, grad_outputs=errors.to(logits.dtype))
        return logits.detach(), [h.detach() for h in hidden], errors, grads

    def close(self) -> None:
        """Each learner's tensors are its own again."""
        for _, each in self._by_name():
            for tensor in each:
                tensor.data = tensor.data.clone()
        self._optimizer.close()

    def _call(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def call(tensors: dict[str, Tensor], *inputs: Any) -> Any:
            with OwnWeights(), sdpa_kernel(SDPBackend.MATH):  # vmap knows no other kernel on the CPU
                return functional_call(self._template, tensors, (run, *inputs))

        return call

    def _by_name(self) -> Iterator[tuple[str, list[Tensor]]]:
        own = [dict(each.named_parameters()) | dict(each.named_buffers()) for each in self._learners]
        for name in own[0]:
            yield name, [tensors[name] for tensors in own]


def _side_by_side(each: Sequence[Tensor]) -> Tensor:
    """(S, …) of tensors (…), which become views of it."""
    stacked = torch.stack([t.detach() for t in each])
    for tensor, view in zip(each, stacked.unbind(), strict=True):
        tensor.data = view
    return stacked.requires_grad_(each[0].requires_grad)


def _signals(model: BlockModel, rule: LearningRule, x: Tensor, y: Tensor, penalty: Penalty) -> Signals:
    return rule.signals(model, x, y, penalty)


def _logits(model: BlockModel, _: LearningRule, x: Tensor) -> Tensor:
    found: Tensor = model(x)
    return found


def _hidden(model: BlockModel, _: LearningRule, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    logits, hidden = model(x, return_hidden=True)
    return logits, list(hidden)
