"""ResMLP (arXiv:2606.21126): pre-LayerNorm residual MLP blocks on the flattened input, terminal LayerNorm, head."""

import math
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from fa_tracking.trainers.layers import draw_normal, normed_linear
from fa_tracking.trainers.model import BlockModel

BRANCH_DEVIATION = 0.01


class Block(nn.Module):
    """f(h) = W_2 gelu(W_1 LN(h)), (B, d) -> (B, d), with ``expansion``·d hidden units.

    W_2 ~ N(0, 0.01²) with zero bias, so that the stream starts as the embedding left it; W_1 is torch's own draw.
    """

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.up = nn.Linear(width, expansion * width)
        self.act: nn.Module = nn.GELU()
        self.down = nn.Linear(expansion * width, width)
        draw_normal(self.down.weight, BRANCH_DEVIATION)
        nn.init.zeros_(self.down.bias)

    def forward(self, h: Tensor) -> Tensor:
        return self.down(self.act(normed_linear(h, self.ln, self.up)))


class Model(BlockModel):
    """ResMLP of any width and depth; inputs (B, ...) are flattened."""

    terminal_norm: ClassVar[bool] = True

    def __init__(
        self, input_shape: Sequence[int], classes: int, width: int = 256, depth: int = 4, expansion: int = 1
    ) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), width))
        self.blocks = nn.ModuleList(Block(width, expansion) for _ in range(depth))
        if self.terminal_norm:
            self.out_ln = nn.LayerNorm(width)
        self.out_head = nn.Linear(width, classes)
