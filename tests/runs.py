"""Runs as somebody's training has logged them: params, metrics and tags, without a training."""

import time
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

RUNNING = "RUNNING"


def log_run(
    store: str | MlflowClient,
    experiment: str,
    by_epoch: Mapping[int, Mapping[str, float]] | None = None,
    *,
    tags: Mapping[str, object] | None = None,
    status: str = "FINISHED",
    name: str | None = None,
    started: int | None = None,
    ended: int | None = None,
    **params: object,
) -> str:
    """Log a run into ``experiment``, which is made if the store has none of this name, and give its id.

    Args:
        store: its URI, or a client of it.
        by_epoch: the metrics of each epoch.
        started, ended: milliseconds since 1970; the metrics are of the moment ``ended``; None: now.
        params: a param that is None is not logged.
    """
    client = MlflowClient(store) if isinstance(store, str) else store
    home = client.get_experiment_by_name(experiment)
    home_id = home.experiment_id if home else client.create_experiment(experiment)
    run_id = str(client.create_run(home_id, start_time=started, run_name=name).info.run_id)
    moment = ended or int(time.time() * 1000)
    client.log_batch(
        run_id,
        [Metric(key, value, moment, step) for step, found in (by_epoch or {}).items() for key, value in found.items()],
        [Param(key, str(value)) for key, value in params.items() if value is not None],
        [RunTag(key, str(value)) for key, value in (tags or {}).items()],
    )
    if status != RUNNING:
        client.set_terminated(run_id, status, ended)
    return run_id
