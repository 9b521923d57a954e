"""Evaluation data that a user gives: arrays, or a file of them, made into the protocol's batches."""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fa_tracking import untrusted
from fa_tracking.errors import UsageError
from fa_tracking.protocol.batches import BATCH_SIZE, evaluation_batches

if TYPE_CHECKING:
    from torch import Tensor, nn

INPUTS, LABELS = "inputs", "labels"

LARGEST = 2**32
"""Bytes, once unpacked: the 1,280 samples that the protocol takes, as large images in float32."""

Batches = list[tuple["Tensor", "Tensor"]]


def read(path: Path) -> "tuple[Tensor, Tensor]":
    """The tensors ``inputs`` (N, …) and ``labels`` (N,) of a .safetensors or .npz file. Nothing is ever unpickled.

    Raises:
        UsageError: the file is not there, is neither, or holds something else.
    """
    from safetensors.torch import load_file

    try:
        untrusted.refuse_large(path, LARGEST)
        if path.suffix == ".safetensors":
            found: Mapping[str, Any] = load_file(path)
        elif path.suffix == ".npz":
            found = _npz(path)
        else:
            raise UsageError(f"{path}: evaluation data is a .safetensors or .npz file")
    except UsageError:
        raise
    except Exception as error:  # whatever zipfile, zlib, NumPy and safetensors make of a damaged file
        reason = untrusted.one_line(str(error))[:200] or type(error).__name__
        raise UsageError(f"{path} cannot be read: {reason}") from error
    if missing := [name for name in (INPUTS, LABELS) if name not in found]:
        raise UsageError(
            f"{path} holds no {' and no '.join(missing)}; it holds: {', '.join(sorted(found)) or 'nothing'}"
        )
    return pair(found[INPUTS], found[LABELS], str(path))


def pair(inputs: Any, labels: Any, where: str) -> "tuple[Tensor, Tensor]":
    """Inputs (N, …) and class indices (N,) as tensors.

    Raises:
        UsageError: they are no numbers, or do not belong together.
    """
    import torch

    try:
        x, y = (v if isinstance(v, torch.Tensor) else torch.tensor(v) for v in (inputs, labels))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{where}: {error}") from error
    if y.ndim != 1 or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise UsageError(f"{where}: labels are class indices (N,), integers; got {tuple(y.shape)} of {y.dtype}")
    if x.ndim < 2 or len(x) != len(y):
        raise UsageError(f"{where}: inputs {tuple(x.shape)} and labels {tuple(y.shape)} do not fit: (N, …) and (N,)")
    y = y.long()
    if (y < 0).any():
        raise UsageError(f"{where}: labels are class indices from 0; got {int(y.min())}")
    return x, y


def batches(inputs: "Tensor", labels: "Tensor") -> Batches:
    """The protocol's ten disjoint batches of 128, smaller ones where there are fewer samples.

    Raises:
        UsageError: there are fewer than ten samples.
    """
    try:
        return [(inputs[index], labels[index]) for index in evaluation_batches(len(labels))]
    except ValueError as error:
        raise UsageError(f"the evaluation data: {error}") from error


def every(inputs: "Tensor", labels: "Tensor") -> Batches:
    """All samples, in batches."""
    return list(zip(inputs.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True))


def fitted(given: Batches, model: "nn.Module") -> Batches:
    """The batches with floating-point inputs as the model's parameters are, float32 or wider."""
    import torch

    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    wide = torch.promote_types(dtype, torch.float32)
    return [(x.to(wide) if x.is_floating_point() else x, y) for x, y in given]


def _npz(path: Path) -> dict[str, Any]:
    import numpy as np

    _refuse_bomb(path)
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] if name in (INPUTS, LABELS) else None for name in archive}


def _refuse_bomb(path: Path) -> None:
    """Refuse an archive whose arrays are larger than ``LARGEST``, or larger than its records, before one is made.

    Raises:
        ValueError: it is so.
    """
    from numpy.lib import format as npy

    with zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            with archive.open(record) as file:
                header = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
                shape, _, kind = header(file)
            needed = math.prod(shape) * kind.itemsize
            if needed > min(record.file_size, LARGEST):
                raise ValueError(f"{record.filename} says that it holds {needed} bytes, and has {record.file_size}")
