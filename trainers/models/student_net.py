"""StudentNet (arXiv:2606.21126): pre-LayerNorm residual blocks of one matrix, no terminal LayerNorm, linear head."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fa_tracking.trainers.layers import draw_normal
from fa_tracking.trainers.model import BlockModel
from fa_tracking.trainers.models.resmlp import BRANCH_DEVIATION


class Phi(nn.Module):
    """φ_α(z) = (1 − α) z + α tanh z: linear at α = 0, tanh at 1."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, z: Tensor) -> Tensor:
        return (1 - self.alpha) * z + self.alpha * torch.tanh(z)


class Block(nn.Module):
    """f(h) = W φ_α(LN h), (B, d) -> (B, d); W ~ N(0, 0.01²), without bias."""

    def __init__(self, width: int, alpha: float) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.act = Phi(alpha)
        self.linear = nn.Linear(width, width, bias=False)
        draw_normal(self.linear.weight, BRANCH_DEVIATION)

    def forward(self, h: Tensor) -> Tensor:
        return self.linear(self.act(self.ln(h)))


class Model(BlockModel):
    """d = 128, 2 to 12 blocks and α of 0 to 1 in the published study; inputs (B, ...) are flattened."""

    def __init__(
        self, input_shape: Sequence[int], classes: int, width: int = 128, depth: int = 4, alpha: float = 1.0
    ) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), width))
        self.blocks = nn.ModuleList(Block(width, alpha) for _ in range(depth))
        self.out_head = nn.Linear(width, classes)
