"""Which process writes a run, and whether it is still there."""

import os
import socket
import sys


def this() -> str:
    """This process, as a run's tag names it: host:pid."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_first() -> bool:
    """Whether this process has rank 0 of those that train together, or trains alone.

    Asked is ``torch.distributed`` where it has begun, else what `torchrun` has put into the environment.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank()) == 0
    return "WORLD_SIZE" not in os.environ or os.environ.get("RANK", "0") == "0"


def is_here(process: str) -> bool:
    """Whether a process is one of this machine."""
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
