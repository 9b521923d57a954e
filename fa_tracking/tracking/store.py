"""The MLflow store: reach it, find experiments in it, name what is wrong with it in one line."""

import math
import os
import socket
import sqlite3
import ssl
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.scratch import scratch
from fa_tracking.tracking import lock, names

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

LARGEST = 1.7976931348623157e308
"""What MLflow's SQL stores write for infinity."""


def client(tracking_uri: str | None = None) -> "MlflowClient":
    """A client of ``tracking_uri``; of MLFLOW_TRACKING_URI, else MLflow's own default, where None."""
    import logging

    logging.getLogger("alembic").setLevel(logging.WARNING)  # a new SQLite store else prints 60 migration lines
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # `store_errors` says it, on one line
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    import mlflow

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # ours say more, on a terminal alone
    uri = tracking_uri or mlflow.get_tracking_uri()
    # processes that begin at once would all make the tables of a new SQLite store, and most would fail
    making = lock.alone(str(Path(uri.partition(":///")[2]).resolve())) if uri.startswith("sqlite") else nullcontext()
    with store_errors(), making:
        if uri.startswith("sqlite:"):
            _be_patient()
            _make_tables(uri)
        return mlflow.MlflowClient(tracking_uri)


def must_answer(uri: str | None) -> None:
    """Refuse a tracking server that is not there, on which MLflow would call for minutes without a word.

    Raises:
        FATrackError: nobody answers at its address.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or ""
    if not uri.startswith(("http://", "https://")):
        return
    parts = urlsplit(uri)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        urllib.request.urlopen(address, timeout=ANSWER).close()
    except urllib.error.HTTPError:
        return  # it answers
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):  # which MLflow may have been told to accept
            said = getattr(reason, "strerror", None) or reason
            raise FATrackError(f"the MLflow server {address} does not answer: {said}") from error


def must_exist(tracking_uri: str | None) -> None:
    """Refuse a store of this machine that is not there, for MLflow would make it.

    Raises:
        UsageError: it is not.
    """
    import mlflow

    uri = tracking_uri or mlflow.get_tracking_uri()
    is_folder = "://" not in uri or uri.startswith("file:")
    place = Path(uri.removeprefix("file://")) if is_folder else _sqlite_file(uri)
    if place is not None and not place.exists():
        raise UsageError(f"there is no store {place}")


def absolute(uri: str) -> str:
    """The URI of a store as any folder knows it: that of a file may be relative to this one."""
    if (file := _sqlite_file(uri)) is None:
        return uri if ":" in uri else str(Path(uri).resolve())
    from sqlalchemy import make_url

    return make_url(uri).set(database=str(file.resolve())).render_as_string(hide_password=False)


def must_be_here(uri: str) -> None:
    """Refuse a SQLite file that is not on this machine, where MLflow would begin a new and empty one.

    Raises:
        FATrackError: it is not, or the store lives in one process alone.
    """
    file = _sqlite_file(uri)
    if uri.startswith("sqlite") and (file is None or not file.is_file()):
        raise FATrackError(
            f"{socket.gethostname()} has no file {file or uri}: several processes need a store that each of them "
            "reaches; on several machines a tracking server (MLFLOW_TRACKING_URI=http://…)"
        )


def _sqlite_file(uri: str) -> Path | None:
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy import make_url

    name = make_url(uri).database
    return None if name in (None, "", ":memory:") else Path(str(name))


@cache
def _be_patient() -> None:
    """Wait for other writers of a SQLite store three times as long as MLflow does."""
    from sqlalchemy import Engine, event

    @event.listens_for(Engine, "connect")
    def _(connection: Any, _: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute(f"pragma busy_timeout = {PATIENCE}")

    @event.listens_for(Engine, "before_cursor_execute", retval=True)
    def _(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return statement.replace("PRAGMA busy_timeout = 20000;", f"PRAGMA busy_timeout = {PATIENCE};"), parameters


def _make_tables(uri: str) -> None:
    """Put a new SQLite store in its place as a whole: MLflow cannot open one whose tables were half made."""
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables

    file = _sqlite_file(uri)
    if file is None or (file.exists() and file.stat().st_size):
        return
    path = file.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch(path.parent) as folder:
        engine = sqlalchemy.create_engine(f"sqlite:///{folder / path.name}")
        _initialize_tables(engine)
        engine.dispose()
        (folder / path.name).replace(path)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn MLflow's and the database's exceptions into one line."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise FATrackError(f"the MLflow store failed: {what_failed(error) or type(error).__name__}") from error


def what_failed(said: object) -> str:
    """The line of an error's text that says what failed; SQLAlchemy may begin with when it did."""
    return next((line for line in str(said).strip().splitlines() if "raised as a result of" not in line), "")


def is_shared(store: "MlflowClient") -> bool:
    """Whether others may write to a store: any but a SQLite file or a folder of this machine."""
    uri = str(store.tracking_uri)
    return "://" in uri and not uri.startswith(("sqlite:", "file:"))


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
    raise UsageError(f"no experiment named {name!r} in {store.tracking_uri}{deleted}; there are: {', '.join(known)}")


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

    with store_errors():
        if (experiment := store.get_experiment_by_name(name)) is None:
            try:
                return store.create_experiment(name, tags={names.TAG_KIND: names.KIND})
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
    return [
        run
        for run in found
        if (run.info.experiment_id, run.info.run_id) not in parents
        or trains(run.data.tags, run.data.metrics, bool(run.outputs and run.outputs.model_outputs))
    ]


def trains(tags: Collection[str], metrics: Collection[str], has_models: bool) -> bool:
    """Whether a run that others are nested in is a training itself, by the keys of its tags and metrics."""
    begun_here = names.TAG_PROCESS in tags or names.TAG_CONFIG_SHA256 in tags
    return begun_here or has_models or any(key.startswith(names.OF_DIAGNOSTICS) for key in metrics)
