"""Finds and loads the model that a run logged with ``mlflow.pytorch.log_model``."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fa_tracking import untrusted
from fa_tracking.auditor.evidence import checkpoint, eval_data
from fa_tracking.auditor.evidence import exported_model as exported
from fa_tracking.auditor.evidence.network import Network, accuracy
from fa_tracking.auditor.evidence.options import Options
from fa_tracking.errors import CheckpointError, FATrackError, NoCheckpointError
from fa_tracking.tracking import names
from fa_tracking.tracking.checkpoint import DataSource
from fa_tracking.tracking.store import is_shared, store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from torch import nn

FLAVOUR = "pytorch"
EXPORTED, PICKLED = "model.pt2", "model.pth"
HISTORY = "mlflow.log-model.history"
"""The tag in which MLflow 2 keeps what a run has logged as artifacts."""


@dataclass(frozen=True)
class LoggedModel:
    """A model's folder on this machine, the file of its weights with its digest, and the epoch that it is of."""

    folder: Path
    name: str
    weights: Path
    sha256: str
    epoch: int


def load(client: "MlflowClient", run: "Run", scratch: Path, options: Options) -> Network:
    """The network of a run's last logged model, on the data that the run recorded, else on what the user gives.

    The headline is the accuracy that the run logged, else that on the evaluation samples.

    Raises:
        NoCheckpointError, CheckpointError: there is no model, or it is damaged.
        UsageError, FATrackError: it may not be loaded, or there is nothing to measure it on.
    """
    saved = last(client, run, scratch)
    source = data_source(client, run, scratch)
    if source is not None:
        batches = checkpoint.batches(source, options.data_dir, run, is_shared(client))
    elif options.eval_data is not None:
        batches = eval_data.batches(*options.eval_data)
    else:
        raise FATrackError(
            f"nothing to measure the logged model {saved.name!r} on: give --eval-data FILE, "
            "or record the data with `run.log_data(…)` in the training loop"
        )
    model = read_model(saved, options.trust_pickles)
    batches = eval_data.fitted(batches, model)
    notes = [f"logged model {saved.name}"]
    headline = checkpoint.logged_accuracy(client, run, saved.epoch)
    if headline is None:
        headline = accuracy(model, batches)
        notes.append(f"no {names.ACCURACY_TEST} logged: accuracy of {sum(len(y) for _, y in batches)} samples")
    name = f"the logged model {saved.name!r}"
    return Network(name, saved.epoch, saved.sha256, model, batches, headline, options.layers, tuple(notes))


def last(client: "MlflowClient", run: "Run", scratch: Path) -> LoggedModel:
    """The newest PyTorch model of a run, downloaded into ``scratch`` where it does not lie on this machine.

    A model logged without a step is taken to be of the last epoch of the run's test accuracy.

    Raises:
        NoCheckpointError: there is none.
        CheckpointError: it is damaged.
    """
    for number, (name, location, step) in enumerate(_candidates(client, run)):
        folder = scratch / str(number)
        folder.mkdir()
        if FLAVOUR in _flavours(download(client, f"{location}/MLmodel", folder), name):
            return read(download(client, location, folder), name, step or _last_epoch(client, run))
    raise NoCheckpointError("no logged model")


def read(folder: Path, name: str, epoch: int) -> LoggedModel:
    """The model in ``folder``, which MLflow's ``MLmodel`` describes.

    Raises:
        CheckpointError: it holds no weights, or they cannot be read.
    """
    flavour = _flavours(folder / "MLmodel", name).get(FLAVOUR)
    data = str(flavour.get("model_data", "data")) if isinstance(flavour, dict) else "data"
    _refuse_outside(data, f"the logged model {name!r}")
    try:
        for weights in (folder / data / EXPORTED, folder / data / PICKLED):
            if weights.is_file():
                with weights.open("rb") as file:
                    return LoggedModel(folder, name, weights, hashlib.file_digest(file, "sha256").hexdigest(), epoch)
    except OSError as error:  # such as a name that no file can have
        raise CheckpointError(f"the logged model {name!r} cannot be read: {error.strerror}") from error
    raise CheckpointError(f"the logged model {name!r} holds neither {EXPORTED} nor {PICKLED}: it is damaged")


def read_model(model: LoggedModel, trusted: bool) -> "nn.Module":
    """The network itself, on the CPU.

    Raises:
        FATrackError: loading it runs its author's code, and it is not ``trusted``; or it cannot be loaded.
    """
    import mlflow
    import torch

    if model.weights.name == PICKLED and not trusted:
        raise FATrackError(
            f"the logged model {model.name!r} is pickled, and loading it runs its author's code: {exported.TRUST}"
        )
    try:
        if model.weights.name == EXPORTED:
            return exported.load(model.weights, trusted)
        found = mlflow.pytorch.load_model(str(model.folder), map_location="cpu", weights_only=False)
    except FATrackError as error:
        raise type(error)(f"the logged model {model.name!r}: {error}") from error
    except Exception as error:  # a pickle may raise anything
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise FATrackError(f"the logged model {model.name!r} cannot be loaded: {reason}") from error
    if not isinstance(found, torch.nn.Module):
        raise FATrackError(f"the logged model {model.name!r} is no torch.nn.Module but {type(found).__name__}")
    return found


def data_source(client: "MlflowClient", run: "Run", scratch: Path) -> DataSource | None:
    """What the run recorded with ``run.log_data(…)``.

    Raises:
        FATrackError: it is broken.
    """
    with store_errors():
        if not any(a.path == names.DATA_SOURCE for a in client.list_artifacts(run.info.run_id)):
            return None
    file = download(client, f"{run.info.artifact_uri.rstrip('/')}/{names.DATA_SOURCE}", scratch)
    try:
        return DataSource.model_validate(untrusted.read_json(file))
    except ValidationError as error:
        raise FATrackError(f"{names.DATA_SOURCE} is broken: {error.errors()[0]['msg']}") from error
    except (OSError, ValueError) as error:
        raise FATrackError(f"{names.DATA_SOURCE} is broken: {error}") from error


def _candidates(client: "MlflowClient", run: "Run") -> Iterator[tuple[str, str, int]]:
    """Name, location and step of each logged model, newest first: those of MLflow 3, else those of MLflow 2."""
    outputs = {o.model_id: o.step for o in run.outputs.model_outputs} if run.outputs else {}
    with store_errors():
        logged = [client.get_logged_model(model_id) for model_id in outputs]
    for model in sorted(logged, key=lambda m: m.creation_timestamp, reverse=True):
        if model.status == "READY":
            yield model.name, model.artifact_location.rstrip("/"), outputs[model.model_id]
    if not outputs:
        try:
            history = untrusted.parse_json(run.data.tags.get(HISTORY, "[]"))
            paths = [str(entry["artifact_path"]) for entry in history if FLAVOUR in entry["flavors"]]
        except (ValueError, LookupError, TypeError) as error:
            raise CheckpointError(f"the tag {HISTORY} is broken: {error}") from error
        for path in reversed(paths):
            _refuse_outside(path, f"the tag {HISTORY}")
            yield path, f"{run.info.artifact_uri.rstrip('/')}/{path}", 0


def _refuse_outside(path: str, who: str) -> None:
    """Never follow a path out of the folder of a run's artifacts."""
    if not untrusted.is_inside(path):
        raise CheckpointError(f"{who} names {path!r:.80}, which is outside its folder")


def download(client: "MlflowClient", location: str, folder: Path) -> Path:
    """What is at an artifact's address: where it lies on this machine, else in ``folder``."""
    import mlflow

    local = location.startswith(("/", "file:"))
    with store_errors():
        return Path(
            mlflow.artifacts.download_artifacts(
                artifact_uri=location, tracking_uri=client.tracking_uri, dst_path=None if local else str(folder)
            )
        )


def _flavours(description: Path, name: str) -> dict[str, Any]:
    from mlflow.models import Model

    try:
        untrusted.read_yaml(description)  # within bounds, which MLflow has not
        return dict(Model.load(str(description)).flavors)
    except Exception as error:  # whatever YAML and MLflow make of a damaged file
        raise CheckpointError(f"the logged model {name!r}: its MLmodel is broken: {error}") from error


def _last_epoch(client: "MlflowClient", run: "Run") -> int:
    with store_errors():
        return max((m.step for m in client.get_metric_history(run.info.run_id, names.ACCURACY_TEST)), default=0)
