"""Reads text files of logs within bounds, and what stands beside them."""

from pathlib import Path
from typing import Any

from fa_tracking import untrusted
from fa_tracking.errors import FATrackError
from fa_tracking.importers._shapes import flattened

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


def beside(path: Path, name: str, notes: list[str]) -> dict[str, Any]:
    """The settings that a library wrote beside its log, as JSON or YAML: every value by its path."""
    file = path.parent / name
    if not file.is_file():
        return {}
    try:
        found = untrusted.read_json(file) if file.suffix == ".json" else untrusted.read_yaml(file)
        return flattened(found) if isinstance(found, dict) else {}
    except (OSError, ValueError, FATrackError) as error:
        notes.append(f"{name} beside it is not read: {error}")
        return {}
