"""Reads journals as fa-track 0.2 wrote them: a file of JSON, an entry a line, its first line the head."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from filelock import lock_descriptor

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


class Read(NamedTuple):
    """What the lines of a journal say.

    Attributes:
        head: empty where it cannot be read, or where the process was killed before it wrote one.
        entries: in their order.
        damaged: the lines that are none, by their number: what a full disk or a dead machine has left.
    """

    head: dict[str, str]
    entries: list[dict[str, Any]]
    damaged: dict[int, bytes]


def read(content: bytes) -> Read:
    """The head and the entries, and beside them what is neither."""
    first, *others = content.removesuffix(b"\n").split(b"\n")
    head, entries, damaged = _parsed(first), [], {}
    if head is None and others:
        damaged[1] = first  # alone it is of a process that was killed before it logged anything
    for number, line in enumerate(others, start=2):
        found = _parsed(line)
        if not line.strip():
            continue
        if found is None or not _is_entry(found):
            damaged[number] = line
        else:
            entries.append(found)
    return Read({key: str(value) for key, value in (head or {}).items()}, entries, damaged)


def keep_aside(damaged: Mapping[int, bytes], folder: Path) -> Path:
    """Keep damaged lines beside the folder of their journal, which is removed once its entries are delivered."""
    content = b"\n".join([*damaged.values(), b""])
    path = folder.with_name(f"{folder.name}.damaged-{hashlib.sha256(content).hexdigest()[:8]}.jsonl")
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return path


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is_entry(found: dict[str, Any]) -> bool:
    """Whether it has the form of an entry, as ``deliver`` takes it."""
    match found:
        case {"metrics": [*points]}:
            return all(map(_is_point, points))
        case {"tag": str(), "value": str()} | {"text": str(), "path": str()} | {"upload": str(), "path": str()}:
            return True
        case {"remove": str()} | {"status": str()}:
            return True
    return False


def _is_point(found: Any) -> bool:
    match found:
        case [str(), int() | float(), int(), int()]:
            return True
    return False
