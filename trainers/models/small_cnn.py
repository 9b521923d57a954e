"""SmallCNN: three convolutions with BatchNorm, one hidden linear layer, a head; no residual stream, no terminal LN."""

from collections.abc import Sequence

from torch import nn

from trainers.model import BlockModel


def convolution(channels: int, filters: int, stride: int) -> nn.Sequential:
    """3 × 3 convolution, BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()
    )


class Model(BlockModel):
    """Channels d, 2d, 4d at half the sides each; a block's output is the next state itself.

    The embedding is the first convolution; the blocks are the other two and the hidden linear layer (4d units), so
    the depth is always 3.
    """

    residual = False

    def __init__(self, input_shape: Sequence[int], classes: int, width: int = 32, depth: int = 3) -> None:
        super().__init__()
        if len(input_shape) != 3 or depth != 3:
            raise ValueError(f"small_cnn takes images (C, H, W) and depth 3, not {tuple(input_shape)} and {depth}")
        channels, height, wide = input_shape
        pooled = -(-height // 8) * -(-wide // 8)  # each stride of 2 rounds up
        self.embed = convolution(channels, width, 2)
        self.blocks = nn.ModuleList(
            [
                convolution(width, 2 * width, 2),
                convolution(2 * width, 4 * width, 2),
                nn.Sequential(nn.Flatten(), nn.Linear(4 * width * pooled, 4 * width), nn.ReLU()),
            ]
        )
        self.out_head = nn.Linear(4 * width, classes)
