"""Data sets held in memory as tensors: read once, indexed by batch, normalised on the way out.

``digit_pairs`` (20,000 training and 4,000 test pairs of handwritten digits, labelled by their sum modulo 10) and
``digits`` come with scikit-learn; ``teacher`` is labelled by a fixed random residual network, for ``student_net``.
Their samples are rows of features; networks of images take them as 16 × 8 (one digit above the other), 8 × 8 and 8 × 8
pixels. ``cifar10``, ``cifar100``, ``fashion_mnist`` and ``mnist`` are read by torchvision from ``--data-dir``. Any
other name is a folder in ``--data-dir``, or that folder itself, with ``train.parquet`` and ``test.parquet``: a struct
column with encoded image ``bytes`` and an integer label column, as the Hugging Face hub lays images out. Of several
such columns it is ``label``, ``labels`` or ``fine_label`` (CIFAR-100's 100 classes), else the first.
"""

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fa_tracking.errors import FATrackError, UsageError, no_such
from fa_tracking.protocol.batches import Normalisation
from trainers.datasets import EMBEDDED, TORCHVISION

DATA_VARIABLE = "FA_TRACK_DATA"


@dataclass(frozen=True)
class Split:
    """Inputs (N, ...) in the type they were stored in (bytes for images) and labels (N,)."""

    inputs: Tensor
    labels: Tensor

    @property
    def digest(self) -> str:
        """SHA-256 of inputs and labels: two runs with the same digest saw the same data."""
        content = hashlib.sha256(str(tuple(self.inputs.shape)).encode())
        content.update(self.inputs.cpu().numpy().tobytes())
        content.update(self.labels.cpu().numpy().tobytes())
        return content.hexdigest()

    def to(self, device: str) -> "Split":
        return Split(self.inputs.to(device), self.labels.to(device))


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
        return EMBEDDED.get(self.name, self.input_shape)

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
    if name in EMBEDDED:
        return _READERS[name]
    if data_dir is None:
        if name in TORCHVISION:
            raise UsageError(f"the data set {name!r} needs --data-dir (or {DATA_VARIABLE}), the folder that holds it")
        raise UsageError(
            f"{no_such('data set', name, EMBEDDED)}; with --data-dir (or {DATA_VARIABLE}) also: "
            f"{', '.join(TORCHVISION)}, and any folder that holds train.parquet and test.parquet"
        )
    folder = Path(data_dir)
    if not folder.is_dir():
        raise UsageError(f"the data directory {data_dir} does not exist")
    for candidate in (folder / name, folder):
        if all((candidate / f"{part}.parquet").is_file() for part in ("train", "test")):
            return lambda part: _parquet(candidate / f"{part}.parquet")
    if name in TORCHVISION:
        return lambda part: _torchvision(name, folder, part, download)
    raise UsageError(
        f"{data_dir} holds no train.parquet and test.parquet (nor does {folder / name}), and {name!r} is none of "
        f"{', '.join([*EMBEDDED, *TORCHVISION])}"
    )


def _parquet(path: Path) -> Split:
    """Images in the Hugging Face layout: a struct column with encoded ``bytes``, an integer label column."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    try:
        table = pq.read_table(path)
        images = next(
            f.name for f in table.schema if pa.types.is_struct(f.type) and f.type.get_field_index("bytes") >= 0
        )
        labels = [f.name for f in table.schema if pa.types.is_integer(f.type)]
        label = next(n for n in ("label", "labels", "fine_label", *labels) if n in labels)
        encoded = table[images].combine_chunks().field("bytes").to_pylist()
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(b)).convert("RGB")) for b in encoded])
    except StopIteration:
        raise FATrackError(
            f"{path} has no image column {{bytes, path}} or no integer label: {table.schema.names}"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise FATrackError(f"{path} cannot be read as images of one size: {error}") from error
    return Split(_channels_first(pixels), torch.from_numpy(table[label].to_numpy().astype(np.int64)))


def _torchvision(name: str, folder: Path, part: str, download: bool) -> Split:
    import torchvision.datasets

    try:
        data = getattr(torchvision.datasets, TORCHVISION[name])(folder, train=part == "train", download=download)
    except RuntimeError as error:
        raise UsageError(f"{folder} does not hold {name} (no parquet files, and torchvision says: {error})") from error
    pixels = np.asarray(data.data)
    return Split(_channels_first(pixels), torch.as_tensor(np.asarray(data.targets), dtype=torch.int64))


def _channels_first(pixels: np.ndarray) -> Tensor:
    """(N, H, W) or (N, H, W, C) bytes -> (N, C, H, W)."""
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))


def _digits(part: str) -> Split:
    """scikit-learn's 1,797 handwritten digits, 8 × 8; every fifth is a test digit.

    As its ``load_digits`` gives them, from the file that it reads: to import it takes longer than to train on them.
    """
    library = find_spec("sklearn")
    assert library and library.submodule_search_locations
    table = np.loadtxt(Path(library.submodule_search_locations[0], "datasets", "data", "digits.csv.gz"), delimiter=",")
    images, labels = table[:, :-1], table[:, -1]
    is_test = np.arange(len(labels)) % 5 == 0
    kept = is_test if part == "test" else ~is_test
    return Split(torch.from_numpy(images[kept].astype(np.float32)), torch.from_numpy(labels[kept].astype(np.int64)))


PAIRS = {"train": 20_000, "test": 4_000}


def _digit_pairs(part: str) -> Split:
    """Pairs of digits, (N, 128), labelled (a + b) mod 10: no linear read-out of the pixels can tell.

    Train and test pairs are drawn from disjoint digits.
    """
    digits = _digits(part)
    draw = np.random.default_rng(20_000 if part == "train" else 4_000)
    a, b = torch.from_numpy(draw.integers(len(digits.labels), size=(2, PAIRS[part])))
    inputs = torch.cat([digits.inputs[a], digits.inputs[b]], dim=1)
    return Split(inputs, (digits.labels[a] + digits.labels[b]) % 10)


TEACHER = {"train": 20_000, "test": 4_000, "features": 64, "width": 128, "depth": 4, "classes": 10}
TEACHER_ALPHA = 1.0
TEACHER_BALANCING = 100


def _teacher(part: str) -> Split:
    """Standard normal inputs (N, 64), labelled by a fixed random residual network without LayerNorm.

    h_0 = A x, h_{l+1} = h_l + α W'_l relu(W_l h_l) with α = 1, four blocks of d = 128, entries N(0, 1/fan_in); the
    label is the largest of ten logits, shifted so that the training classes are of one size: else the gradients of an
    untrained network share the direction of what it does not know of their sizes, and (c) fires.

    The study's teacher is open (arXiv:2606.21126). This one is ours, and of another form than ``student_net``: it has
    two matrices a block, ReLU in the place of φ_α, and no LayerNorm, so no student can become the teacher.
    """
    logits = _teacher_logits("train")
    shift = np.zeros(TEACHER["classes"])
    for _ in range(TEACHER_BALANCING):
        share = np.bincount((logits + shift).argmax(axis=1), minlength=TEACHER["classes"]) / len(logits)
        shift -= logits.std() * (share - 1 / TEACHER["classes"])
    x, logits = _teacher_inputs(part), _teacher_logits(part)
    return Split(torch.from_numpy(x.astype(np.float32)), torch.from_numpy((logits + shift).argmax(axis=1)))


def _teacher_inputs(part: str) -> np.ndarray:
    draw = np.random.default_rng(1 if part == "train" else 2)
    return draw.standard_normal((TEACHER[part], TEACHER["features"]))


def _teacher_logits(part: str) -> np.ndarray:
    weights = np.random.default_rng(0)

    def matrix(fan_in: int, fan_out: int) -> np.ndarray:
        return weights.standard_normal((fan_in, fan_out)) / np.sqrt(fan_in)

    h = _teacher_inputs(part) @ matrix(TEACHER["features"], TEACHER["width"])
    for _ in range(TEACHER["depth"]):
        up, down = matrix(TEACHER["width"], TEACHER["width"]), matrix(TEACHER["width"], TEACHER["width"])
        h = h + TEACHER_ALPHA * np.maximum(h @ up, 0) @ down
    return h @ matrix(TEACHER["width"], TEACHER["classes"])


_READERS: dict[str, Callable[[str], Split]] = dict(zip(EMBEDDED, (_digit_pairs, _digits, _teacher), strict=True))
