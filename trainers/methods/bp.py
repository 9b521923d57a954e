"""Backpropagation (Rumelhart, Hinton & Williams 1986): Δθ ∝ −∂ℓ/∂θ. The reference that Γ compares with."""

import torch.nn.functional as F
from torch import Tensor

from trainers.method import LearningRule, residual_penalty
from trainers.model import BlockModel


class Method(LearningRule):
    """BP has no local credit: its Γ would be cos(g, g) = 1 by construction, so it has none."""

    def __init__(self, model: BlockModel, seed: int) -> None:
        super().__init__()

    def backward(self, model: BlockModel, x: Tensor, y: Tensor, penalty: float = 0.0) -> tuple[Tensor, Tensor]:
        h, branches = model.embed(x), []
        for block in model.blocks:
            branches.append(block(h))
            h = model.advance(h, branches[-1])
        logits = model.readout(h)
        loss = F.cross_entropy(logits, y)
        (loss + penalty * residual_penalty(branches) if penalty else loss).backward()
        return loss.detach(), logits.detach()
