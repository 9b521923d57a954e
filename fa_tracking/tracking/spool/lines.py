"""Reads journals as fa-track 0.2 wrote them: a file of JSON, an entry a line, its first line the head."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from fa_tracking.errors import FATrackError

NAME = "journal.jsonl"


@contextmanager
def found(folder: Path) -> Iterator[bytes]:
    """What the journal in ``folder`` holds, empty where there is none; at the end of the ``with`` block it is removed.

    Raises:
        BlockingIOError: the process of an older fa-track has it open.
    """
    path = folder / NAME
    if not path.is_file():
        yield b""
        return
    with path.open("r+b") as file:
        if not lock_descriptor(file.fileno(), blocking=False):
            raise BlockingIOError(f"{path} is another process's")
        yield file.read()
        if os.name != "nt":
            path.unlink()
    path.unlink(missing_ok=True)  # Windows removes no open file


def read(content: bytes, folder: Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The head and the entries; both empty where its process was killed before it wrote the head.

    Raises:
        FATrackError: a line is no JSON.
    """
    whole = content.split(b"\n")[:-1]  # without what a full disk or a dead machine has left of a last line
    read = [_entry(line, folder) for line in whole]
    head = read[0] if read else {}
    return {key: str(value) for key, value in head.items()}, read[1:]


def _entry(line: bytes, folder: Path) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise FATrackError(f"{folder / NAME} is damaged: remove the folder, or mend its lines of JSON by hand")
    return entry
