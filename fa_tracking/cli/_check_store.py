"""The tracking store, looked at for `fa-track doctor`: never made, and not waited for where it stays silent."""

import os
import shlex
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fa_tracking.cli._show import typed
from fa_tracking.errors import FATrackError, NoTablesError
from fa_tracking.spelled import counted
from fa_tracking.tracking import address

if TYPE_CHECKING:
    from fa_tracking.results.export.source import Snapshot

T = TypeVar("T")

OK, WARNING, PROBLEM = "ok", "warning", "problem"

ANSWER, READ = 10, 20
"""Seconds that a store has to answer, and to list its runs."""


@dataclass(frozen=True)
class Check:
    """What one check says.

    Attributes:
        state: ``ok``, ``warning`` or ``problem``.
        advice: what to do about it, a sentence; empty where nothing is to be done.
        command: what to type, where a command mends it.
    """

    name: str
    state: str
    found: str
    advice: str = ""
    command: str = ""


class _NoAnswerError(FATrackError):
    """The store has not answered in time."""


@dataclass(frozen=True)
class Store:
    """The tracking store: its address, what was found, and its runs where they could be read."""

    uri: str
    check: Check
    snapshot: "Snapshot | None" = None


def store(tracking_uri: str | None) -> Store:
    """The tracking store, looked at and never made."""
    from mlflow.tracking import get_tracking_uri

    uri = tracking_uri or get_tracking_uri()
    shown, checked = address.without_password(uri), partial(Check, "store")
    where = address.place(uri)
    if where is not None and not where.exists():
        advice = "makes one, as any first run does; name another store by --tracking-uri or MLFLOW_TRACKING_URI"
        return Store(uri, checked(WARNING, f"there is no store yet at {shown}", advice, typed("demo")))
    if (folder := address.folder(uri)) is not None and (closed := _file_store(folder, shown)):
        return Store(uri, closed)
    try:
        said = _within(ANSWER, partial(_sql_schema if address.is_sql(uri) else _server_version, uri))
    except FATrackError as error:
        advice = "check --tracking-uri or MLFLOW_TRACKING_URI, and that the server runs"
        found = str(error) if isinstance(error, NoTablesError) else f"{shown}: {error}"  # which names the store itself
        return Store(uri, checked(PROBLEM, found, advice))
    if isinstance(said, Check):
        return Store(uri, said)
    return _counted(uri, shown, said)


def _file_store(folder: Path, shown: str) -> Check | None:
    """What keeps MLflow from reading a store of files; None where nothing does."""
    from mlflow.environment_variables import MLFLOW_ALLOW_FILE_STORE

    from fa_tracking.tracking.store import damaged_files

    checked = partial(Check, "store", PROBLEM)
    if not MLFLOW_ALLOW_FILE_STORE.get():
        advice = "moves it into a database; MLFLOW_ALLOW_FILE_STORE=true in the environment opens it as it is"
        target = address.of_file(folder.absolute().parent / "mlflow.db")
        command = shlex.join(["mlflow", "migrate-filestore", "--source", str(folder), "--target", target])
        return checked(
            f"{shown} is a store of files, which MLflow {version('mlflow')} no longer opens", advice, command
        )
    if damaged := damaged_files(folder):
        found = f"{shown}: damaged: {', '.join(map(str, damaged))}"
        return checked(found, "move each file's folder away, or restore the file")
    return None


def _within(seconds: float, work: Callable[[], T]) -> T:
    """The result of ``work``; whatever it waits for, this waits no longer than ``seconds``."""
    done: list[T] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.append(work())
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise _NoAnswerError(f"no answer within {seconds:g} s")
    return done[0]


def _sql_schema(uri: str) -> "str | Check":
    """What to say of the schema of a SQL store; a problem where this MLflow does not open it."""
    from fa_tracking.results.export.sources.sql import KNOWN_SCHEMAS
    from fa_tracking.tracking import schema

    found = schema.version(uri)
    shown, mlflow = address.without_password(uri), f"MLflow {version('mlflow')}"
    if schema.is_older(found):
        said = f"{shown}: {mlflow} does not open it, because its schema {found} is older"
        advice = "changes its tables, so make a copy first; only export reads it as it is"
        return Check("store", PROBLEM, said, advice, shlex.join(["mlflow", "db", "upgrade", shown]))
    if schema.is_known(found):
        known = "" if found in KNOWN_SCHEMAS else ", read through MLflow's client, which is slower"
        return f"schema {found}{known}"
    return Check(
        "store",
        PROBLEM,
        schema.newer(uri, found),
        "or install the version that wrote it",
        "python -m pip install --upgrade mlflow",
    )


def _server_version(uri: str) -> str:
    """What a tracking server says of itself; empty of a store that is none."""
    if not address.is_server(uri):
        return ""
    try:
        with urllib.request.urlopen(f"{address.without_login(uri).rstrip('/')}/version", timeout=ANSWER) as answer:
            return f"MLflow {answer.read(50).decode(errors='replace').strip()}, here {version('mlflow')}"
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code} when asked for its version"
    except (OSError, urllib.error.URLError) as error:
        raise FATrackError(f"does not answer: {getattr(error, 'reason', error)}") from error


def _counted(uri: str, shown: str, said: str) -> Store:
    """A store that answers, with its runs."""
    from fa_tracking.results.export.sources import open_source

    checked, more = partial(Check, "store"), f" ({said})" if said else ""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(ANSWER))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    try:
        snapshot = _within(READ, lambda: open_source(uri, lambda _: None).snapshot(None))
    except _NoAnswerError:
        return Store(uri, checked(WARNING, f"{shown}{more}: it answers, but did not list its runs within {READ} s"))
    except FATrackError as error:
        advice = "if it asks for a login, set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        return Store(uri, checked(PROBLEM, f"{shown}{more}: {error}", advice))
    runs = snapshot.runs
    states = ", ".join(f"{n} {state}" for state, n in sorted(_counts(runs["status"].to_pylist()).items()))
    experiments = len(set(runs["experiment"].to_pylist()))
    if not runs.num_rows:
        return Store(uri, checked(WARNING, f"{shown}{more}: no runs yet", "or fa-track train", typed("demo")), snapshot)
    found = f"{shown}{more}: {counted(runs.num_rows, 'run')} ({states}) in {counted(experiments, 'experiment')}"
    return Store(uri, checked(OK, found), snapshot)


def _counts(values: list[str]) -> dict[str, int]:
    return {value: values.count(value) for value in set(values)}
