"""ResMLP: pre-LayerNorm residual MLP blocks on the flattened input, terminal LayerNorm, linear head."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainers.layers import normed_linear
from trainers.model import BlockModel

EXPANSION = 4
BRANCH_SCALE = 0.1


class Block(nn.Module):
    """f(h) = W_2 relu(W_1 LN(h)), (B, d) -> (B, d).

    W_2 starts at a tenth of torch's own draw, so that the stream starts as the embedding left it, ‖h_L‖ ≈ ‖h_0‖, as
    published of the random initialisation. With the whole draw the common part of the ReLUs' output gives all samples'
    gradients a common direction before any training, and (c) fires on a network that nobody has trained.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.up = nn.Linear(width, EXPANSION * width)
        self.act = nn.ReLU()
        self.down = nn.Linear(EXPANSION * width, width)
        with torch.no_grad():
            self.down.weight.mul_(BRANCH_SCALE)
            self.down.bias.mul_(BRANCH_SCALE)

    def forward(self, h: Tensor) -> Tensor:
        return self.down(self.act(normed_linear(h, self.ln, self.up)))


class Model(BlockModel):
    """ResMLP of any width and depth; inputs (B, ...) are flattened."""

    def __init__(self, input_shape: Sequence[int], classes: int, width: int = 256, depth: int = 4) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.out_ln = nn.LayerNorm(width)
        self.out_head = nn.Linear(width, classes)
