"""CIFAR-100 (Krizhevsky 2009): 50,000 and 10,000 colour images of a hundred classes, 32 × 32."""

from pathlib import Path

from fa_tracking.trainers.split import Split, torchvision_split

FILES = "cifar-100-python"


def read(part: str, folder: Path, download: bool) -> Split:
    """As torchvision reads it."""
    return torchvision_split("cifar100", "CIFAR100", part, folder, download)
