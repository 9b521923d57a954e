"""A run leaves a user's process as it found it: environment, logging, signals, hooks, and other people's databases."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from stores import new_store

from fa_tracking.executors import local
from fa_tracking.tracking import _mlflow_compat

LEAVES_NO_TRACE = """
import logging, os, signal, sys, threading, warnings
import mlflow, sqlalchemy, torch

uri = sys.argv[1]
mlflow.set_tracking_uri(uri)
home = mlflow.set_experiment("own").experiment_id
with mlflow.start_run():  # what MLflow does by itself
    mlflow.log_metric("x", 1.0)

def of_logger(logger):
    return logger.level, logger.propagate, logger.disabled, [*logger.handlers], [*logger.filters]

def listeners(of):
    return {
        name: [*getattr(getattr(of.dispatch, name), "parent_listeners", ())]
        for name in ("connect", "before_cursor_execute", "do_connect", "checkout")
        if hasattr(of.dispatch, name)
    }

def state():
    own = sqlalchemy.create_engine("sqlite://")
    with own.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 20000;")
        waits = connection.exec_driver_sql("pragma busy_timeout").scalar()
    loggers = {name: x for name, x in logging.root.manager.loggerDict.items() if isinstance(x, logging.Logger)}
    return {
        "environment": dict(os.environ),
        "loggers": {name: of_logger(logger) for name, logger in {**loggers, "": logging.root}.items()},
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "hooks": [sys.excepthook, sys.unraisablehook, sys.displayhook, sys.breakpointhook, threading.excepthook],
        "traces": [sys.gettrace(), sys.getprofile(), sys.stdout, sys.stderr],
        "warnings": [*warnings.filters],
        "engines": (waits, listeners(own), listeners(own.pool)),
        "active": mlflow.active_run(),
        "folder": os.getcwd(),
    }

before = state()
print("from here on", file=sys.stderr, flush=True)
import fa_tracking

def refuse(run):
    run.log_metrics({"x": 2.0}, 1)
    raise ValueError

with fa_tracking.start_run("own", uri, method="bp", seed=1) as run:
    run.log_metrics({"x": 1.0}, 0)
for _ in range(2):
    try:
        with fa_tracking.start_run("own", method="bp", seed=2) as run:
            refuse(run)
    except ValueError:
        pass
with fa_tracking.resume_run(run.run_id, uri) as run:
    run.log_metrics({"x": 3.0}, 2)
with fa_tracking.start_run("own", uri + ".new", active=False, method="bp", seed=3) as run:  # which it has to make
    run.log_metrics({"x": 1.0}, 0)
after = state()
made = after["loggers"].keys() - before["loggers"].keys()
after["loggers"] = {name: found for name, found in after["loggers"].items() if name not in made}
for key, found in before.items():
    if key in ("environment", "loggers", "signals"):
        wrong = [(name, found.get(name), after[key].get(name)) for name in {**found, **after[key]}
                 if found.get(name) != after[key].get(name)]
        assert not wrong, (key, wrong)
    assert found == after[key], (key, found, after[key])
ended = [found.info.status for found in mlflow.search_runs([home], output_format="list")]
assert sorted(ended) == ["FAILED", "FINISHED", "FINISHED", "FINISHED"], ended
"""


def test_a_run_leaves_the_process_as_it_found_it(tmp_path: Path) -> None:
    uri = new_store(tmp_path)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    command = [sys.executable, "-c", LEAVES_NO_TRACE, uri]
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.partition("from here on\n")[2] == ""


def test_what_is_said_in_one_line_is_not_logged_too_and_others_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("urllib3.connectionpool")
    before = (logger.level, logger.filters[:])
    with caplog.at_level(logging.INFO, logger.name):
        with _mlflow_compat.quiet(), _mlflow_compat.quiet():
            logger.warning("of our call")
            logger.error("an error")
            other = threading.Thread(target=logger.warning, args=("of the user's thread",))
            other.start()
            other.join()
        logger.warning("afterwards")
    assert [record.message for record in caplog.records] == ["an error", "of the user's thread", "afterwards"]
    assert (logger.level, logger.filters) == before


def _work(pids: Connection) -> None:
    local.end_with_parent()
    pids.send(os.getpid())
    time.sleep(600)


def _parent(pids: Connection) -> None:
    multiprocessing.get_context("fork").Process(target=_work, args=(pids,)).start()
    time.sleep(600)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_a_process_of_an_executor_ends_with_the_one_that_was_killed() -> None:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    parent = context.Process(target=_parent, args=(theirs,))
    parent.start()
    worker = ours.recv()
    assert parent.pid and _is_running(worker)
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    until = time.monotonic() + 30
    while _is_running(worker) and time.monotonic() < until:
        time.sleep(0.01)
    assert not _is_running(worker)
