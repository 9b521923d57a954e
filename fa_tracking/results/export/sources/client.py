"""Reads any store through MLflow's client: a tracking server, a folder, a database of another schema.

A server does not say whether a metric has new points: one that was logged late, at a step before the last, changes
nothing that it lists. So every export reads all of them, into a file of this machine's temporary folder, and a run has
changed where its points have.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from fa_tracking.errors import FATrackError
from fa_tracking.results.export.source import METRICS, PAIRS, RUNS, Progress, Snapshot, unseen
from fa_tracking.tracking import address, store
from fa_tracking.tracking.address import without_password

if TYPE_CHECKING:
    import pyarrow as pa
    from mlflow import MlflowClient

THREADS = 8
RUNS_AT_A_TIME = 50
BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
"""Where MLflow's servers have the histories of one metric of several runs, up to ``MOST`` points of them."""
MOST = 25_000

Point = tuple[str, str, int, float, bool, int]
"""Of the columns of ``METRICS``."""


class ClientSource:
    """A store as MLflow's client shows it."""

    def __init__(self, client: "MlflowClient") -> None:
        self.uri = without_password(client.tracking_uri)
        self._client = client
        self._is_server = address.is_server(client.tracking_uri)
        self._keys: dict[str, list[str]] = {}
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the source

    def snapshot(self, experiment: str | None) -> Snapshot:
        chosen = (
            [store.find_experiment(self._client, experiment)]
            if experiment is not None
            else store.all_experiments(self._client)
        )
        names = {e.experiment_id: e.name for e in chosen}
        runs = store.trainings(self._client, list(names))
        self._keys = {run.info.run_id: sorted(run.data.metrics) for run in runs}
        infos = [
            (i.run_id, names[i.experiment_id], i.run_name, i.status, i.start_time, i.end_time, i.artifact_uri)
            for i in (run.info for run in runs)
        ]
        params = [(run.info.run_id, *pair) for run in runs for pair in run.data.params.items()]
        tags = [(run.info.run_id, *pair) for run in runs for pair in run.data.tags.items()]
        return Snapshot(_table(infos, RUNS), _table(params, PAIRS), _table(tags, PAIRS))

    def marks(self, snapshot: Snapshot, known: Mapping[str, str], progress: Progress = unseen) -> dict[str, str]:
        """A digest of all the points of each run."""
        import pyarrow as pa

        run_ids = list(self._keys)
        digests = {run: hashlib.sha256() for run in run_ids}
        with ThreadPoolExecutor(THREADS) as pool, pa.ipc.new_stream(self._spool, _points([]).schema) as spool:
            for start in range(0, len(run_ids), RUNS_AT_A_TIME):
                some = run_ids[start : start + RUNS_AT_A_TIME]
                keys = sorted({key for run in some for key in self._keys[run]})
                asked = [(key, [run for run in some if key in self._keys[run]]) for key in keys]
                for points in pool.map(self._histories, asked):
                    for point in sorted(points, key=lambda p: (p[0], p[2], p[5], p[4], 0.0 if p[4] else p[3])):
                        digests[point[0]].update(repr(point[1:]).encode())
                    spool.write_table(_points(points))
                progress(min(start + RUNS_AT_A_TIME, len(run_ids)), len(run_ids))
        return {run: digest.hexdigest()[:16] for run, digest in digests.items()}

    def metrics(self, run_ids: Sequence[str], progress: Progress = unseen) -> "Iterator[pa.Table]":
        import pyarrow as pa
        import pyarrow.compute as pc

        self._spool.seek(0)
        asked = pa.array(run_ids, pa.string())
        with pa.ipc.open_stream(self._spool) as spool:
            for batch in spool:
                yield pa.table(batch).filter(pc.is_in(batch["run_id"], value_set=asked))

    def _histories(self, asked: tuple[str, list[str]]) -> list[Point]:
        """The points of one metric in some runs."""
        key, runs = asked
        if self._is_server and (found := self._in_bulk(key, runs)) is not None:
            return found
        with store.store_errors():
            return [
                (run, key, p.step, p.value, math.isnan(p.value), p.timestamp)
                for run in runs
                for p in self._client.get_metric_history(run, key)
            ]

    def _in_bulk(self, key: str, runs: list[str]) -> list[Point] | None:
        """The same in one request; None from a server that has no such answer, or where it is cut short."""
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        creds = get_default_host_creds(self._client.tracking_uri)
        try:
            with store.store_errors():
                params = {"run_id": runs, "metric_key": key, "max_results": MOST}
                answer = http_request(creds, BULK, "GET", params=params, raise_on_status=False)
            found = json.loads(answer.text)["metrics"] if answer.status_code == 200 else None
        except (FATrackError, KeyError, TypeError, ValueError):
            return None
        if found is None or len(found) < MOST:
            return None if found is None else [_point(said) for said in found]
        if len(runs) == 1:
            return None
        half = len(runs) // 2
        return self._histories((key, runs[:half])) + self._histories((key, runs[half:]))


def _point(said: Mapping[str, Any]) -> Point:
    value = float(said["value"])
    return (said["run_id"], said["key"], int(said["step"]), value, math.isnan(value), int(said["timestamp"]))


def _points(points: Sequence[Point]) -> "pa.Table":
    import pyarrow as pa

    types = (pa.string(), pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.int64())
    columns = zip(*points, strict=True) if points else [()] * len(types)
    return pa.table([pa.array(c, t) for c, t in zip(columns, types, strict=True)], names=list(METRICS))


def _table(rows: Sequence[tuple[object, ...]], columns: Sequence[str]) -> "pa.Table":
    import pyarrow as pa

    arrays = [pa.array(column) for column in zip(*rows, strict=True)] if rows else [pa.nulls(0)] * len(columns)
    return pa.table(arrays, names=list(columns))
