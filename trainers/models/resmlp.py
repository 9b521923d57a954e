"""ResMLP: pre-LayerNorm residual MLP blocks on the flattened input, terminal LayerNorm, linear head."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from trainers.model import BlockModel

EXPANSION = 4


class Block(nn.Module):
    """f(h) = W_2 relu(W_1 LN(h)), (B, d) -> (B, d)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.up = nn.Linear(width, EXPANSION * width)
        self.act = nn.ReLU()
        self.down = nn.Linear(EXPANSION * width, width)

    def forward(self, h: Tensor) -> Tensor:
        return self.down(self.act(self.up(self.ln(h))))


class Model(BlockModel):
    """ResMLP of any width and depth; inputs (B, ...) are flattened."""

    def __init__(self, input_shape: Sequence[int], classes: int, width: int = 256, depth: int = 4) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.out_ln = nn.LayerNorm(width)
        self.out_head = nn.Linear(width, classes)
