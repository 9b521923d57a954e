"""The whole path on a tracking server over PostgreSQL and S3, by its address alone; and the server away in a run.

The commands can import neither a driver of databases nor one of S3: all of it goes through the server.
"""

import re
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from fa_tracking.results.database import connect
from fa_tracking.tracking import names
from tests import servers
from tests.faults._kill import SAID, fa_track, started

BUCKET = "fa-track"
NOT_ON_CLIENTS = ("psycopg", "psycopg2", "boto3", "botocore", "pymysql")
CONFIG: dict[str, Any] = {"width": 8, "depth": 2, "dataset": "digits", "lr": 0.01}
BEFORE, AFTER, PACE = 3, 3, 0.5
"""Epochs logged before the server goes and after it has come back, for whose signs the training waits; and seconds of
each epoch in between."""
AWAY, BACK = "away", "back"
LOGGED = re.compile(r"^epoch \d+ is logged$", re.MULTILINE)
AFTERWARDS = (
    ("audit", "--experiment", "far"),
    ("gate", "--experiment", "far", "--forbid", "n"),
    ("export", "--db", "r.duckdb"),
    ("query", "audit_table", "--experiment", "far", "--db", "r.duckdb"),
    ("recover",),
)


def tried(folder: Path, small: bool) -> tuple[str, list[str]]:
    try:
        return _tried(folder, small)
    except pytest.skip.Exception as skipped:
        return f"skipped: {skipped}", []


def _tried(folder: Path, small: bool) -> tuple[str, list[str]]:
    seconds = 3 if small else 30
    epochs = BEFORE + round(seconds / PACE) + AFTER
    problems = []
    with servers.postgresql() as database, servers.s3(BUCKET) as s3:
        env = {"MLFLOW_S3_ENDPOINT_URL": s3, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
        where = (database, "--artifacts-destination", f"s3://{BUCKET}/runs", "--serve-artifacts")
        server = partial(servers.tracking_server, *where, port=servers.free_port(), **env)
        with server() as uri:
            fa_track(partial(_train, epochs, True), folder, MLFLOW_TRACKING_URI=uri)
            training = started(partial(_train, epochs, False), folder, MLFLOW_TRACKING_URI=uri)
            _until(lambda: training.exitcode is not None or _logged(folder) >= BEFORE)
        began = time.monotonic()
        (folder / AWAY).touch()
        _until(lambda: training.exitcode is not None or _logged(folder) >= epochs - AFTER, 60 + 2 * seconds)
        away = time.monotonic() - began
        if _logged(folder) != epochs - AFTER:
            problems.append(f"training stood still while the server was away: {_logged(folder)} epochs are logged")
        if away < seconds:
            problems.append(f"the server was away for no more than {away:.1f} s")
        with server():
            (folder / BACK).touch()
            training.join()
            if training.exitcode:
                problems.append(f"training ended with {training.exitcode}: {(folder / SAID).read_text()[-500:]}")
            for words in AFTERWARDS:
                fa_track(_client(words), folder, MLFLOW_TRACKING_URI=uri)
        with urlopen(f"{s3}/{BUCKET}") as answer:
            listed = answer.read().decode()
    problems += [f"no {name} lies in the bucket" for name in ("model.safetensors", "report.html") if name not in listed]
    return f"server over PostgreSQL and S3, away for {away:.0f} s of a run", problems + _wrong(folder, epochs)


def _wrong(folder: Path, epochs: int) -> list[str]:
    with connect(folder / "r.duckdb") as connection:
        points = connection.sql(
            "select list(step order by timestamp, step) from metrics "
            f"where key = '{names.ACCURACY_TEST}' group by run_id"
        ).fetchall()
        states = connection.sql("select status, verdict is null from runs left join audits using (run_id)").fetchall()
        plugged = connection.sql("select count(*) from tags where key = 'fa.version'").fetchall()
    problems = [] if points == [(list(range(epochs + 1)),)] * 2 else [f"the epochs that arrived, in order: {points}"]
    problems += [] if states == [("FINISHED", False)] * 2 else [f"status, without a verdict: {states}"]
    return problems + ([] if plugged == [(2,)] else ["the run context has not set its tags"])


def _train(epochs: int, frozen: bool) -> None:
    _without_drivers()
    config = import_module("fa_tracking.trainers.config").RunConfig(
        method="dfa", epochs=epochs, frozen_blocks=frozen, **CONFIG
    )

    waits = {} if frozen else {BEFORE: AWAY, epochs - AFTER: BACK}

    def progress(epoch: int, *_: Any) -> None:
        logged = epoch + 1  # there is an epoch 0
        print(f"epoch {epoch} is logged", flush=True)
        if logged in waits:
            _until(Path(waits[logged]).exists)
        time.sleep(0 if frozen else PACE)

    import_module("fa_tracking.trainers.tracked").train(config, "far", progress=progress)


def _until(is_so: Callable[[], bool], seconds: float = 300) -> None:
    """Wait for it, and no longer than ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not is_so():
        time.sleep(0.01)


def _client(words: tuple[str, ...]) -> Callable[[], None]:
    def command() -> None:
        _without_drivers()
        sys.argv = ["fa-track", *words]
        import_module("fa_tracking.cli").main(prog_name="fa-track")

    return command


def _without_drivers() -> None:
    for name in NOT_ON_CLIENTS:
        sys.modules[name] = None  # type: ignore[assignment]


def _logged(folder: Path) -> int:
    return len(LOGGED.findall((folder / SAID).read_text()))
