"""Scratch folders that do not outlive what made them: what a killed process left is removed by the next."""

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
OPENS_FOLDERS = os.name == "posix"
"""Windows does not."""


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
            _remove(left, _lock(left))
    folder, lock = _make(parent)
    try:
        yield folder
    finally:
        _remove(folder, lock)


def _make(parent: Path) -> tuple[Path, int]:
    """A new folder and its lock; before it is locked, another process may take it for one that was left."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        with suppress(BlockingIOError, FileNotFoundError):
            lock = _lock(folder)
            if folder.is_dir():
                return folder, lock
            _remove(folder, lock)


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)
    if not OPENS_FOLDERS:
        with suppress(OSError):  # another process looks whether it is left
            _beside(folder).unlink()


def _lock(folder: Path) -> int:
    """An open handle on the folder, locked; where folders are not opened, on a file beside it.

    Raises:
        BlockingIOError: another process has it.
        FileNotFoundError: it is gone.
    """
    from filelock import lock_descriptor

    handle = os.open(folder, os.O_RDONLY) if OPENS_FOLDERS else os.open(_beside(folder), os.O_RDWR | os.O_CREAT)
    try:
        if not lock_descriptor(handle, blocking=False):
            raise BlockingIOError(f"{folder} is another process's")
    except OSError:
        os.close(handle)
        raise
    return handle


def _beside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
