"""Says which process writes a run, and whether it still runs."""

import os
import re
import socket
import sys

NUMBER = re.compile("[0-9]{1,10}")
MOST = 2**31 - 1
"""The highest number of a process that any system gives."""


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
    return NUMBER.fullmatch(pid) is not None and 0 < int(pid) <= MOST and _runs(int(pid))


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _SYNCHRONIZE, _WAIT_TIMEOUT, _ACCESS_DENIED = 0x00100000, 0x102, 5

    def _runs(pid: int) -> bool:
        # not by os.kill: whatever signal it is given, on Windows it ends the process
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.OpenProcess.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
        kernel.OpenProcess.restype = wintypes.HANDLE
        kernel.WaitForSingleObject.argtypes = (wintypes.HANDLE, wintypes.DWORD)
        kernel.WaitForSingleObject.restype = wintypes.DWORD
        kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
        handle = kernel.OpenProcess(_SYNCHRONIZE, False, pid)
        if not handle:
            return ctypes.get_last_error() == _ACCESS_DENIED
        try:
            return bool(kernel.WaitForSingleObject(handle, 0) == _WAIT_TIMEOUT)  # one that has ended does not let wait
        finally:
            kernel.CloseHandle(handle)

else:

    def _runs(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except PermissionError:
            return True
        except ProcessLookupError:
            return False
        return True
