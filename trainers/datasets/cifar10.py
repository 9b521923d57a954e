"""CIFAR-10 (Krizhevsky 2009): 50,000 and 10,000 colour images of ten classes, 32 × 32."""

from pathlib import Path

from fa_tracking.trainers.split import Split, torchvision_split

FILES = "cifar-10-batches-py"


def read(part: str, folder: Path, download: bool) -> Split:
    """As torchvision reads it."""
    return torchvision_split("cifar10", "CIFAR10", part, folder, download)
