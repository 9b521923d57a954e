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
    from filelock import lock_descriptor

    place = hashlib.sha256(what.encode()).hexdigest()[:32]
    try:
        file = (_folder() / place).open("a")
    except OSError as error:
        raise FATrackError(f"no lock can be kept in {tempfile.gettempdir()}: {error}; set TMPDIR") from error
    with file:
        yield lock_descriptor(file.fileno(), blocking=wait)


def _folder() -> Path:
    """A folder of this user alone: in the temporary folder itself another could make the files first."""
    if os.name == "nt":  # where the temporary folder is the user's own
        folder = Path(tempfile.gettempdir()) / "fa-track"
        folder.mkdir(exist_ok=True)
        return folder
    folder = Path(tempfile.gettempdir()) / f"fa-track-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is another user's")
    return folder
