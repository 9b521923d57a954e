"""Says which process writes a run, and whether it still runs."""

import os
import socket
import sys


def this() -> str:
    """Return this process's name in a run's tag: host:pid."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_first() -> bool:
    """Return whether this process trains alone, or has rank 0 among those that train together.

    It asks ``torch.distributed`` if that has begun, else the variables that `torchrun` sets.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank()) == 0
    return "WORLD_SIZE" not in os.environ or os.environ.get("RANK", "0") == "0"


def is_here(process: str) -> bool:
    """Return whether a process is on this machine."""
    return process.rpartition(":")[0] == socket.gethostname()


def is_alive(process: str) -> bool:
    """Whether a process runs: on this machine it is asked, on another it is believed; one without a name is gone."""
    host, _, pid = process.rpartition(":")
    if not is_here(process):
        return bool(host)
    try:
        os.kill(int(pid), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
