"""Real servers on loopback: PostgreSQL and MariaDB as Debian has them, and MLflow's tracking server."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest


@contextmanager
def postgresql() -> Iterator[str]:
    """The URI of an empty database of a server of its own."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    initdb, postgres = (str(binaries[-1] / name) for name in ("initdb", "postgres"))
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
    with folder("postgres" if as_user else None) as here:
        subprocess.run(
            [*as_user, initdb, "-D", f"{here}/data", "-A", "trust", "-U", "fa"], check=True, stdout=subprocess.DEVNULL
        )
        port = free_port()
        command = [*as_user, postgres, "-D", f"{here}/data", "-k", here, "-p", str(port), "-h", "127.0.0.1"]
        with running(command, port):
            yield f"postgresql://fa@127.0.0.1:{port}/postgres"


@contextmanager
def mysql() -> Iterator[str]:
    """The URI of an empty database of a MariaDB server of its own."""
    if not shutil.which("mariadbd"):
        pytest.skip("MariaDB is not installed (Debian: mariadb-server)")
    import pymysql

    me = f"--user={'root' if os.geteuid() == 0 else os.environ.get('USER', '')}"
    with folder(None) as here:
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", me, f"--datadir={here}/data"], check=True, stdout=subprocess.DEVNULL
        )
        port = free_port()
        command = ["mariadbd", "--no-defaults", me, f"--datadir={here}/data", f"--socket={here}/s", f"--port={port}"]
        with running([*command, "--skip-grant-tables", "--bind-address=127.0.0.1"], port):
            with pymysql.connect(host="127.0.0.1", port=port, user="fa") as connection:
                connection.cursor().execute("create database mlflow character set utf8mb4")
            yield f"mysql+pymysql://fa@127.0.0.1:{port}/mlflow"


@contextmanager
def tracking_server(store: str, *arguments: str, port: int | None = None, **env: str) -> Iterator[str]:
    """The URI of `mlflow server` over ``store``, without the processes of its jobs."""
    port = port or free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--workers", "1"]
    env = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **env}
    with running([*command, "--port", str(port), *arguments], port, **env):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def s3(bucket: str) -> Iterator[str]:
    """The address of an S3-compatible server with an empty bucket."""
    port = free_port()
    with running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        address = f"http://127.0.0.1:{port}"
        urlopen(Request(f"{address}/{bucket}", method="PUT")).close()
        yield address


@contextmanager
def running(command: list[str], port: int, **env: str) -> Iterator[None]:
    """A server that answers on ``port``, and is gone afterwards with all its children."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **silent, start_new_session=True, env={**os.environ, **env})
    try:
        for _ in range(3000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            time.sleep(0.1)
        else:
            raise AssertionError(f"{command[0]} does not answer on port {port}")
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def folder(owner: str | None) -> Iterator[str]:
    """A short path, as a socket's must be, that another user may own."""
    with tempfile.TemporaryDirectory(prefix="fa-", ignore_cleanup_errors=True) as here:
        if owner:
            shutil.chown(here, owner, owner)
        yield here


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
