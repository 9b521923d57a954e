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
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from fa_tracking.cli._show import typed
from fa_tracking.errors import FATrackError

if TYPE_CHECKING:
    from fa_tracking.results.sources import Snapshot

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


@dataclass(frozen=True)
class Store:
    """The tracking store: its address, what was found, and its runs where they could be read."""

    uri: str
    check: Check
    snapshot: "Snapshot | None" = None


def count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def store(tracking_uri: str | None) -> Store:
    """The tracking store, looked at and never made."""
    from mlflow.tracking import get_tracking_uri

    from fa_tracking.results.sources import without_password
    from fa_tracking.results.sources.sql import is_sql

    uri = tracking_uri or get_tracking_uri()
    shown, checked = without_password(uri), partial(Check, "store")
    where = local_store(uri)
    if where is not None and not where.exists():
        advice = "or any first run makes it; if there is one elsewhere: --tracking-uri, or MLFLOW_TRACKING_URI"
        return Store(uri, checked(WARNING, f"there is no store yet at {shown}", advice, typed("demo")))
    try:
        said = _within(ANSWER, partial(_sql_schema if is_sql(uri) else _server_version, uri))
    except FATrackError as error:
        advice = "see to --tracking-uri or MLFLOW_TRACKING_URI, and whether the server runs"
        return Store(uri, checked(PROBLEM, f"{shown}: {error}", advice))
    if isinstance(said, Check):
        return Store(uri, said)
    return _counted(uri, shown, said)


def local_store(uri: str) -> Path | None:
    """The file or folder that a store is; None of a server."""
    scheme, _, rest = uri.partition(":")
    if scheme.startswith("sqlite"):
        return Path(uri.partition(":///")[2])
    if scheme == "file":
        return Path(rest.removeprefix("//"))
    return Path(uri) if "://" not in uri and scheme != "databricks" else None


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
        raise FATrackError(f"no answer within {seconds:g} s")
    return done[0]


def _sql_schema(uri: str) -> "str | Check":
    """What to say of the schema of a SQL store; a problem where this MLflow does not open it."""
    from alembic.script import ScriptDirectory

    from fa_tracking.results.sources import without_password
    from fa_tracking.results.sources.sql import KNOWN_SCHEMAS, schema_version

    found = schema_version(uri)
    package = find_spec("mlflow")
    folder = Path((package.submodule_search_locations or [""])[0] if package else "")
    migrations = ScriptDirectory(str(folder / "store/db_migrations"))
    if found == migrations.get_current_head():
        known = "" if found in KNOWN_SCHEMAS else ", which fa-track reads through MLflow's client: slower"
        return f"schema {found}{known}"
    shown, mlflow = without_password(uri), f"MLflow {version('mlflow')}"
    if found in {migration.revision for migration in migrations.walk_revisions()}:
        said = f"{shown}: its schema {found} is older than that of {mlflow}, which does not open it"
        return Check(
            "store", PROBLEM, said, "after a copy of it is made", shlex.join(["mlflow", "db", "upgrade", shown])
        )
    said = f"{shown}: its schema {found} is newer than {mlflow}"
    return Check("store", PROBLEM, said, "or the version that wrote it", "python -m pip install --upgrade mlflow")


def _server_version(uri: str) -> str:
    """What a tracking server says of itself; empty of a store that is none."""
    if not uri.startswith(("http://", "https://")):
        return ""
    try:
        with urllib.request.urlopen(f"{_without_login(uri).rstrip('/')}/version", timeout=ANSWER) as answer:
            return f"MLflow {answer.read(50).decode(errors='replace').strip()}, here {version('mlflow')}"
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code} when asked for its version"
    except (OSError, urllib.error.URLError) as error:
        raise FATrackError(f"does not answer: {getattr(error, 'reason', error)}") from error


def _without_login(uri: str) -> str:
    """The address alone, which is all that urllib takes."""
    address = urlsplit(uri)
    return address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()


def _counted(uri: str, shown: str, said: str) -> Store:
    """A store that answers, with its runs."""
    from fa_tracking.results.sources import open_source

    checked, more = partial(Check, "store"), f" ({said})" if said else ""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(ANSWER))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    try:
        snapshot = _within(READ, lambda: open_source(uri, lambda _: None).snapshot(None))
    except FATrackError as error:
        if "no answer within" in str(error):
            return Store(uri, checked(WARNING, f"{shown}{more}: it answers, but did not list its runs in {READ} s"))
        advice = "where it asks for a login: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        return Store(uri, checked(PROBLEM, f"{shown}{more}: {error}", advice))
    runs = snapshot.runs
    states = ", ".join(f"{n} {state}" for state, n in sorted(_counts(runs["status"].to_pylist()).items()))
    experiments = len(set(runs["experiment"].to_pylist()))
    if not runs.num_rows:
        return Store(uri, checked(WARNING, f"{shown}{more}: no runs yet", "or fa-track train", typed("demo")), snapshot)
    found = f"{shown}{more}: {count(runs.num_rows, 'run')} ({states}) in {count(experiments, 'experiment')}"
    return Store(uri, checked(OK, found), snapshot)


def _counts(values: list[str]) -> dict[str, int]:
    return {value: values.count(value) for value in set(values)}
