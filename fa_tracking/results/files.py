"""Writes a file, or several together, whole or not at all."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fa_tracking.errors import FATrackError
from fa_tracking.scratch import scratch


def write_whole(path: Path, content: bytes) -> None:
    """Replace ``path`` at once, so that nobody reads half of it; its permissions stay.

    Raises:
        FATrackError: it cannot be written; what was there is still there.
    """
    target = path.resolve()
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", dir=target.parent)  # of nobody else's name
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            part.chmod(stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FATrackError(f"{path} could not be written: {error.strerror or error}") from error


def _umask() -> int:
    """What a new file's mode leaves out here; the system tells it only to who sets it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def together(place: Path) -> Iterator[Path]:
    """A folder for files that are put into the folder ``place`` at the end, none of them where anything fails.

    Raises:
        FATrackError: nothing can be written there.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch(place))
        except OSError as error:
            raise FATrackError(f"nothing can be written into {place}: {error.strerror or error}") from error
        yield folder
        for made in sorted(folder.iterdir()):
            write_whole(place / made.name, made.read_bytes())
