"""What is done to a training batch before it is normalised; the test set is never touched."""

from collections.abc import Callable

import torch
from torch import Tensor

PADDING = 4


def none(inputs: Tensor, draw: torch.Generator) -> Tensor:
    """The inputs as they are."""
    return inputs


def crop_flip(images: Tensor, draw: torch.Generator) -> Tensor:
    """Images (B, C, H, W) shifted by up to 4 pixels into a black border, and mirrored with probability ½.

    The usual augmentation of CIFAR-10 (He et al. 2016, arXiv:1512.03385, section 4.2).

    Raises:
        ValueError: the inputs are not images.
    """
    if images.ndim != 4:
        raise ValueError(f"crop_flip needs images (B, C, H, W), and these inputs are {tuple(images.shape[1:])}")
    batch, channels, height, width = images.shape
    padded = torch.nn.functional.pad(images, (PADDING,) * 4)
    top, left = torch.randint(2 * PADDING + 1, (2, batch, 1), generator=draw)
    rows, columns = top + torch.arange(height), torch.arange(width).expand(batch, width)
    mirrored = torch.randint(2, (batch, 1), generator=draw).bool()
    columns = left + torch.where(mirrored, columns.flip(1), columns)
    sample, channel = torch.arange(batch)[:, None, None, None], torch.arange(channels)[None, :, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {"none": none, "crop_flip": crop_flip}
