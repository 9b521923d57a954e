"""CSV logs: Lightning's metrics.csv, exports of Weights & Biases, and any table with a row an epoch."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fa_tracking.errors import FATrackError
from fa_tracking.importers import _rows, _texts
from fa_tracking.importers._beside import LIGHTNING, flat_settings
from fa_tracking.importers._fields import Fields
from fa_tracking.importers._log import Raw, UnknownShapeError
from fa_tracking.importers._numbers import NOT_FINITE, as_number
from fa_tracking.importers._said import listed
from fa_tracking.importers._shapes import COUNT, Row, Rows

NAME = "csv"
TITLE = "CSV logs, such as Lightning's metrics.csv or an export of Weights & Biases."
PATTERN = "*.csv or *.tsv"
EXAMPLE = """\
import csv
log = csv.writer(open("dfa_42.csv", "w", newline=""))
log.writerow(["method", "seed", "depth", "epoch", "test_acc", "h_0_norm", "h_4_norm", "g_4_norm"])
for epoch in range(1, 31):  # your own training, with what it measures
    log.writerow(["dfa", 42, 4, epoch, 0.31, 8.7, 70.0, 1e-5])"""

_WHOLE = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_EXTREMES = ("__MIN", "__MAX")


def find(path: Path) -> Iterator[Path]:
    """The CSV files."""
    if not path.is_dir():
        yield path
        return
    yield from sorted(file for file in path.rglob("*") if file.suffix.lower() in (".csv", ".tsv") and file.is_file())


def read(path: Path, fields: Fields) -> list[Raw]:
    """Read a log; an export of Weights & Biases holds a training for each of its runs.

    Raises:
        UnknownShapeError: its first line names no columns.
        FATrackError: it contradicts itself, or cannot be read; the message says where and why.
    """
    if path.suffix.lower() in (".json", ".jsonl", ".ndjson"):
        raise FATrackError("is no table: fa-track import json reads it")
    notes: list[str] = []
    header, rows = _table(_texts.read(path), notes)
    settings = flat_settings(path.with_name(LIGHTNING), notes)
    found = []
    for part, columns in _parts(header).items():
        said = [*notes, *(_averages(columns, rows) if part else ())]
        own = [{ours: row[theirs] for ours, theirs in columns.items()} for row in rows]
        kept = [row for row in own if any(row[key] is not None for key in row if key not in _shared(header))]
        table = Rows(kept, "its rows", dict(settings), "last" if COUNT in columns else "")
        params, points, steps, more = _rows.points(table, fields)
        found.append(Raw({path.name: path}, params, points, steps, (*said, *more), part))
    return found


def _table(text: str, notes: list[str]) -> tuple[list[str], list[Row]]:
    """The names of the columns, and every row by them."""
    lines = text.splitlines(keepends=True)
    while lines and (not lines[0].strip() or lines[0].startswith("#")):
        lines.pop(0)
    if not lines:
        raise FATrackError("is empty: there is no row")
    try:
        cells = [row for row in csv.reader(io.StringIO("".join(lines)), _dialect(lines[0]), strict=True) if row]
    except csv.Error as error:
        raise FATrackError(f"is no CSV: {error}") from None
    header = [name.strip() for name in cells[0]]
    if any(as_number(_value(name)) is not None for name in header):
        raise UnknownShapeError(f"its first line has no names of columns: it holds {listed(header)}")
    if twice := [name for name in header if header.count(name) > 1]:
        raise FATrackError(f"the column {twice[0]!r} stands in it twice")
    if len(cells) > 1 and len(cells[-1]) < len(header):
        notes.append("its last row is cut off, and is not imported")
        cells.pop()
    for number, row in enumerate(cells[1:], start=1):
        if len(row) != len(header):
            raise FATrackError(f"row {number} has {len(row)} cells, and there are {len(header)} columns")
    rows = [dict(zip(header, map(_value, row), strict=True)) for row in cells[1:] if row != cells[0]]
    if not rows:
        raise FATrackError("there is no row below the names of the columns")
    return header, rows


def _dialect(first: str) -> type[csv.Dialect]:
    class Dialect(csv.excel):
        delimiter = max(",;\t", key=first.count)

    return Dialect


def _value(text: str) -> Any:
    """A cell as JSON would hold it: empty is not measured, and "nan" is NaN."""
    text = text.strip()
    if not text:
        return None
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    if text.lower() in NOT_FINITE:
        return NOT_FINITE[text.lower()]
    return {"true": True, "false": False}.get(text.lower(), text)


def _parts(header: list[str]) -> dict[str, dict[str, str]]:
    """The trainings of a table, and under which name each has which column.

    An export of Weights & Biases calls a column "run - metric", and gives the extremes of what it averaged beside it.
    """
    own = [name for name in header if all(name + end in header for end in _EXTREMES)]
    runs = dict.fromkeys(name.rpartition(" - ")[0] for name in own)
    if not own or "" in runs:
        return {"": {name: name for name in header}}
    shared = {name: name for name in _shared(header)}
    return {
        run: shared | {name.removeprefix(f"{run} - "): name for name in own if name.rpartition(" - ")[0] == run}
        for run in runs
    }


def _shared(header: list[str]) -> list[str]:
    """The columns that are of no run of an export: its steps."""
    ends = tuple(end for end in _EXTREMES)
    extremes = [name for name in header if name.endswith(ends)]
    return [name for name in header if " - " not in name] if extremes else []


def _averages(columns: dict[str, str], rows: list[Row]) -> list[str]:
    """What must be said of values that stand for several."""
    said = []
    for ours, theirs in columns.items():
        low, high = (theirs + end for end in _EXTREMES)
        several = sum(row[low] != row[high] for row in rows) if rows and low in rows[0] else 0
        if several:
            said.append(
                f"{ours!r} is an average at {several} of its {len(rows)} steps, as its {_EXTREMES[0]} and "
                f"{_EXTREMES[1]} differ: export the points themselves where they count"
            )
    return said
