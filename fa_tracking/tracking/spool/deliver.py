"""Brings the entries of a journal to the store. An entry that comes twice leaves what it leaves once."""

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fa_tracking.tracking import _mlflow_compat, store

if TYPE_CHECKING:
    from mlflow import MlflowClient

_BUSY = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")
"""MLflow's codes of a store that is there, and cannot answer now."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Of a folder of artifacts that may have room later."""


def deliver(client: "MlflowClient", run_id: str, folder: Path, entry: dict[str, Any]) -> None:
    """Write one entry of the journal in ``folder``.

    Raises:
        MlflowException, OSError, RequestException: the store did not take it; ``is_away`` tells whether it may later.
    """
    match entry:
        case {"metrics": points}:
            _log_metrics(client, run_id, points)
        case {"tag": key, "value": value}:
            client.set_tag(run_id, key, value)
        case {"text": text, "path": path}:
            client.log_text(run_id, text, path)
        case {"upload": name, "path": path}:
            _upload(client, run_id, folder / name, path)
        case {"remove": path}:
            _remove(client, run_id, path)
        case {"status": status}:
            client.set_terminated(run_id, status)
        case _:
            raise ValueError(f"an entry of another version of fa-track: {str(entry)[:80]}")


def _log_metrics(client: "MlflowClient", run_id: str, points: list[list[Any]]) -> None:
    from mlflow.entities import Metric

    for start in range(0, len(points), store.METRICS_PER_BATCH):
        part = points[start : start + store.METRICS_PER_BATCH]
        client.log_batch(run_id, metrics=[Metric(key, value, time, step) for key, value, time, step in part])


def _upload(client: "MlflowClient", run_id: str, folder: Path, target: str) -> None:
    """The files of a folder, what describes the others last: half of them is never taken for the whole."""
    for file in sorted(folder.glob("*"), key=lambda file: (file.suffix == ".json", file.name)):
        client.log_artifact(run_id, str(file), target)
    shutil.rmtree(folder, ignore_errors=True)  # gone: an earlier delivery has uploaded it


def _remove(client: "MlflowClient", run_id: str, path: str) -> None:
    """Remove artifacts that are of no use any more, where the store lets its clients do so."""
    uri = client.get_run(run_id).info.artifact_uri
    try:
        _mlflow_compat.delete_artifacts(uri, client.tracking_uri, path)
    except Exception as error:  # each kind of artifact store has errors of its own
        if is_away(error):
            raise


def is_away(error: BaseException) -> bool:
    """Whether the store may take later what it has not taken now: it does not answer, is busy, is full."""
    from mlflow.exceptions import MlflowException, RestException
    from requests import RequestException
    from requests.exceptions import InvalidURL

    if isinstance(error, MlflowException):
        behind = [*_behind(error)]
        if any(_is_refusal(each) for each in behind):
            return False
        # MLflow's server answers in JSON, a RestException: where the path is unknown, something else has its address
        is_other = error.error_code == "ENDPOINT_NOT_FOUND" and not isinstance(error, RestException)
        return is_other or error.error_code in _BUSY or any(map(is_away, behind))
    if isinstance(error, InvalidURL):
        return False
    if isinstance(error, RequestException):
        answer = error.response
        return answer is None or answer.status_code == 429 or answer.status_code >= 500
    return isinstance(error, ConnectionError | TimeoutError) or (isinstance(error, OSError) and error.errno in _NO_ROOM)


def _behind(error: BaseException) -> Iterator[BaseException]:
    """The exceptions that an exception was raised from."""
    while inner := error.__cause__ or error.__context__:
        yield inner
        error = inner


def _is_refusal(error: BaseException) -> bool:
    """Whether SQLite calls a statement wrong, as where a table is missing: waiting does not help."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_ERROR
