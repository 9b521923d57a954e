"""MLP: linear and ReLU, layer by layer, with no residual stream: the network of Nøkland 2016 (arXiv:1609.01596)."""

import math
from collections.abc import Sequence

from torch import nn

from fa_tracking.trainers.model import BlockModel


class Model(BlockModel):
    """depth + 1 hidden layers of ``width``; inputs (B, ...) are flattened. h_{l+1} = relu(W_l h_l + b_l)."""

    residual = False

    def __init__(self, input_shape: Sequence[int], classes: int, width: int = 256, depth: int = 3) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), width), nn.ReLU())
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(depth))
        self.out_head = nn.Linear(width, classes)
