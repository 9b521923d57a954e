"""JSON logs and JSON lines, one file per run, in the shapes that ``_shapes`` knows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fa_tracking.errors import FATrackError
from fa_tracking.importers import _rows, _shapes, _texts
from fa_tracking.importers._beside import flat_settings
from fa_tracking.importers._fields import Fields
from fa_tracking.importers._log import Raw, UnknownShapeError

NAME = "json"
TITLE = "JSON logs and JSON lines, one file per run."
PATTERN = "*.json, *.jsonl or *.ndjson"
EXAMPLE = """\
import json
epochs = []
for epoch in range(1, 31):  # your own training, with what it measures
    epochs.append({"epoch": epoch, "test_acc": 0.31, "h_0_norm": 8.7, "h_4_norm": 70.0, "g_4_norm": 1e-5})
json.dump({"method": "dfa", "seed": 42, "depth": 4, "log": epochs}, open("dfa_42.json", "w"))"""

LINES = {".jsonl", ".ndjson"}
_SUFFIXES = {".json", *LINES}
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def find(path: Path) -> Iterator[Path]:
    """The logs; of what a library writes beside its log, nothing."""
    if not path.is_dir():
        yield path
        return
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES and not file.is_dir())
    names: dict[Path, set[str]] = {}
    for file in found:
        names.setdefault(file.parent, set()).add(file.name)
    for file in found:
        if not _is_companion(file, names):
            yield file


def _is_companion(file: Path, names: dict[Path, set[str]]) -> bool:
    """Whether a file stands beside the log of Hugging Face's trainer or of Sacred, or is an earlier state of it."""
    here = names[file.parent]
    if "trainer_state.json" in here:
        return file.name != "trainer_state.json" or _is_earlier(file.parent, names)
    return file.name in ("config.json", "run.json", "info.json") and {"metrics.json", "run.json"} <= here


def _is_earlier(folder: Path, names: dict[Path, set[str]]) -> bool:
    """Whether a checkpoint's folder stands beside a later one, or below the end of its training."""
    own = _CHECKPOINT.fullmatch(folder.name)
    if own is None:
        return False
    later = (
        _CHECKPOINT.fullmatch(other.name)
        for other, held in names.items()
        if other.parent == folder.parent and "trainer_state.json" in held
    )
    ended = "trainer_state.json" in names.get(folder.parent, set())
    return ended or any(int(match[1]) > int(own[1]) for match in later if match)


def read(path: Path, fields: Fields) -> list[Raw]:
    """Read a log.

    Raises:
        UnknownShapeError: it has none of the shapes.
        FATrackError: it contradicts itself, or cannot be read; the message says where and why.
    """
    if path.suffix.lower() in (".csv", ".tsv"):
        raise FATrackError("is a table: fa-track import csv reads it")
    try:
        text = _texts.read(path)
        if not text.strip():
            raise FATrackError("is empty")
        rows, notes = _lines(_numbered(text)) if path.suffix.lower() in LINES else _parsed(text, fields)
        params, points, steps, more = _rows.points(rows, fields)
    except RecursionError:
        raise FATrackError("its objects are nested too deeply") from None
    config = flat_settings(path.with_name("config.json"), notes) if path.name == "metrics.json" else {}
    return [Raw({path.name: path}, config | params, points, steps, (*notes, *more))]


def _parsed(text: str, fields: Fields) -> tuple[_shapes.Rows, list[str]]:
    try:
        return _shapes.found_in(json.loads(text, object_pairs_hook=_each_once), fields), []
    except json.JSONDecodeError as error:
        lines = _numbered(text)
        if len(lines) < 2 or not _is_object(lines[0][1]):
            raise UnknownShapeError(f"is no JSON: {error}") from None
    except ValueError as error:
        raise FATrackError(f"is no JSON: {error}") from None
    return _lines(lines)


def _numbered(text: str) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _lines(lines: list[tuple[int, str]]) -> tuple[_shapes.Rows, list[str]]:
    """The rows of JSON lines; a last line that was cut off, as where a training was killed, is left out."""
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for number, line in lines:
        try:
            row = json.loads(line, object_pairs_hook=_each_once)
        except ValueError as error:
            if number != lines[-1][0]:
                raise FATrackError(f"line {number} is no JSON: {error}") from None
            notes.append(f"its last line, {number}, is cut off or damaged, and is not imported")
            continue
        if not isinstance(row, dict):
            raise FATrackError(f"line {number} is no object")
        rows.append(row)
    return _shapes.Rows(rows, "its lines", {}, headed=True), notes


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object")
    return found
