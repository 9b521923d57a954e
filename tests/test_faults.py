"""What is killed, filled or taken away loses nothing: a small form of ``python -m tests.faults``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from stores import new_store

from fa_tracking.results.export.sources.sql import SqlSource
from fa_tracking.scratch import scratch

ROOT = Path(__file__).parent.parent
DIES_IN_A_TRANSACTION = """
import os, signal, sqlite3, sys
store = sqlite3.connect(sys.argv[1], isolation_level=None)
store.execute("pragma cache_size = 2")
store.execute("begin")
for number in range(2000):
    store.execute("insert into params (key, value, run_uuid) select ?, ?, run_uuid from runs", (str(number), "v" * 200))
os.kill(os.getpid(), signal.SIGKILL)
"""
DIES_IN_SCRATCH = """
import os, signal, sys
from fa_tracking import scratch
scratch.OPENS_FOLDERS = sys.argv[2] == "True"
with scratch.scratch(sys.argv[1]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.faults
def test_what_is_killed_filled_or_taken_away_loses_nothing_and_many_are_in_nobodys_way() -> None:
    """In one process, whose imports take most of the time."""
    trials = ("train", "study", "export", "audit", "disk", "many", "server")
    command = [sys.executable, "-m", "tests.faults", "--small", "--kills", "1", *trials]
    env = os.environ
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.count(" 0 broken; ") == len(trials), done.stdout


def test_an_export_reads_a_store_whose_writer_was_killed_in_a_transaction(tmp_path: Path) -> None:
    uri = new_store(tmp_path)
    client = MlflowClient(uri)
    client.create_run("0")
    subprocess.run([sys.executable, "-c", DIES_IN_A_TRANSACTION, str(tmp_path / "mlflow.db")], check=False)
    assert (tmp_path / "mlflow.db-journal").stat().st_size
    found = SqlSource(uri).snapshot(None)
    assert (found.runs.num_rows, found.params.num_rows) == (1, 0)


@pytest.mark.parametrize("opens_folders", [True, False])
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(
    opens_folders: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fa_tracking.scratch.OPENS_FOLDERS", opens_folders)  # Windows opens none
    subprocess.run([sys.executable, "-c", DIES_IN_SCRATCH, str(tmp_path), str(opens_folders)], check=False)
    (left,) = tmp_path.glob("*/")
    with scratch(tmp_path) as first, scratch(tmp_path) as second:
        assert set(tmp_path.glob("*/")) == {first, second} and left not in (first, second)
        assert not opens_folders or set(tmp_path.iterdir()) == {first, second}
    assert not list(tmp_path.iterdir())
