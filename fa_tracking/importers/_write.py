"""Writes a log as a finished MLflow run, and knows which ones the experiment holds already."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from fa_tracking.importers._log import Log
from fa_tracking.tracking import names, store

if TYPE_CHECKING:
    from mlflow import MlflowClient

Item = TypeVar("Item")

PARAMS_PER_BATCH = 100


class Destination:
    """The experiment that logs are written to; asked for, and created where it is missing, with the first log.

    Args:
        beside: files that are kept with every log, such as the map by which it was read.

    Attributes:
        written: the runs that came of logs so far.
    """

    def __init__(self, tracking_uri: str | None, experiment: str, beside: list[Path]) -> None:
        self._tracking_uri = tracking_uri
        self._name = experiment
        self._beside = {path.name: path for path in beside}
        self.written: set[str] = set()

    def same(self, log: Log) -> str | None:
        """The finished run that has this very content.

        Raises:
            UsageError: the experiment was deleted.
            FATrackError: the store does not answer.
        """
        return self._held.get(log.sha256)

    def other(self, log: Log) -> str | None:
        """The latest finished run that came of the same file when that had another content."""
        return None if self.same(log) else self._held.get(_where(log))

    def write(self, log: Log) -> str:
        """The id of a new run that holds the log; FAILED, so that the next import tries again, where the store fails.

        Raises:
            FATrackError: the store failed.
        """
        tags = {names.TAG_IMPORTED_FROM: _where(log), names.TAG_IMPORTED_SHA256: log.sha256}
        if log.given:
            tags[names.TAG_GIVEN] = json.dumps(log.given)
        if log.said:
            tags[names.TAG_IMPORT_NOTES] = log.said
        with store.store_errors():
            run = self._client.create_run(self._experiment, tags=tags, run_name=log.part or log.source.resolve().name)
            try:
                self._fill(run.info.run_id, log)
                self._client.set_terminated(run.info.run_id, "FINISHED")
            except BaseException:
                with suppress(Exception):
                    self._client.set_terminated(run.info.run_id, "FAILED")
                raise
        self._held[log.sha256] = self._held[_where(log)] = run.info.run_id
        self.written.add(run.info.run_id)
        return str(run.info.run_id)

    def delete(self, run_id: str) -> None:
        """Delete a run, as MLflow does: it can be restored."""
        with store.store_errors():
            self._client.delete_run(run_id)

    def _fill(self, run_id: str, log: Log) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        params = [Param(key, value) for key, value in log.params.items()]
        for piece in _pieces(params, PARAMS_PER_BATCH):
            self._client.log_batch(run_id, params=piece)
        points = [
            Metric(key, point.value, now if point.time is None else point.time, point.step)
            for key, series in log.points.items()
            for point in series
        ]
        for part in _pieces(points, store.METRICS_PER_BATCH):
            self._client.log_batch(run_id, metrics=part)
        for name, path in (log.files | self._beside).items():
            folder = PurePosixPath(names.IMPORTED, name).parent
            self._client.log_artifact(run_id, str(path), str(folder))

    @cached_property
    def _client(self) -> "MlflowClient":
        return store.client(self._tracking_uri)

    @cached_property
    def _experiment(self) -> str:
        return store.experiment_id(self._client, self._name)

    @cached_property
    def _held(self) -> dict[str, str]:
        """The finished runs of earlier imports, by the digest of their log and by where it stood."""
        held = {}
        for run in store.search_runs(self._client, [self._experiment], "attributes.status = 'FINISHED'"):
            for tag in (names.TAG_IMPORTED_SHA256, names.TAG_IMPORTED_FROM):
                if tag in run.data.tags:
                    held[run.data.tags[tag]] = run.info.run_id
        return held


def _where(log: Log) -> str:
    return f"{log.source.resolve()} [{log.part}]" if log.part else str(log.source.resolve())


def _pieces(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
