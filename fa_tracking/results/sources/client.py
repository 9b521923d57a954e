"""Reads any store through MLflow's own client: pages of runs, and the histories of several metrics at a time."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from fa_tracking.results.sources import METRICS, PAIRS, RUNS, Progress, Snapshot, unseen, without_password
from fa_tracking.tracking import store

if TYPE_CHECKING:
    import pyarrow as pa
    from mlflow import MlflowClient
    from mlflow.entities import Run

THREADS = 8
RUNS_AT_A_TIME = 50


class ClientSource:
    """A tracking server, or a store of any kind that MLflow knows."""

    def __init__(self, client: "MlflowClient") -> None:
        self.uri = without_password(client.tracking_uri)
        self._client = client
        self._keys: dict[str, list[str]] = {}

    def snapshot(self, experiment: str | None) -> Snapshot:
        chosen = (
            [store.find_experiment(self._client, experiment)]
            if experiment is not None
            else store.all_experiments(self._client)
        )
        names = {e.experiment_id: e.name for e in chosen}
        runs = list(store.search_runs(self._client, list(names)))
        self._keys = {run.info.run_id: list(run.data.metrics) for run in runs}
        self._marks = {run.info.run_id: _fingerprint(run) for run in runs}
        infos = [
            (i.run_id, names[i.experiment_id], i.run_name, i.status, i.start_time, i.end_time, i.artifact_uri)
            for i in (run.info for run in runs)
        ]
        params = [(run.info.run_id, *pair) for run in runs for pair in run.data.params.items()]
        tags = [(run.info.run_id, *pair) for run in runs for pair in run.data.tags.items()]
        return Snapshot(_table(infos, RUNS), _table(params, PAIRS), _table(tags, PAIRS))

    def marks(self, snapshot: Snapshot, known: Mapping[str, str]) -> dict[str, str]:
        """A fingerprint of status, end and last values: empty, so that it is read again, for a run that goes on."""
        return self._marks

    def metrics(self, run_ids: Sequence[str], progress: Progress = unseen) -> "Iterator[pa.Table]":
        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, len(run_ids), RUNS_AT_A_TIME):
                asked = [(run, key) for run in run_ids[start : start + RUNS_AT_A_TIME] for key in self._keys[run]]
                rows = [row for history in pool.map(self._history, asked) for row in history]
                yield _table(rows, METRICS)
                progress(min(start + RUNS_AT_A_TIME, len(run_ids)), len(run_ids))

    def _history(self, asked: tuple[str, str]) -> list[tuple[object, ...]]:
        run, key = asked
        with store.store_errors():
            points = self._client.get_metric_history(run, key)
        return [(run, key, p.step, p.value, math.isnan(p.value), p.timestamp) for p in points]


def _fingerprint(run: "Run") -> str:
    if run.info.status == "RUNNING":
        return ""
    said = repr((run.info.status, run.info.end_time, sorted(run.data.metrics.items())))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _table(rows: Sequence[tuple[object, ...]], columns: Sequence[str]) -> "pa.Table":
    import pyarrow as pa

    arrays = [pa.array(column) for column in zip(*rows, strict=True)] if rows else [pa.nulls(0)] * len(columns)
    return pa.table(arrays, names=list(columns))
