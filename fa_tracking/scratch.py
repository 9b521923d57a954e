"""Scratch folders that do not outlive what made them: what a killed process left is removed by the next."""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = ".fa-track-"
_MADE = re.compile(rf"{re.escape(PREFIX)}[a-z0-9_]{{8}}")
"""As ``tempfile`` names them: another folder is somebody's own."""


@contextmanager
def scratch(beside: str | Path | None = None) -> Iterator[Path]:
    """A folder in ``beside``, for the length of a ``with`` block; in the folder for temporary files where None.

    It is locked, and the kernel takes the lock back from whoever dies: so what killed processes left there is known,
    and removed first.
    """
    parent = Path(beside or tempfile.gettempdir()).absolute()
    for left in parent.glob(f"{PREFIX}*/"):
        if not _MADE.fullmatch(left.name):
            continue
        with suppress(OSError):
            lock = _lock(left)
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)
    folder, lock = _make(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make(parent: Path) -> tuple[Path, int]:
    """A new folder and its lock; before it is locked, another process may take it for one that was left."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        with suppress(BlockingIOError, FileNotFoundError):
            lock = _lock(folder)
            if folder.is_dir():
                return folder, lock
            os.close(lock)


def _lock(folder: Path) -> int:
    """An open handle on the folder, locked.

    Raises:
        BlockingIOError: another process has it.
        FileNotFoundError: it is gone.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle
