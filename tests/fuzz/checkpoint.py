"""Checkpoints: config.json and safetensors."""

import hashlib
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fa_tracking.tracking import checkpoint

from ._values import as_json, changed, edited

TITLE = "checkpoints: config.json, safetensors, the factory"
WEIGHT = 8


@cache
def seeds() -> dict[str, bytes]:
    """The files of a small valid checkpoint."""
    from fa_tracking.trainers.models import resmlp

    shape: dict[str, Any] = {"input_shape": [4], "classes": 3, "width": 4, "depth": 1}
    dataset = checkpoint.DataSource(name="digits", loader="trainers", test_sha256="0" * 64, mean=(0.0,), std=(1.0,))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.write(Path(folder), resmlp.Model(**shape), {}, 1, "trainers:resmlp", shape, dataset)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def tensors(header: Any) -> bytes:
    """A safetensors file with this header over sixteen bytes."""
    text = as_json(header)
    return len(text).to_bytes(8, "little") + text + bytes(16)


def inputs() -> st.SearchStrategy[tuple[bytes, bytes]]:
    found = seeds()
    config = json.loads(found[checkpoint.CONFIG])
    header = {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}, "__metadata__": {"a": "b"}}
    configs = changed(config).map(as_json) | edited(found[checkpoint.CONFIG])
    weights = st.just(found[checkpoint.MODEL]) | edited(found[checkpoint.MODEL]) | changed(header).map(tensors)
    return st.tuples(configs, weights)


def feed(value: tuple[bytes, bytes], folder: Path) -> None:
    config, weights = value
    try:  # the checksum is the writer's own word: one who means harm writes the right one
        known = json.loads(config)
        known["sha256"][checkpoint.MODEL] = hashlib.sha256(weights).hexdigest()
        config = as_json(known)
    except (ValueError, TypeError, KeyError, RecursionError, IndexError):
        pass
    (folder / checkpoint.CONFIG).write_bytes(config)
    (folder / checkpoint.MODEL).write_bytes(weights)
    (folder / checkpoint.FEEDBACK).write_bytes(seeds()[checkpoint.FEEDBACK])
    found = checkpoint.read(folder)
    if found.config.dataset:
        checkpoint.test_split(found.config.dataset, None if found.config.dataset.name == "digits" else str(folder))
    checkpoint.build_model(found)
