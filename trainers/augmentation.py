"""How a training batch is normalised, and what is done to it before or after; the test set is normalised alone."""

from collections.abc import Callable

import torch
from torch import Tensor

PADDING = 4


Normalise = Callable[[Tensor], Tensor]


def none(inputs: Tensor, normalise: Normalise, draw: torch.Generator) -> Tensor:
    """The inputs as they are."""
    return normalise(inputs)


def crop_flip(images: Tensor, normalise: Normalise, draw: torch.Generator) -> Tensor:
    """Images (B, C, H, W) shifted by up to 4 pixels into a black border, and mirrored with probability ½.

    The usual augmentation of CIFAR-10 (He et al. 2016, arXiv:1512.03385, section 4.2).

    Raises:
        ValueError: the inputs are not images.
    """
    return normalise(shifted_and_mirrored(images, draw))


def crop_flip_mean(images: Tensor, normalise: Normalise, draw: torch.Generator) -> Tensor:
    """The same with a border of the mean colour: images are padded with zeros once they are normalised.

    That of the published study.

    Raises:
        ValueError: the inputs are not images.
    """
    return shifted_and_mirrored(normalise(images), draw)


def shifted_and_mirrored(images: Tensor, draw: torch.Generator) -> Tensor:
    """Images (B, C, H, W), padded with zeros, shifted by up to 4 pixels and mirrored with probability ½."""
    if images.ndim != 4:
        raise ValueError(f"crops need images (B, C, H, W), but these inputs are {tuple(images.shape[1:])}")
    batch, channels, height, width = images.shape
    padded = torch.nn.functional.pad(images, (PADDING,) * 4)
    top, left = torch.randint(2 * PADDING + 1, (2, batch, 1), generator=draw)
    rows, columns = top + torch.arange(height), torch.arange(width).expand(batch, width)
    mirrored = torch.randint(2, (batch, 1), generator=draw).bool()
    columns = left + torch.where(mirrored, columns.flip(1), columns)
    sample, channel = torch.arange(batch)[:, None, None, None], torch.arange(channels)[None, :, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


AUGMENTATIONS: dict[str, Callable[[Tensor, Normalise, torch.Generator], Tensor]] = {
    "none": none,
    "crop_flip": crop_flip,
    "crop_flip_mean": crop_flip_mean,
}
