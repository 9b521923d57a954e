"""One process at a time: locks between the processes of one user on this machine."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fa_tracking.errors import FATrackError


@contextmanager
def alone(what: str, wait: bool = True) -> Iterator[bool]:
    """Have ``what``, which is any text, for this process alone; the kernel takes a lock back from whoever dies.

    Args:
        wait: until others have done; without it, yields False at once where another has it.

    Raises:
        FATrackError: no lock can be kept here.
    """
    import fcntl

    place = hashlib.sha256(what.encode()).hexdigest()[:32]
    try:
        file = (_folder() / place).open("a")
    except OSError as error:
        raise FATrackError(f"no lock can be kept in {tempfile.gettempdir()}: {error}; set TMPDIR") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def _folder() -> Path:
    """A folder of this user alone: in the temporary folder itself another could make the files first."""
    folder = Path(tempfile.gettempdir()) / f"fa-track-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is another user's")
    return folder
