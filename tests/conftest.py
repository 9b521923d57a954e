"""What the tests share: a real SQLite store in a folder of its own, the command line, real data."""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from importlib.resources import files
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded, here and in every process: on few cores threads only wait

import duckdb
import pytest
import torch
from shell import fa_track
from stores import TEMPLATE, new_store

from fa_tracking.results.database import create_views
from fa_tracking.trainers.config import RunConfig


def _until_the_end(prefix: str) -> str:
    made = tempfile.mkdtemp(prefix=prefix)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background begins without it
torch.set_num_threads(1)
os.environ["FA_TRACK_SPOOL"] = _until_the_end("fa-track-spool-")
if "PYTEST_XDIST_WORKER" not in os.environ:  # its workers have those of the process that began them
    os.environ["XDG_CACHE_HOME"] = _until_the_end("fa-track-cache-")
    os.environ[TEMPLATE] = _until_the_end("fa-track-store-")
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # of no use here: each server would start several processes
os.environ["MLFLOW_WORKERS"] = "1"  # likewise four
os.environ.pop("COLUMNS", None)  # xdist gives its workers one of 80

Cli = Callable[..., subprocess.CompletedProcess[str]]

SLOW = ("pages", "bench", "faults", "fuzz", "server", "browser", "cluster", "compile", "matrix", "wheel", "site")
"""What needs a server, a browser, a cluster, a compiler or minutes. A test with none of these markers is `fast`."""
BY_FIXTURE = {"chromium": "browser", "cluster": "cluster", "site": "site"}
TINY = {"width": 16, "depth": 2, "dataset": "digits", "epochs": 2, "lr": 0.01}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what a fixture makes slow, all but a sample of what is tried in many combinations, and the rest as fast."""
    combinations: dict[str, list[pytest.Item]] = {}
    for item in items:
        combinations.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for found in combinations.values():
        if sample := found[0].get_closest_marker("sample"):
            kept = {round(i * len(found) / sample.args[0]) for i in range(sample.args[0])}
            for place, item in enumerate(found):
                if place not in kept:
                    item.add_marker("matrix")
    for item in items:
        for fixture, marker in BY_FIXTURE.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
        if not any(item.get_closest_marker(name) for name in SLOW):
            item.add_marker("fast")


@pytest.fixture(autouse=True)
def _mlflow_as_it_was() -> Iterator[None]:
    """End the runs that a test has left active, and forget the store that it has named: MLflow keeps both."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    yield
    if mlflow := sys.modules.get("mlflow"):
        while mlflow.active_run():
            mlflow.end_run()
        mlflow.set_tracking_uri(None)
        mlflow.tracking.fluent._active_experiment_id = None  # it is of that store, and MLflow has no other way
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    if before is not None:
        os.environ["MLFLOW_TRACKING_URI"] = before


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to stand in, with nothing but an empty mlflow.db in it, MLflow's default store."""
    folder = tmp_path_factory.mktemp("workspace")
    new_store(folder)
    before = Path.cwd()
    saved = {k: os.environ.pop(k, None) for k in ("MLFLOW_TRACKING_URI", "FA_TRACK_DB", "FA_TRACK_SPOOL")}
    os.environ["FA_TRACK_SPOOL"] = str(tmp_path_factory.mktemp("spool"))  # killed runs leave something
    if "mlflow" in sys.modules:  # a store that an earlier test file has named
        sys.modules["mlflow"].set_tracking_uri(None)
    os.chdir(folder)
    yield folder
    os.chdir(before)
    os.environ.update({k: v for k, v in saved.items() if v is not None})


@pytest.fixture
def uri(workspace: Path) -> str:
    """The tracking URI of the workspace's store."""
    return f"sqlite:///{workspace / 'mlflow.db'}"


@pytest.fixture
def cli(workspace: Path) -> Cli:
    """``fa-track ARG …`` in the workspace, in this process (see shell.py)."""

    def run(*words: str, **env: str) -> "subprocess.CompletedProcess[str]":
        with chdir(workspace):
            return fa_track(*words, **env)

    return run


@pytest.fixture
def cifar10() -> str:
    """The folder of the real CIFAR-10; the test skips where FA_TRACK_DATA does not hold it."""
    folder = os.environ.get("FA_TRACK_DATA", "")
    for candidate in (Path(folder) / "cifar10", Path(folder)):
        if folder and (candidate / "train.parquet").is_file():
            return str(candidate)
    pytest.skip("FA_TRACK_DATA names no folder with CIFAR-10 as train.parquet and test.parquet")


def tiny(method: str, **changes: object) -> RunConfig:
    """A run of a second or two."""
    return RunConfig(method=method, **{**TINY, **changes})  # type: ignore[arg-type]


@contextmanager
def empty_database(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A results database as an export makes it, without a row, to write into."""
    with duckdb.connect(str(path)) as connection:
        connection.execute(files("fa_tracking.results").joinpath("schema.sql").read_text())
        create_views(connection)
        yield connection
