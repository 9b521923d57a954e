"""Writes a file, or several together, whole or not at all."""

import os
import secrets
import shlex
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.scratch import scratch


def write_whole(path: Path, content: bytes) -> None:
    """Replace ``path`` at once, so that nobody reads half of it; its permissions stay.

    Raises:
        UsageError: its folder does not exist.
        FATrackError: it cannot be written; what was there is still there.
    """
    must_be_folder(path.parent)
    target = path.resolve()
    try:
        part = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # nobody else's file, nor a link to one
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            if target.exists():
                shutil.copymode(target, part)
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FATrackError(f"{path} could not be written: {error.strerror or error}") from error


def must_be_folder(place: Path) -> None:
    """
    Raises:
        UsageError: it is not.
    """
    if not place.is_dir():
        raise UsageError(f"the folder {place} does not exist: make it first (`mkdir -p {shlex.quote(str(place))}`)")


@contextmanager
def together(place: Path) -> Iterator[Path]:
    """A folder for files that are put into the folder ``place`` at the end, none of them where anything fails.

    Raises:
        UsageError: ``place`` does not exist.
        FATrackError: nothing can be written there.
    """
    must_be_folder(place)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch(place))
        except OSError as error:
            raise FATrackError(f"nothing can be written into {place}: {error.strerror or error}") from error
        yield folder
        for made in sorted(folder.iterdir()):
            write_whole(place / made.name, made.read_bytes())
