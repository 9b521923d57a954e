"""Equilibrium propagation (Scellier & Bengio 2017, arXiv:1602.05179; symmetric nudging, Laborieux et al. 2021,
arXiv:2006.03824).

Energy of the residual stream, states h_0 … h_L free, input x clamped:

    E(h) = ½‖h_0 − embed(x)‖² + ½ Σ_l ‖h_{l+1} − h_l − f_l(h_l)‖²
    F_β(h) = E(h) + β ℓ(readout(h_L), y), per sample

and in a network without a residual stream ½ Σ_l ‖h_{l+1} − f_l(h_l)‖² in the place of the second term. Free phase
(β = 0): the forward pass, where E = 0. Nudged phases (±β): from there max(6, L + 2) steps, since each carries the nudge
down by one state, h ← h − STEP ∂F_β/∂h, each of block-local gradients only. Update of the embedding and the blocks:

    Δθ ∝ −[∂E/∂θ(h^{+β}) − ∂E/∂θ(h^{−β})]/(2β)  →  −∂ℓ/∂θ as β → 0, with a converged relaxation

The local credit at h_l is (ε_l^{−β} − ε_l^{+β})/(2β) with ε_0 = h_0 − embed(x), ε_{l+1} = h_{l+1} − h_l − f_l(h_l). The
read-out sees the true gradient of ℓ at the free state. No backward pass crosses a block: a batch costs about
2·(steps + 1) forward and backward passes of every block, less those that the nudge has not reached yet.

Gradient descent on the energy is stable while STEP < 2/(1 + ‖1 + ∂f_l/∂h_l‖)². As the blocks grow beyond that, six
steps of 0.5 no longer approach the fixed point, and the update turns away from BP's: this rule's own limit.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fa_tracking.protocol.capture import Capture
from fa_tracking.protocol.undisturbed import evaluation_mode
from fa_tracking.trainers.method import LearningRule, Penalty, Signals, is_penalised, statistics_untouched
from fa_tracking.trainers.model import BlockModel

BETA = 0.1
STEPS = 6
STEP = 0.5


class Method(LearningRule):
    """No tensors of its own: no random feedback, and so no null beside its Γ."""

    stackable = True

    has_credit = True
    has_null = False

    def __init__(
        self, model: BlockModel, seed: int, beta: float = BETA, steps: int | None = None, step: float = STEP
    ) -> None:
        super().__init__()
        self._beta, self._step = beta, step
        self._steps = steps or max(STEPS, len(model.blocks) + 2)  # a step carries the nudge down by one state

    def signals(self, model: BlockModel, x: Tensor, y: Tensor, penalty: Penalty = 0.0) -> Signals:
        embedded, hidden = _free_phase(model, x)
        logits = model.readout(hidden[-1])
        loss = F.cross_entropy(logits, y)
        sent, at_embedding = [(loss, torch.ones_like(loss))], torch.zeros_like(embedded)
        with statistics_untouched(model):  # BatchNorm has seen this batch in the free phase
            for sign in (1, -1):
                states = self._nudged(model, embedded.detach(), hidden, y, sign * self._beta)
                branches = [block(h) for block, h in _pairs(model, states)]
                errors = _errors(model, embedded.detach(), states, [f.detach() for f in branches])
                scale = -sign / (2 * self._beta * len(y))  # ∂E/∂θ = −ε · ∂(what the block predicts)/∂θ
                at_embedding = at_embedding + scale * errors[0]
                sent += [(f, scale * e) for f, e in zip(branches, errors[1:], strict=True)]
            if is_penalised(penalty):
                free = [block(h) for block, h in _pairs(model, hidden)]
                sent += [(f, (2 * penalty / len(f)) * f.detach()) for f in free]
        return Signals(loss.detach(), logits.detach(), [*sent, (embedded, at_embedding)])

    def credit(self, model: BlockModel, capture: Capture) -> Sequence[Tensor]:
        with evaluation_mode(model):
            embedded, hidden = _free_phase(model, capture.inputs)
            embedded, errors = embedded.detach(), []
            for beta in (self._beta, -self._beta):
                states = self._nudged(model, embedded, hidden, capture.labels, beta)
                with torch.no_grad():
                    errors.append(_errors(model, embedded, states, [block(h) for block, h in _pairs(model, states)]))
        return [_class_token((minus - plus) / (2 * self._beta)) for plus, minus in zip(*errors, strict=True)]

    def _nudged(
        self, model: BlockModel, embedded: Tensor, free: Sequence[Tensor], y: Tensor, beta: float
    ) -> list[Tensor]:
        """h_0 … h_L after the relaxation of F_β from the free state.

        There every ε is zero, so the nudge comes down by one state a step: the states below have no slope yet.
        """
        states = [h.detach() for h in free]
        top = len(states) - 1
        for step in range(self._steps):
            lowest = max(0, top - step)
            moved = states[lowest:]
            with torch.no_grad():
                slopes = self._slopes(model, embedded if lowest == 0 else moved[0], moved, y, beta)
                states[lowest:] = [h - self._step * g for h, g in zip(moved, slopes, strict=True)]
        return states

    def _slopes(self, model: BlockModel, below: Tensor, states: list[Tensor], y: Tensor, beta: float) -> list[Tensor]:
        """∂F/∂h_l = ε_l − ε_{l+1}(1 + ∂f_l/∂h_l), and at h_L ε_L + β ∂ℓ/∂h_L: every term is local to its block.

        Of the deepest states alone where the others have no slope; ``below`` is what the lowest of them should be.
        """
        deepest = len(states) - 1
        blocks = list(model.blocks)[len(model.blocks) - deepest :]

        def predict(states: list[Tensor]) -> list[Tensor]:
            return [block(h) for block, h in zip(blocks, states, strict=True)]

        def cost(state: Tensor) -> Tensor:
            return F.cross_entropy(model.readout(state), y, reduction="sum")

        branches, pull_back = torch.func.vjp(predict, states[:-1])[:2] if blocks else ([], None)
        errors = _errors(model, below, states, branches)
        slopes = list(errors)
        for layer, through in enumerate(pull_back([-e for e in errors[1:]])[0] if pull_back else ()):
            slopes[layer] = slopes[layer] + (through - errors[layer + 1] if model.residual else through)
        slopes[-1] = slopes[-1] + beta * torch.func.grad(cost)(states[-1])
        return slopes


def _free_phase(model: BlockModel, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The embedding's output with its graph, and the states h_0 … h_L of the forward pass, detached."""
    embedded = model.embed(x)
    hidden = [embedded.detach()]
    with torch.no_grad():
        for block in model.blocks:
            hidden.append(model.advance(hidden[-1], block(hidden[-1])))
    return embedded, hidden


def _pairs(model: BlockModel, states: Sequence[Tensor]) -> list[tuple[torch.nn.Module, Tensor]]:
    return list(zip(model.blocks, states[:-1], strict=True))


def _errors(model: BlockModel, embedded: Tensor, states: Sequence[Tensor], branches: Sequence[Tensor]) -> list[Tensor]:
    """ε_0 = h_0 − embed(x), ε_{l+1} = h_{l+1} − (h_l + f_l(h_l))."""
    predicted = [embedded, *(model.advance(h, f) for h, f in zip(states[:-1], branches, strict=True))]
    return [h - p for h, p in zip(states, predicted, strict=True)]


def _class_token(state: Tensor) -> Tensor:
    return state[:, 0, :] if state.ndim == 3 else state.flatten(1)
