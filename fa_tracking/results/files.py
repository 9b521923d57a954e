"""Writes a file whole or not at all."""

import shutil
from pathlib import Path

from fa_tracking.errors import FATrackError


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
