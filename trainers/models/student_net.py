"""StudentNet: residual blocks with no LayerNorm anywhere."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from trainers.model import BlockModel


class Block(nn.Module):
    """f(h) = W_2 relu(W_1 h), (B, d) -> (B, d)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, width)
        self.act = nn.ReLU()
        self.down = nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        return self.down(self.act(self.up(h)))


class Model(BlockModel):
    """Four blocks of d = 128 in the published study."""

    def __init__(self, input_shape: Sequence[int], classes: int, width: int = 128, depth: int = 4) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.out_head = nn.Linear(width, classes)
