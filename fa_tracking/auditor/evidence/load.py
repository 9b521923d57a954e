"""Loads what the verdict on a run rests on: the one place that says what is preferred to what."""

from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking.auditor.evidence import checkpoint, logged_model, logged_numbers
from fa_tracking.auditor.evidence.logged_numbers import Logged
from fa_tracking.auditor.evidence.network import Network
from fa_tracking.auditor.evidence.options import Options
from fa_tracking.errors import FATrackError, NoCheckpointError
from fa_tracking.tracking import address, names

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_NOTHING_LOGGED = (
    "no diagnostics were logged: save one with `run.log_checkpoint(…, factory=…)`, "
    "or a model with `mlflow.pytorch.log_model(…)`, or log diagnostics with `run.log_epoch(…)`"
)

_NO_NORMS = (
    "the log that it was imported from holds none of the norms ‖h_l‖ and ‖g_l‖: where the log has them under other "
    "names, import it anew with --map and --replace"
)

NETWORKS = (checkpoint.load, logged_model.load)
"""Where a network is looked for, the best first: our checkpoint, then the model that MLflow logged."""

Evidence = Network | Logged


def load(client: "MlflowClient", run: "Run", folder: Path, options: Options) -> Evidence:
    """A run's network, from the first of ``NETWORKS`` that has one; without one, the numbers that the run logged.

    A network that is there and cannot be loaded is never passed over for weaker evidence.

    Args:
        folder: where files are put; the network may need them as long as it is used.

    Raises:
        NoCheckpointError: there is neither; the message says why not.
        CheckpointError: the network is damaged.
        UsageError, FATrackError: it cannot be loaded for another reason, or its data is not at hand.
    """
    if place := address.lost(run.info.artifact_uri or ""):
        raise FATrackError(
            f"its artifacts are at {place}, which is not here: carry the store back there, or link that path to where "
            f"it is now (`ln -s`); `fa-track export` needs no artifacts"
        )
    missing: list[NoCheckpointError] = []
    for load_network in NETWORKS:
        try:
            return load_network(client, run, folder, options)
        except NoCheckpointError as error:
            missing.append(error)
    first = missing[0]
    log = logged_numbers.read(client, run)
    if not log.epochs:
        why = _NO_NORMS if names.TAG_IMPORTED_FROM in run.data.tags else _NOTHING_LOGGED
        raise NoCheckpointError(f"{first}, and {why}") from first
    return Logged(log, log.epochs[-1], str(first))
