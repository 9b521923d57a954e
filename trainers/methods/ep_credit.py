"""Equilibrium propagation as a local credit, by the published study (arXiv:2606.21126): one nudge, T steps.

    E(h) = ½ Σ_l ‖h_{l+1} − h_l − f_l(h_l)‖²,    F(h) = E(h) + β ℓ(readout(h_L), y), per sample

and in a network without a stream ½ Σ_l ‖h_{l+1} − f_l(h_l)‖².
The free phase is the forward pass, where E = 0; the nudged phase takes T = 20 gradient steps on the states of F with
β = 0.5, from there; a_l = −(h_l^nudged − h_l^free)/β, and block l learns from ⟨f_l(h_l), a⟩ as in every local rule. The
embedding's h_0 is free, held by no energy of its own. Rule ``ep`` is another one: two nudges, an anchored h_0, and the
energy's own gradient as its update. The study leaves the step and the place of h_0 open.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fa_tracking.protocol.capture import Capture
from fa_tracking.protocol.undisturbed import evaluation_mode
from fa_tracking.trainers.method import LocalForward, LocalRule, statistics_untouched
from fa_tracking.trainers.model import BlockModel

BETA = 0.5
STEPS = 20
STEP = 0.05


class Method(LocalRule):
    """No tensors of its own: no random feedback, and so no null beside its Γ."""

    stackable = True

    has_null = False
    step = STEP

    def __init__(self, model: BlockModel, seed: int, **recipe: Any) -> None:
        super().__init__(model, **recipe)
        if model.tokens:
            raise ValueError("it needs a network without tokens")

    def local_credit(self, model: BlockModel, local: LocalForward) -> Sequence[Tensor]:
        with torch.no_grad(), statistics_untouched(model):
            found = nudge(model, local.hidden, local.labels, self.step)
        return [a / len(a) for a in found[: self.credits(model)]]

    def credit(self, model: BlockModel, capture: Capture) -> Sequence[Tensor | None]:
        shapes = [torch.Size(shape) for shape in model.credit_shapes()]
        hidden = [h.unflatten(1, shape) for h, shape in zip(capture.hidden, shapes, strict=True)]
        with torch.no_grad(), evaluation_mode(model):
            found = nudge(model, hidden, capture.labels, self.step)[: self.credits(model)]
        return [*(a.flatten(1) for a in found), *[None] * (len(hidden) - len(found))]


def nudge(model: BlockModel, free: Sequence[Tensor], y: Tensor, step: float = STEP) -> list[Tensor]:
    """−(h^nudged − h^free)/β of every state, of each sample's own energy.

    In displacements from the free states, which small ones would be lost in where the stream is large.
    """
    branches = [block(h) for block, h in zip(model.blocks, free[:-1], strict=True)]
    moved = [torch.zeros_like(h) for h in free]

    def energy(moved: list[Tensor]) -> Tensor:
        states = [h + u for h, u in zip(free, moved, strict=True)]
        total = BETA * F.cross_entropy(model.readout(states[-1]), y, reduction="sum")
        for layer, block in enumerate(model.blocks):
            carried = block(states[layer]) - branches[layer]
            error = moved[layer + 1] - (moved[layer] + carried if model.residual else carried)
            total = total + error.square().sum() / 2
        return total

    for _ in range(STEPS):
        slopes = torch.func.grad(energy)(moved)
        moved = [u - step * slope for u, slope in zip(moved, slopes, strict=True)]
    return [-u / BETA for u in moved]
