"""Data sets held in memory as tensors: read once, indexed by batch, normalised on the way out.

A file of ``trainers/datasets/`` is a data set, under the file's name. It offers ``read(part)``, which gives the
``Split`` "train" or "test". Where samples are rows of features, ``IMAGE`` may say as which (C, H, W) networks of images
take them. Where the data are the user's files, ``FILES`` says in which folder below ``--data-dir`` they lie, and the
function is ``read(part, folder, download)``.

Any other name is a folder in ``--data-dir``, or that folder itself, with ``train.parquet`` and ``test.parquet``: a
struct column with encoded image ``bytes`` and an integer label column, as the Hugging Face hub lays images out. Of
several such columns it is ``label``, ``labels`` or ``fine_label`` (CIFAR-100's 100 classes), else the first. The user's
files of a data set above may be such a folder, too.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from fa_tracking import catalogue
from fa_tracking.errors import UsageError, no_such
from fa_tracking.protocol.batches import Normalisation
from fa_tracking.trainers import datasets
from fa_tracking.trainers.split import Split, parquet_split

DATA_VARIABLE = "FA_TRACK_DATA"


@dataclass(frozen=True)
class Dataset:
    """A classification data set with its training statistics."""

    name: str
    train: Split
    test: Split
    normalisation: Normalisation
    classes: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.test.inputs.shape[1:])

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W) as a network of images takes a sample; ``input_shape`` where none is known."""
        own = catalogue.load(datasets, self.name) if self.name in catalogue.names(datasets) else None
        return getattr(own, "IMAGE", self.input_shape)

    def to(self, device: str) -> "Dataset":
        """The same data on a device of torch's; itself where it lies there already."""
        if torch.device(device) == self.test.inputs.device:
            return self
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def load(name: str, data_dir: str | None = None, download: bool = False) -> Dataset:
    """The data set ``name``, read once a process.

    Args:
        data_dir: the folder of the data, or one that holds a folder ``name``; FA_TRACK_DATA where None.
        download: let torchvision fetch what the folder lacks.

    Raises:
        UsageError: an unknown data set, or a folder that is missing or does not hold it.
        FATrackError: the folder's files cannot be read.
    """
    return _load(name, data_dir or os.environ.get(DATA_VARIABLE), download)


def built_in() -> list[str]:
    """The data sets that the packages which FA-Track needs make or carry: no folder of data is asked for."""
    return [name for name in catalogue.names(datasets) if not hasattr(catalogue.load(datasets, name), "FILES")]


def from_files() -> dict[str, str]:
    """The data sets that are read from the user's files, each with the folder below ``--data-dir`` that holds them."""
    found = {name: catalogue.load(datasets, name) for name in catalogue.names(datasets)}
    return {name: own.FILES for name, own in found.items() if hasattr(own, "FILES")}


def check(name: str, data_dir: str | None = None) -> None:
    """Refuse a data set that is not at hand, without reading it.

    Raises:
        UsageError: an unknown data set, or a folder that is missing or does not hold it.
    """
    _reader(name, data_dir or os.environ.get(DATA_VARIABLE), download=False)


def test_split(name: str, data_dir: str | None = None) -> Split:
    """The test split alone: what an auditor measures on (entry point ``fa_tracking.datasets``)."""
    return _test_split(name, data_dir or os.environ.get(DATA_VARIABLE))


test_split.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest thinks of its name


@lru_cache(maxsize=2)
def _load(name: str, data_dir: str | None, download: bool) -> Dataset:
    read = _reader(name, data_dir, download)
    train, test = read("train"), read("test")
    classes = int(torch.cat([train.labels, test.labels]).max()) + 1
    return Dataset(name, train, test, Normalisation.of(train.inputs), classes)


@lru_cache(maxsize=2)
def _test_split(name: str, data_dir: str | None) -> Split:
    return _reader(name, data_dir, download=False)("test")


def _reader(name: str, data_dir: str | None, download: bool) -> Callable[[str], Split]:
    """What reads the split "train" or "test" of ``name``."""
    own = catalogue.load(datasets, name) if name in catalogue.names(datasets) else None
    if own and not hasattr(own, "FILES"):
        return own.read
    if data_dir is None:
        if own:
            raise UsageError(f"the data set {name!r} needs --data-dir (or {DATA_VARIABLE}): the folder that holds it")
        raise UsageError(
            f"{no_such('data set', name, built_in())}; with --data-dir (or {DATA_VARIABLE}) also: "
            f"{', '.join(from_files())}, and any folder that holds train.parquet and test.parquet"
        )
    folder = Path(data_dir)
    if not folder.is_dir():
        raise UsageError(f"the data directory {data_dir} does not exist")
    for candidate in (folder / name, folder):
        if all((candidate / f"{part}.parquet").is_file() for part in ("train", "test")):
            return lambda part: parquet_split(candidate / f"{part}.parquet")
    if own:
        return lambda part: own.read(part, folder, download)
    raise UsageError(
        f"{data_dir} holds no train.parquet and test.parquet (nor does {folder / name}), and {name!r} is none of "
        f"{', '.join(catalogue.names(datasets))}"
    )
