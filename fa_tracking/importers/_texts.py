"""Reads text files of logs within bounds."""

from pathlib import Path

from fa_tracking import untrusted
from fa_tracking.errors import FATrackError

LARGEST = 2**28
"""Bytes: no log of the epochs of a training is longer."""


def read(path: Path) -> str:
    """The text of a log.

    Raises:
        FATrackError: it is no regular file, cannot be read, is too large or no UTF-8.
    """
    try:
        return untrusted.read_bytes(path, LARGEST).decode("utf-8-sig")
    except OSError as error:
        raise FATrackError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise FATrackError(f"is no text in UTF-8: {error}") from None
    except ValueError as error:
        raise FATrackError(str(error)) from None
