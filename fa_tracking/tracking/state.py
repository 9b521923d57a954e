"""A training state: all that a killed run needs to go on as if nothing had been. Nothing is ever unpickled.

Two folders take turns, so that one is whole while the other is being written.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fa_tracking.tracking import names
from fa_tracking.tracking.store import store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from torch import Tensor

TENSORS = "state.safetensors"
VALUES = "state.json"


@dataclass(frozen=True)
class State:
    """Holds a run's saved state after ``epoch``: tensors by name, other values from JSON, and the ``slot`` of its
    folder.
    """

    epoch: int
    tensors: "dict[str, Tensor]"
    values: dict[str, Any]
    slot: int


def write(folder: Path, epoch: int, tensors: "Mapping[str, Tensor]", values: Mapping[str, Any]) -> None:
    """Write a state into ``folder``, with the checksum by which a half of it is known."""
    from safetensors.torch import save

    data = save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()})
    (folder / TENSORS).write_bytes(data)
    head = {"epoch": epoch, "sha256": hashlib.sha256(data).hexdigest(), "values": dict(values)}
    (folder / VALUES).write_text(json.dumps(head), encoding="utf-8")


def read_last(client: "MlflowClient", run_id: str) -> State | None:
    """The latest whole state of a run; None: it has none."""
    import mlflow

    with store_errors(), tempfile.TemporaryDirectory(prefix="fa-track-") as scratch:
        if not client.list_artifacts(run_id, names.STATE):
            return None
        local = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=names.STATE, tracking_uri=client.tracking_uri, dst_path=scratch
        )
        return latest(Path(local))


def latest(folder: Path) -> State | None:
    """The latest whole state in a folder of them; None: it holds none."""
    found = [_read(slot) for slot in folder.iterdir()]
    whole = [state for state in found if state is not None]
    return max(whole, key=lambda state: state.epoch, default=None)


def _read(folder: Path) -> State | None:
    from safetensors.torch import load

    try:
        head = json.loads((folder / VALUES).read_text(encoding="utf-8"))
        data = (folder / TENSORS).read_bytes()
        if hashlib.sha256(data).hexdigest() != head["sha256"]:
            return None
        return State(int(head["epoch"]), load(data), head["values"], int(folder.name))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # its process was killed while it was being written; the other one is whole
