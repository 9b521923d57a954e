"""The MLflow store: reach it, find experiments in it, name what is wrong with it in one line."""

import math
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking.errors import FATrackError, UsageError, no_such
from fa_tracking.scratch import scratch
from fa_tracking.tracking import _mlflow_compat, address, lock, names, schema
from fa_tracking.tracking.schema import what_failed

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Metric, Run

PAGE = 1000
METRICS_PER_BATCH = 1000
"""More at once MLflow refuses."""

ANSWER = 10.0
"""Seconds that a server has to answer a command that begins."""

PATIENCE = 60_000
"""Milliseconds that a SQLite store is waited for while others write to it."""

_RUN = re.compile("[0-9a-f]{32}")

LARGEST = 1.7976931348623157e308
"""What MLflow's SQL stores write for infinity."""


def client(tracking_uri: str | None = None, may_make: bool = True) -> "MlflowClient":
    """A client of ``tracking_uri``; of MLFLOW_TRACKING_URI, else MLflow's own default, where None.

    Args:
        may_make: whether a store may be made where none is.

    Raises:
        FATrackError: it does not open, or is a database of somebody else's.
    """
    import mlflow

    uri = tracking_uri or mlflow.get_tracking_uri()
    file = address.file(uri)
    # processes that begin at once would all make the tables of a new SQLite store, and most would fail
    with store_errors(), lock.alone(str(file.resolve())) if file else nullcontext():
        if address.is_sql(uri):
            schema.refuse_other(uri, may_make)
        if address.scheme(uri) == "sqlite":
            _make_tables(file)
            if file is not None:
                _mlflow_compat.be_patient(uri, PATIENCE)
        return mlflow.MlflowClient(tracking_uri)


def reader(tracking_uri: str | None = None) -> "MlflowClient":
    """A client of a store that is there: one that only reads does not make it.

    Raises:
        UsageError: there is none on this machine, where it should be.
        FATrackError: it does not open.
    """
    import mlflow

    must_exist(tracking_uri)
    root = address.folder(tracking_uri or mlflow.get_tracking_uri())
    if root is not None and (damaged := damaged_files(root)):  # MLflow leaves out what it cannot read
        raise FATrackError(_damaged(damaged))
    return client(tracking_uri, may_make=False)


def must_answer(uri: str | None) -> None:
    """Refuse a tracking server that is not there, on which MLflow would call for minutes without a word.

    Raises:
        FATrackError: nobody answers at its address.
    """
    uri = address.given(uri) or ""
    if not address.is_server(uri):
        return
    shown = address.without_login(uri)
    try:
        urllib.request.urlopen(shown, timeout=ANSWER).close()
    except urllib.error.HTTPError:
        return  # it answers
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):  # which MLflow may have been told to accept
            said = getattr(reason, "strerror", None) or reason
            raise FATrackError(f"the MLflow server {shown} does not answer: {said}") from error


def must_exist(tracking_uri: str | None) -> None:
    """Refuse a store of this machine that is not there, for MLflow would make it.

    Raises:
        UsageError: it is not.
    """
    if (place := missing(tracking_uri)) is not None:
        raise UsageError(f"there is no store {place}")


def missing(tracking_uri: str | None) -> Path | None:
    """The file or folder of this machine where a store should be and is not; None where it is, or is elsewhere."""
    import mlflow

    place = address.place(tracking_uri or mlflow.get_tracking_uri())
    if place is None or place.is_dir():
        return None
    return None if place.is_file() and place.stat().st_size else place  # of an empty file MLflow would make a store


def must_be_here(uri: str) -> None:
    """Refuse a SQLite file that is not on this machine, where MLflow would begin a new and empty one.

    Raises:
        FATrackError: it is not, or the store lives in one process alone.
    """
    file = address.file(uri)
    if address.scheme(uri) == "sqlite" and (file is None or not file.is_file()):
        raise FATrackError(
            f"{socket.gethostname()} has no file {file or uri}: several processes need a store that each of them "
            "reaches; on several machines a tracking server (MLFLOW_TRACKING_URI=http://…)"
        )


def _make_tables(file: Path | None) -> None:
    """Put a new SQLite store in its place as a whole: MLflow cannot open one whose tables were half made."""
    if file is None or (file.exists() and file.stat().st_size):
        return
    path = file.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch(path.parent) as folder:
        _mlflow_compat.make_tables(folder / path.name)
        (folder / path.name).replace(path)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn MLflow's and the database's exceptions into one line."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _mlflow_compat.quiet():
            yield
    except (MlflowException, SQLAlchemyError, CommandError, OSError) as error:
        raise FATrackError(f"the MLflow store failed: {what_failed(error) or type(error).__name__}") from error
    except Exception as error:
        if root := _mlflow_compat.failed_file_store(error.__traceback__):  # MLflow trips over a file that is cut short
            raise FATrackError(_damaged(damaged_files(root) or [root])) from error
        raise


def _damaged(files: list[Path]) -> str:
    shown = ", ".join(map(str, files[:3])) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    return f"the MLflow store is damaged: {shown}: bring the file back, or move its folder out of the store"


def damaged_files(root: Path) -> list[Path]:
    """The descriptions of experiments and runs in a file store that are missing, or are none."""
    import yaml

    damaged = []
    experiments = [folder for folder in root.glob("*/") if folder.name.isdecimal()]
    runs = [folder for experiment in experiments for folder in experiment.glob("*/") if _RUN.fullmatch(folder.name)]
    for path in (folder / "meta.yaml" for folder in sorted(experiments + runs)):
        try:
            is_whole = isinstance(yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)), dict)
        except (OSError, yaml.YAMLError):
            is_whole = False
        if not is_whole:
            damaged.append(path)
    return damaged


def is_shared(store: "MlflowClient") -> bool:
    """Whether others may write to a store: any but a SQLite file or a folder of this machine."""
    return address.is_shared(str(store.tracking_uri))


def find_experiment(store: "MlflowClient", name: str) -> "Experiment":
    """The experiment ``name``.

    Raises:
        UsageError: there is none; the message lists what there is.
    """
    with store_errors():
        experiment = store.get_experiment_by_name(name)
        if experiment is not None and experiment.lifecycle_stage == "active":
            return experiment
    known = sorted(e.name for e in all_experiments(store))
    deleted = " (it was deleted: `mlflow experiments restore` brings it back)" if experiment is not None else ""
    where = f"{name!r} in {address.without_password(str(store.tracking_uri))}{deleted}"
    raise UsageError(no_such("experiment", name, known).replace(f"{name!r}", where, 1))


def only_experiment(uri: str | None) -> str:
    """Give the name of the only experiment of a store that has runs.

    Raises:
        UsageError: there is none, or several; the message lists them.
    """
    store = reader(uri)
    with store_errors():
        known = sorted(e.name for e in all_experiments(store) if store.search_runs([e.experiment_id], max_results=1))
    if len(known) == 1:
        return known[0]
    where = f"{address.without_password(str(store.tracking_uri))} holds"
    if not known:
        raise UsageError(f"{where} no run: `fa-track train` trains one; another store is named by --tracking-uri")
    raise UsageError(f"{where} runs of several experiments, choose one by --experiment: {', '.join(known)}")


def all_experiments(store: "MlflowClient") -> "Iterator[Experiment]":
    """Every active experiment, page by page."""
    token = None
    while True:
        with store_errors():
            page = store.search_experiments(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def experiment_id(store: "MlflowClient", name: str) -> str:
    """The id of the experiment ``name``, created where it is missing, also while others create it."""
    from mlflow.exceptions import MlflowException

    uri = str(store.tracking_uri)
    with store_errors():
        if (experiment := store.get_experiment_by_name(name)) is None:
            try:
                return store.create_experiment(name, address.artifact_location(uri), tags={names.TAG_KIND: names.KIND})
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
    return find_experiment(store, name).experiment_id if experiment is None else _active(experiment)


def _active(experiment: "Experiment") -> str:
    if experiment.lifecycle_stage != "active":
        raise UsageError(
            f"the experiment {experiment.name!r} was deleted: `mlflow experiments restore` it or use another name"
        )
    return experiment.experiment_id


def values_at(store: "MlflowClient", run: "Run", keys: Collection[str], step: int) -> dict[str, float]:
    """The numbers that a run logged last at ``step``, of those metrics among ``keys`` that it logged then.

    The store is asked for a history alone where the metric's last number is of another step.
    """
    last = {metric.key: metric for metric in run.data.to_proto().metrics}
    found = {key: last[key].value for key in keys if key in last and last[key].step == step}
    for key in (key for key in keys if key in last and key not in found):
        found.update((key, metric.value) for metric in history(store, run, key) if metric.step == step)
    return found


def history(store: "MlflowClient", run: "Run", key: str) -> "list[Metric]":
    """All that ``run`` logged of a metric, in the order in which it did: of several at one step the last counts.

    At one millisecond the larger value is the later one, as it is for MLflow, and NaN the largest.
    """
    with store_errors():
        points = store.get_metric_history(run.info.run_id, key)
    return sorted(points, key=lambda p: (p.timestamp, math.isnan(p.value), 0.0 if math.isnan(p.value) else p.value))


def search_runs(store: "MlflowClient", experiment_ids: list[str], filter_string: str = "") -> "Iterator[Run]":
    """Every active run of the experiments but their summaries, page by page, oldest first."""
    token = None
    while experiment_ids:
        with store_errors():
            page = store.search_runs(
                experiment_ids,
                filter_string,
                max_results=PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
        yield from (run for run in page if names.TAG_SUMMARY not in run.data.tags)
        token = page.token
        if not token:
            return


def trainings(store: "MlflowClient", experiment_ids: list[str]) -> "list[Run]":
    """Every active run of the experiments that may be a training, oldest first.

    A run that only holds nested ones, as sweeps leave it, is none: others of its experiment name it as their parent,
    it was not begun by FA-Track, and it has neither a diagnostic nor a logged model of its own.
    """
    found = list(search_runs(store, experiment_ids))
    parents = {(run.info.experiment_id, run.data.tags.get(names.TAG_PARENT)) for run in found}
    return [run for run in found if (run.info.experiment_id, run.info.run_id) not in parents or is_training(run)]


def is_training(run: "Run") -> bool:
    """Whether a run that others are nested in is a training itself."""
    return trains(run.data.tags, run.data.metrics, bool(run.outputs and run.outputs.model_outputs))


def trains(tags: Collection[str], metrics: Collection[str], has_models: bool) -> bool:
    """Whether a run that others are nested in is a training itself, by the keys of its tags and metrics."""
    begun_here = names.TAG_PROCESS in tags or names.TAG_CONFIG_SHA256 in tags
    return begun_here or has_models or any(key.startswith(names.OF_DIAGNOSTICS) for key in metrics)
