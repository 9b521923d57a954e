"""JSON logs, one file a run: an object with a list of epochs, each an object of numbers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fa_tracking.errors import FATrackError
from fa_tracking.importers._fields import Fields
from fa_tracking.importers._standard import Point, Raw, as_number

NAME = "json"
TITLE = "Per-epoch JSON logs, one file a run."
PATTERN = "*.json"

LARGEST = 2**28
"""Bytes: no log of the epochs of a training is longer."""


def find(path: Path) -> Iterator[Path]:
    yield from sorted(path.rglob(PATTERN)) if path.is_dir() else [path]


def read(path: Path, fields: Fields) -> Raw:
    """Read a log.

    Raises:
        FATrackError: the file is no such log; the message says where and why.
    """
    try:
        found = _object(path)
        entries = _entries(found, fields)
        lists = fields.lists()
        params = {key: v for key, v in _flat(found, lists, fields.log).items() if key != fields.log}
        points: dict[str, list[Point]] = {}
        steps: set[int] = set()
        for number, entry in enumerate(entries, start=1):
            flat = _flat(entry, lists) if isinstance(entry, dict) else {}
            step = _epoch(flat, number, fields)
            if step in steps:
                raise FATrackError(f"epoch {step} stands in it twice")
            steps.add(step)
            for key, value in flat.items():
                if key != fields.epoch:
                    points.setdefault(key, []).append(Point(step, value))
    except RecursionError:
        raise FATrackError("its objects are nested too deeply") from None
    return Raw({path.name: path}, params, points, frozenset(steps))


def _object(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            raise FATrackError("is no regular file")
        if path.stat().st_size > LARGEST:
            raise FATrackError(f"has {path.stat().st_size} bytes: a log of epochs has {LARGEST} at most")
        found = json.loads(path.read_bytes(), object_pairs_hook=_each_once)
    except OSError as error:
        raise FATrackError(f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise FATrackError(f"is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise FATrackError(f"holds {_kind(found)}, not an object with a list of epochs")
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object")
    return found


def _entries(found: dict[str, Any], fields: Fields) -> list[Any]:
    entries: Any = found
    for part in [fields.log] if fields.log in found else fields.log.split("."):
        if not isinstance(entries, dict) or part not in entries:
            keys = ", ".join(map(repr, list(found)[:12])) or "nothing"
            raise FATrackError(f"has no {fields.log!r}: it holds {keys}; a --map says which key holds the epochs")
        entries = entries[part]
    if not isinstance(entries, list):
        raise FATrackError(f"{fields.log!r} is {_kind(entries)}, not a list of epochs")
    if not entries:
        raise FATrackError(f"{fields.log!r} is empty: there is no epoch")
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            raise FATrackError(f"entry {number} of {fields.log!r} is {_kind(entry)}, not an object")
    return entries


def _epoch(flat: dict[str, Any], number: int, fields: Fields) -> int:
    if fields.epoch not in flat:
        raise FATrackError(f"entry {number} of {fields.log!r} has no {fields.epoch!r}; a --map says what it is called")
    value = flat[fields.epoch]
    step = None if isinstance(value, str) else as_number(value)
    if step is None or not step.is_integer():
        raise FATrackError(f"entry {number} of {fields.log!r}: {fields.epoch!r} is {value!r:.40}, not an integer")
    return int(step)


def _flat(found: dict[str, Any], lists: set[str], whole: str | None = None) -> dict[str, Any]:
    """Every value by its path, dots between the keys; ``lists`` are taken apart, ``whole`` is not.

    Raises:
        FATrackError: two values have the same path.
    """
    flat: dict[str, Any] = {}
    waiting = [(key, value) for key, value in reversed(found.items())]
    while waiting:
        path, value = waiting.pop()
        inner = value if isinstance(value, dict) else None
        if isinstance(value, list) and path in lists:
            inner = {str(index): each for index, each in enumerate(value)}
        if inner is not None and path != whole:
            waiting += [(f"{path}.{key}", each) for key, each in reversed(inner.items())]
        elif path in flat:
            raise FATrackError(f"the path {path!r} stands in it twice")
        else:
            flat[path] = value
    return flat


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
