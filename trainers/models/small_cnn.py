"""SmallCNN (arXiv:2606.21126): three convolutions, a hidden linear layer, a head; no residual stream, no LayerNorm."""

from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from fa_tracking.trainers.layers import ImageConv2d
from fa_tracking.trainers.model import BlockModel

LEAST = 4
"""Pixels of a side, which is halved twice."""


class Model(BlockModel):
    """Channels d, 2d, 4d, and 4d·H/4·W/4 features to a hidden layer of 8d: d = 32 in the published study.

    h_0 is the first convolution's output, h_1 and h_2 the others', at half the sides each, and h_3 the hidden layer's:
    all after ReLU and pooling. The embedding is the first convolution, and the depth is always 3: the study counts four
    blocks, so that its frozen control trains the head alone, and so does this one.
    """

    residual = False
    images = True
    embeds_by_a_block = True
    batch_norm: ClassVar[bool] = False

    def __init__(self, input_shape: Sequence[int], classes: int, width: int = 32, depth: int = 3) -> None:
        super().__init__()
        if depth != 3:
            raise ValueError(f"its depth is 3, not {depth} (--depth 3)")
        first = ImageConv2d(input_shape, width, 3, padding=1, bias=not self.batch_norm)
        height, wide = input_shape[1:]
        if min(height, wide) < LEAST:
            raise ValueError(f"it takes images of at least {LEAST} × {LEAST} pixels, not {height} × {wide}")
        self.embed = nn.Sequential(first, *self._normalised(width))
        self.blocks = nn.ModuleList(
            [
                self._halving(width, 2 * width),
                self._halving(2 * width, 4 * width),
                nn.Sequential(nn.Flatten(), nn.Linear(4 * width * (height // 4) * (wide // 4), 8 * width), nn.ReLU()),
            ]
        )
        self.out_head = nn.Linear(8 * width, classes)

    def _normalised(self, filters: int) -> list[nn.Module]:
        """What follows a convolution."""
        return [nn.BatchNorm2d(filters), nn.ReLU()] if self.batch_norm else [nn.ReLU()]

    def _halving(self, channels: int, filters: int) -> nn.Sequential:
        """3 × 3 convolution, ReLU, the largest of each 2 × 2."""
        convolution = nn.Conv2d(channels, filters, 3, padding=1, bias=not self.batch_norm)
        return nn.Sequential(convolution, *self._normalised(filters), nn.MaxPool2d(2))
