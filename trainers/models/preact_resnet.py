"""A small pre-activation ResNet (He et al. 2016, arXiv:1603.05027) at one resolution: BatchNorm, no LayerNorm."""

from collections.abc import Sequence

from torch import Tensor, nn

from fa_tracking.trainers.layers import ImageConv2d
from fa_tracking.trainers.model import BlockModel


class Block(nn.Module):
    """f(h) = conv relu BN conv relu BN h, (B, d, H, W) -> (B, d, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )

    def forward(self, h: Tensor) -> Tensor:
        return self.branch(h)


class Model(BlockModel):
    """A stem that halves the sides twice, blocks of d channels, a final BN, ReLU and mean over the image, a head.

    The published study has a ResNet with BatchNorm and no LayerNorm too (arXiv:2606.21126), and leaves its body open:
    this one is ours.
    """

    images = True

    def __init__(self, input_shape: Sequence[int], classes: int, width: int = 32, depth: int = 4) -> None:
        super().__init__()
        self.embed = ImageConv2d(input_shape, width, 3, stride=4, padding=1)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.out_head = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)
        )
