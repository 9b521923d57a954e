"""The MLflow store: reach it, find experiments in it, name what is wrong with it in one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.tracking import lock, names

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

PAGE = 1000
METRICS_PER_BATCH = 1000
"""More at once MLflow refuses."""

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
        return mlflow.MlflowClient(tracking_uri)


def absolute(uri: str) -> str:
    """The URI of a store as any folder knows it: that of a SQLite file may be relative to this one."""
    scheme, file = "sqlite:///", uri.removeprefix("sqlite:///")
    return f"{scheme}{Path(file).absolute()}" if uri.startswith(scheme) and not file.startswith("/") else uri


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn MLflow's and the database's exceptions into one line."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        lines = [line for line in str(error).strip().splitlines() if not line.startswith("(raised as a result of")]
        raise FATrackError(f"the MLflow store failed: {lines[0] if lines else type(error).__name__}") from error


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
                return store.create_experiment(name)
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
