"""A part of a data set as tensors, and the files that one is read from."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fa_tracking.errors import FATrackError, UsageError


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


def parquet_split(path: Path) -> Split:
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


def torchvision_split(name: str, kind: str, part: str, folder: Path, download: bool) -> Split:
    """A split that torchvision reads, or fetches, by its class ``kind``.

    Raises:
        UsageError: the folder does not hold it.
    """
    import torchvision.datasets

    try:
        data = getattr(torchvision.datasets, kind)(folder, train=part == "train", download=download)
    except RuntimeError as error:
        raise UsageError(f"{folder} does not hold {name} (no parquet files, and torchvision says: {error})") from error
    pixels = np.asarray(data.data)
    return Split(_channels_first(pixels), torch.as_tensor(np.asarray(data.targets), dtype=torch.int64))


def _channels_first(pixels: np.ndarray) -> Tensor:
    """(N, H, W) or (N, H, W, C) bytes -> (N, C, H, W)."""
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
