"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747): 60,000 and 10,000 images of clothes, 28 × 28."""

from pathlib import Path

from fa_tracking.trainers.split import Split, torchvision_split

FILES = "FashionMNIST/raw"


def read(part: str, folder: Path, download: bool) -> Split:
    """As torchvision reads it."""
    return torchvision_split("fashion_mnist", "FashionMNIST", part, folder, download)
