"""Loads what an audit measures: the last checkpoint of a run, and the protocol's evaluation batches."""

import os
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking.auditor.evidence.network import Network
from fa_tracking.auditor.evidence.options import Options
from fa_tracking.errors import FATrackError, NoCheckpointError, UsageError
from fa_tracking.protocol.batches import Normalisation, evaluation_batches
from fa_tracking.tracking import checkpoint, names
from fa_tracking.tracking.checkpoint import Checkpoint, DataSource
from fa_tracking.tracking.checkpoint_rule import NoCredit, credit_of
from fa_tracking.tracking.store import is_shared, store_errors, values_at

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from torch import Tensor

_EPOCH = re.compile(rf"{names.CHECKPOINTS}/epoch_(\d{{1,9}})", re.ASCII)


def load(client: "MlflowClient", run: "Run", scratch: Path, options: Options) -> Network:
    """The network of a run's last checkpoint, and the data that it was trained on.

    Raises:
        NoCheckpointError, CheckpointError, UsageError, FATrackError: as ``last_checkpoint`` and ``batches`` say.
    """
    saved = last_checkpoint(client, run, scratch)
    model = checkpoint.build_model(saved)
    evaluated = batches(saved.config.dataset, options.data_dir, run, is_shared(client))
    name = f"the model of checkpoint {saved.folder.name}"
    epoch = saved.config.epoch
    found = Network(name, epoch, saved.sha256, model, evaluated, logged_accuracy(client, run, epoch))
    try:
        return replace(found, credit=credit_of(saved, model))
    except (NoCredit, FATrackError) as error:  # no verdict rests on the rule
        return replace(found, no_credit=str(error))


def logged_accuracy(client: "MlflowClient", run: "Run", epoch: int) -> float | None:
    """The test accuracy that a run logged at an epoch."""
    return values_at(client, run, [names.ACCURACY_TEST], epoch).get(names.ACCURACY_TEST)


def last_checkpoint(client: "MlflowClient", run: "Run", scratch: Path) -> Checkpoint:
    """The checkpoint of the latest epoch, downloaded into ``scratch``.

    Raises:
        NoCheckpointError: the run has none.
        CheckpointError: it is damaged.
    """
    import mlflow

    folder = f"{run.info.artifact_uri.rstrip('/')}/{names.CHECKPOINTS}"  # by the run's id MLflow would read it again
    with store_errors():
        found = [a.path for a in mlflow.artifacts.list_artifacts(folder, tracking_uri=client.tracking_uri)]
        epochs = {int(m.group(1)): path for path in found if (m := _EPOCH.fullmatch(path))}
        if not epochs:
            raise NoCheckpointError("no checkpoint")
        path = mlflow.artifacts.download_artifacts(
            artifact_uri=f"{run.info.artifact_uri.rstrip('/')}/{epochs[max(epochs)]}",
            tracking_uri=client.tracking_uri,
            dst_path=str(scratch),  # without one MLflow makes a folder that it leaves, also where the store is a folder
        )
    return checkpoint.read(Path(path))


def batches(source: DataSource | None, data_dir: str | None, run: "Run", shared: bool) -> "list[tuple[Tensor, Tensor]]":
    """The ten disjoint test batches of 128 of a checkpoint's data set, normalised as in training.

    The folder is ``data_dir``, else FA_TRACK_DATA, else the one that the run was trained from; of a run in a shared
    store that one is only named, for whoever may write a tag would choose what is read on this machine.

    Raises:
        UsageError: the data is not there, or its folder is to be given.
        FATrackError: the checkpoint names no data set, or the data is not what the run was trained on.
    """
    if source is None:
        raise FATrackError("the checkpoint names no data set: pass `dataset=` to `run.log_checkpoint(…)`")
    recorded = run.data.tags.get(names.TAG_DATA_DIR)
    known = [os.environ.get("FA_TRACK_DATA"), None if shared else recorded]
    folders: list[str | None] = [data_dir] if data_dir else [f for f in known if f] or [None]
    for folder in folders[:-1]:
        try:
            return _batches(source, folder)
        except UsageError:
            continue
    try:
        return _batches(source, folders[-1])
    except UsageError as error:
        if data_dir or not (recorded and shared):
            raise
        advice = f"it was trained on {recorded!r}; give --data-dir, as a shared store's word on folders is not followed"
        raise UsageError(f"{error}; {advice}") from error


@lru_cache(maxsize=4)
def _batches(source: DataSource, data_dir: str | None) -> "list[tuple[Tensor, Tensor]]":
    split = checkpoint.test_split(source, data_dir)
    if split.digest != source.test_sha256:
        raise FATrackError(
            f"the test set of {source.name!r} in {data_dir} is not the one of training "
            f"(SHA-256 {split.digest[:12]}…, expected {source.test_sha256[:12]}…)"
        )
    normalise = Normalisation(source.mean, source.std)
    indices = evaluation_batches(len(split.labels))
    try:
        return [(normalise(split.inputs[index]), split.labels[index]) for index in indices]
    except RuntimeError as error:
        raise FATrackError(f"the mean and std of {source.name!r} in the checkpoint do not fit its inputs") from error
