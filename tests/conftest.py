"""What the tests share: a real SQLite store in a folder of its own, the command line as a subprocess, real data."""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded, here and in every process: on few cores threads only wait

import duckdb
import forks
import pytest
import torch

from fa_tracking.results.database import create_views
from fa_tracking.trainers.config import RunConfig


def _until_the_end(prefix: str) -> str:
    made = tempfile.mkdtemp(prefix=prefix)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background begins without it
torch.set_num_threads(1)
forks.share()
os.environ["FA_TRACK_SPOOL"] = _until_the_end("fa-track-spool-")
if "PYTEST_XDIST_WORKER" not in os.environ:  # its workers have that of the process that began them
    os.environ["XDG_CACHE_HOME"] = _until_the_end("fa-track-cache-")
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # of no use here: each server would start several processes
os.environ["MLFLOW_WORKERS"] = "1"  # likewise four
os.environ.pop("COLUMNS", None)  # xdist gives its workers one of 80

Cli = Callable[..., subprocess.CompletedProcess[str]]

LONGEST = {
    "test_benchmarks",
    "test_documented_commands",
    "test_documented_pages",
    "test_executors",
    "test_faults",
    "test_stack",
}
TINY = {"width": 16, "depth": 2, "dataset": "digits", "epochs": 2, "lr": 0.01}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin first: nobody waits at the end for a worker that has just begun one."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to stand in, with nothing but an empty mlflow.db in it, MLflow's default store."""
    folder = tmp_path_factory.mktemp("workspace")
    forks.new_store(folder)
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
    """``fa-track ARG …`` in the workspace, as a user's shell runs it, but for its imports (see forks.py)."""

    def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if k not in ("FA_TRACK_DATA", "MLFLOW_TRACKING_URI")}
        command, env = [str(forks.folder() / "fa-track"), *args], {**clean, **forks.environment(), **env}
        return subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False, env=env)

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
