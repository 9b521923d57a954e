"""Writes a file, or several together, whole or not at all."""

import shutil
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
    part = target.with_name(target.name + ".part")
    try:
        part.write_bytes(content)
        if target.exists():
            shutil.copymode(target, part)
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise FATrackError(f"{path} could not be written: {error.strerror or error}") from error


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
