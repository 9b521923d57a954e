"""What may go well later, and what will not: told by the types and codes of errors, never by their text."""

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import duckdb
import pytest
from mlflow import MlflowClient

from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.results.export.export import export
from fa_tracking.tracking.spool.deliver import deliver, is_away

ENTRY = {"metrics": [["x", 1.0, 1, 0]]}
TAKEN = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print('open', flush=True); time.sleep(60)"


def failure(uri: str, run_id: str, folder: Path) -> Exception:
    with pytest.raises(Exception) as caught:
        deliver(MlflowClient(uri), run_id, folder, ENTRY)
    return caught.value


@contextmanager
def server(status: int, body: bytes) -> Iterator[str]:
    """A server that answers every request so; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{found.server_port}"
        finally:
            found.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (500, b"<html>", True),
        (502, b"<html>", True),
        (503, b"<html>", True),
        (429, b"<html>", True),
        (404, b"<html>", True),  # whatever answers there, it is no MLflow
        (401, b"who are you?", False),
        (404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "API request to a run that is gone"}', False),
        (400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "TEMPORARILY_UNAVAILABLE"}', False),
    ],
)
def test_a_server_that_cannot_answer_is_away_and_one_that_refuses_is_not(
    status: int, body: bytes, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with server(status, body) as uri:
        assert is_away(failure(uri, "0" * 32, tmp_path)) is expected


def test_a_server_that_is_not_there_is_away_and_a_wrong_address_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert is_away(failure("http://127.0.0.1:1", "0" * 32, tmp_path))
    assert not is_away(failure("http://127.0.0.1:80x", "0" * 32, tmp_path))


def test_a_locked_sqlite_store_is_away_and_one_without_its_tables_is_not(uri: str, tmp_path: Path) -> None:
    run_id = MlflowClient(uri).create_run("0").info.run_id
    path = Path(shutil.copy(uri.removeprefix("sqlite:///"), tmp_path))
    uri = f"sqlite:///{path}?timeout=0.1"
    MlflowClient(uri).get_run(run_id)  # opens the store
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin exclusive")
        assert is_away(failure(uri, run_id, tmp_path))
        other.execute("rollback")
        other.execute("drop table latest_metrics")
        other.execute("drop table metrics")
    assert not is_away(failure(uri, run_id, tmp_path))


def test_an_export_tells_a_database_in_use_from_a_file_that_is_none(uri: str, tmp_path: Path) -> None:
    MlflowClient(uri).create_experiment("of an export")
    held, other = tmp_path / "locked.duckdb", tmp_path / "locked.txt"
    duckdb.connect(held).close()
    with subprocess.Popen([sys.executable, "-c", TAKEN, held], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout and holder.stdout.readline() == "open\n"
        try:
            with pytest.raises(FATrackError, match=r"cannot be opened: .* lock .*PID") as caught:
                export(held, uri)
            assert caught.value.exit_code == 1
        finally:
            holder.kill()
    other.write_text("a diary " * 1000)
    with pytest.raises(UsageError, match="is no results database, and will not be replaced"):
        export(other, uri)
