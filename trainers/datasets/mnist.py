"""MNIST (LeCun et al. 1998): 60,000 and 10,000 handwritten digits, 28 × 28."""

from pathlib import Path

from fa_tracking.trainers.split import Split, torchvision_split

FILES = "MNIST/raw"


def read(part: str, folder: Path, download: bool) -> Split:
    """As torchvision reads it."""
    return torchvision_split("mnist", "MNIST", part, folder, download)
