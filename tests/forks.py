"""``fa-track``, ``mlflow`` and Python programs as forks of a process that has imported the libraries, which takes most
of the time of a command that does little else. Nothing of this project is imported before the fork; a command finds it
where its own environment says. All processes of a test run share the process that forks.

    python forks.py FOLDER PID          the process that forks, until the process PID has ended
    fa-track WORD …                     the client: the command, with this environment, folder and streams
    mlflow WORD …                       likewise; the server that it starts is a fork too
    python [-u] FILE|-m MODULE|-c CODE …     likewise
"""

import atexit
import contextlib
import fcntl
import io
import json
import os
import runpy
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from functools import cache
from importlib import import_module
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np

LIBRARIES = (
    "altair",
    "duckdb",
    "flask",  # of the server, as uvicorn
    "mlflow.artifacts",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.pyfunc",
    "pandas",
    "pyarrow.parquet",
    "pydantic",
    "rich.progress",
    "safetensors.torch",
    "scipy.stats",
    "sklearn.datasets",  # pages use it
    "torch._dynamo",
    "torch.func",
    "uvicorn",
    "vl_convert",
)
OURS = ("fa_tracking", "trainers", "dashboards")
CLIENT = f"""#!{sys.executable} -SE
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect(os.environ["FA_TRACK_TEST_FORKS"])
words = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(words).to_bytes(8, "big")], [0, 1, 2])
server.sendall(words)
child = int.from_bytes(server.recv(8), "big")
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda which, _: os.kill(child, which))
code = server.recv(1)
sys.exit(code[0] if code else 137)
"""
STORE = "mlflow.db"
PYTHON = "python"
LOST = 120
"""Python's own code where its last words cannot be written."""
COMMANDS = {"fa-track": "fa_tracking.cli:main", "mlflow": "mlflow.cli:cli"}
SHARED = "FA_TRACK_TEST_FORKS_OF"
"""The folder of the process that forks, and the process that it ends with."""


def share() -> None:
    """Before other processes of the tests begin: from here on they have one process that forks, and it ends with this.

    It begins when one of them first needs it.
    """
    if SHARED not in os.environ:
        os.environ[SHARED] = f"{os.getpid()}:{tempfile.mkdtemp(prefix='fa-forks-')}"


@cache
def folder() -> Path:
    """A folder for the front of PATH, whose commands are forks."""
    share()
    ends_with, _, name = os.environ[SHARED].partition(":")
    here = Path(name)
    with (here / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (here / "socket").exists():
            _begin(here, ends_with)
    return here


def _begin(here: Path, ends_with: str) -> None:
    for name in (*COMMANDS, PYTHON):
        (here / name).write_text(CLIENT)
        (here / name).chmod(0o755)
    command, none = [sys.executable, __file__, str(here), ends_with], subprocess.DEVNULL
    with (here / "said.log").open("w") as said:  # nobody's pipe, which would stay open as long as it lives
        server = subprocess.Popen(command, cwd=here, stdin=none, stdout=none, stderr=said, start_new_session=True)
    while not (here / "socket").exists():
        assert server.poll() is None, "the process that forks has ended"
        time.sleep(0.05)


def new_store(where: Path) -> str:
    """The URI of an empty store in ``where``, MLflow's default one there; a copy: MLflow takes seconds to make one."""
    return copied_store(folder(), where)


def copied_store(made: Path, where: Path) -> str:
    """The URI of a copy in ``where`` of the empty store that ``make_store`` has left in ``made``."""
    shutil.copyfile(made / STORE, where / STORE)
    with contextlib.closing(sqlite3.connect(where / STORE)) as store, store:
        store.execute(
            "update experiments set artifact_location = ? where experiment_id = 0", (str(where / "mlruns/0"),)
        )
    return f"sqlite:///{where / STORE}"


def python() -> str:
    """In the place of ``sys.executable``, with ``environment`` in that of the process."""
    return str(folder() / PYTHON)


def environment() -> dict[str, str]:
    """What makes the commands of a shell forks."""
    here = folder()
    return {"FA_TRACK_TEST_FORKS": str(here / "socket"), "PATH": os.pathsep.join([str(here), os.environ["PATH"]])}


def serve(here: Path, ends_with: int) -> None:
    for library in LIBRARIES:
        __import__(library)
    make_store(here)
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]  # MLflow has loaded the plugin, from wherever this process finds it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    address = here / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{address}.new")
        listening.listen(64)
        Path(f"{address}.new").rename(address)
        listening.settimeout(1)
        while _lives(ends_with):
            with contextlib.suppress(TimeoutError):
                connection, _ = listening.accept()
                if os.fork() == 0:
                    listening.close()
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    _run(connection)
                connection.close()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def make_store(here: Path) -> None:
    """An empty store, of which new ones are copies; what SQLAlchemy makes of MLflow's tables, each fork has."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(f"sqlite:///{here / STORE}", str(here / "mlruns"))
    store.search_experiments()
    store.engine.dispose()  # no fork may share a connection


def _run(connection: socket.socket) -> None:
    """In the fork: become the command, and say with which code it ended."""
    connection.settimeout(None)
    size, streams, *_ = socket.recv_fds(connection, 8, 3)
    words = b""
    while len(words) < int.from_bytes(size, "big"):
        words += connection.recv(1 << 16)
    argv, here, variables = json.loads(words)
    for stream, given in enumerate(streams):
        os.dup2(given, stream)
        os.close(given)
    sys.stdin, sys.stdout, sys.stderr = _text(0, "strict"), _text(1, "strict"), _text(2, "backslashreplace")
    os.setsid()  # it ends with all that it has started, and when its client does
    threading.Thread(target=_end_with_client, args=(connection,), daemon=True).start()
    connection.sendall(os.getpid().to_bytes(8, "big"))
    os.chdir(here)
    os.environ.clear()
    os.environ.update(variables)
    tempfile.tempdir = None
    np.random.seed()
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*paths, *(path for path in sys.path if path != str(Path(__file__).parent))]
    fork_workers()
    code = _code(argv)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or LOST
        except ValueError:  # the command has closed it
            pass
    connection.sendall(bytes([code & 255]))
    os.killpg(0, signal.SIGKILL)


def _end_with_client(connection: socket.socket) -> None:
    connection.recv(1)
    os.killpg(0, signal.SIGKILL)


def fork_workers() -> None:
    """Make the workers of this process's executor forks of it as it stands, before it opens a store."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")  # in no folder: Linux chooses a name
    listener.listen()
    alive_r, alive_w = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(alive_w)
        try:
            forkserver.main(listener.detach(), alive_r, [])
        finally:
            os._exit(0)  # when the command and its workers have ended
    os.close(alive_r)
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    server._forkserver_address = listener.getsockname()
    server._forkserver_alive_fd, server._forkserver_pid = alive_w, pid
    listener.close()


def _text(stream: int, errors: str) -> io.TextIOWrapper:
    raw = io.FileIO(stream, "wb" if stream else "rb", closefd=False)
    binary = io.BufferedWriter(raw) if stream else io.BufferedReader(raw)
    return io.TextIOWrapper(binary, "utf-8", errors, line_buffering=stream == 2 or raw.isatty())


def _code(argv: list[str]) -> int:
    try:
        name, sys.argv = Path(argv[0]).name, argv[1:]
        sys.executable = str(Path(argv[0]).with_name(PYTHON))  # what it starts is a fork too, as MLflow's server
        if name in COMMANDS:
            sys.argv.insert(0, name)
            module, _, command = COMMANDS[name].partition(":")
            getattr(import_module(module), command)(prog_name=name)
        else:
            _program()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _program() -> None:
    """What ``sys.argv`` says to ``python``."""
    if sys.argv[0] == "-u":  # torchrun says so to its workers
        del sys.argv[0]
    kind = sys.argv[0]
    sys.path.insert(0, str(Path.cwd() if kind in ("-c", "-m") else Path(kind).parent))
    if kind == "-c":
        exec(compile(sys.argv.pop(1), "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    os._exit(0)  # to take so many modules down takes seconds
