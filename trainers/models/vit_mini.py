"""ViT-Mini (after Dosovitskiy et al. 2021): 4 × 4 patches, class token, pre-LayerNorm blocks, terminal LayerNorm."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fa_tracking.trainers.layers import ImageConv2d, draw_normal, normed_linear
from fa_tracking.trainers.model import BlockModel

PATCH = 4
HEAD_WIDTH = 32
TOKEN_DEVIATION = 0.02


class Embedding(nn.Module):
    """Images (B, C, H, W) -> (B, 1 + T, d): one token a patch behind the class token, learned positions added."""

    def __init__(self, input_shape: Sequence[int], width: int) -> None:
        super().__init__()
        self.patches = ImageConv2d(input_shape, width, PATCH, PATCH)
        height, wide = input_shape[1:]
        if height % PATCH or wide % PATCH:
            raise ValueError(f"it takes images whose sides are multiples of {PATCH}, not {height} × {wide}")
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, 1 + height * wide // PATCH**2, width))
        for drawn in (self.class_token, self.positions):
            draw_normal(drawn, TOKEN_DEVIATION)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.class_token.expand(len(x), -1, -1), patches], dim=1) + self.positions


class Block(nn.Module):
    """f(h) = a + MLP(LN(h + a)) with a = attention(LN(h)): the whole block as one residual branch."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD_WIDTH)
        if width % self.heads:
            raise ValueError(f"a width of {width} cannot be divided among {self.heads} heads")
        self.ln_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.ln_mlp = nn.LayerNorm(width)
        self.up = nn.Linear(width, expansion * width)
        self.act = nn.GELU()
        self.down = nn.Linear(expansion * width, width)

    def forward(self, h: Tensor) -> Tensor:
        batch, tokens, width = h.shape
        qkv = normed_linear(h, self.ln_attention, self.qkv).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        a = self.merge(mixed)
        return a + self.down(self.act(self.up(self.ln_mlp(h + a))))


class Model(BlockModel):
    """d = 128 and 4 blocks in the published study (arXiv:2606.21126), which leaves patches, heads and the MLP open.

    Ours are patches of 4 × 4, heads of 32 features, and ``expansion``·d hidden units.
    """

    tokens = True
    images = True

    def __init__(
        self, input_shape: Sequence[int], classes: int, width: int = 128, depth: int = 4, expansion: int = 4
    ) -> None:
        super().__init__()
        self.embed = Embedding(input_shape, width)
        self.blocks = nn.ModuleList(Block(width, expansion) for _ in range(depth))
        self.out_ln = nn.LayerNorm(width)
        self.out_head = nn.Linear(width, classes)
