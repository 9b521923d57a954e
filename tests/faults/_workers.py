"""Workers of an executor as forks of a process that has imported everything: a new one imports for seconds, and most
kills would meet imports instead of work."""

import multiprocessing
import os
import socket
from functools import partial
from multiprocessing import forkserver
from typing import Any

from fa_tracking.executors import local


def fork_them() -> None:
    """Before this process opens a store, which no fork may share."""
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
    local.ProcessPoolExecutor = partial(_warm, local.ProcessPoolExecutor)  # type: ignore[misc, assignment]


def _warm(pool: Any, workers: int, _: Any, **options: Any) -> Any:
    return pool(workers, multiprocessing.get_context("forkserver"), **options)
