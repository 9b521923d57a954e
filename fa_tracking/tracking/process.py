"""Which process writes a run, and whether it is still there."""

import os
import socket


def this() -> str:
    """This process, as a run's tag names it: host:pid."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_alive(process: str) -> bool:
    """Whether a process runs: on this machine it is asked, on another it is believed; one without a name is gone."""
    host, _, pid = process.rpartition(":")
    if host != socket.gethostname():
        return bool(host)
    try:
        os.kill(int(pid), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
