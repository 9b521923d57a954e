"""Turns an answer into text: a table for the terminal, CSV, JSON, Markdown."""

import csv
import io
import json
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

FORMATS = ("table", "csv", "json", "md")
WIDTH = 100
ROUNDING = 1e-12
"""Relative to the mean; a standard deviation of doubles below it says nothing of the values."""


def render(answer: "DuckDBPyRelation", form: str = "table", width: int = WIDTH) -> str:
    """The answer in one of ``FORMATS``. NULL is empty (``null`` in JSON); NaN and infinities are spelled out."""
    columns, rows = answer.columns, answer.fetchall()
    match form:
        case "csv":
            return _csv(columns, rows)
        case "json":
            return json.dumps([dict(zip(columns, map(plain, row), strict=True)) for row in rows], indent=2) + "\n"
        case "md":
            return _markdown(columns, rows)
        case "table":
            return text_table(columns, rows, width)
    raise ValueError(f"no format {form!r}; there are: {', '.join(FORMATS)}")


def _csv(columns: Sequence[str], rows: Sequence[tuple]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([plain(value) for value in row] for row in rows)
    return text.getvalue()


def _markdown(columns: Sequence[str], rows: Sequence[tuple]) -> str:
    return pipe_table(columns, [[short(value) for value in row] for row in rows], numeric_columns(columns, rows))


def pipe_table(headings: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """A Markdown table of texts; ``right``: the columns that are aligned to the right."""
    body = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    lines = [headings, ["---:" if side else "---" for side in right], *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def text_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], width: int = WIDTH) -> str:
    """A table that fits ``width`` columns of text.

    Where it would be wider, columns that say the same in every row move above it, long verdicts and run ids are
    shortened (and that is said), and at last each row becomes a block, so that nothing is cut without a word. Without
    a row it says so.
    """
    if not rows:
        return "no rows\n"
    every = range(len(columns))
    full = _draw(columns, rows, every, short)
    if _width(full) <= width:
        return full
    same = [i for i in every if len(rows) > 1 and len({short(row[i]) for row in rows}) == 1]
    table = _draw(columns, rows, [i for i in every if i not in same], _shorter)
    if _width(table) <= width:
        above = ", ".join(f"{columns[i]} = {short(rows[0][i]) or '(empty)'}" for i in same)
        heading = textwrap.fill(f"in every row: {above}", width, subsequent_indent="  ") + "\n\n" if same else ""
        return f"{heading}{table}\nshortened to fit; whole with --format csv, json or md\n"
    label = max(map(len, columns))
    blocks = ["".join(f"{c:<{label}}  {short(v)}\n" for c, v in zip(columns, row, strict=True)) for row in rows]
    return "\n".join(blocks)


def _draw(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], shown: Sequence[int], spell: Callable[[Any], str]
) -> str:
    """The columns ``shown`` as a table as wide as it needs to be, headings broken at their underscores."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    for i in shown:
        side: Literal["left", "right"] = "right" if _numeric(rows, i) else "left"
        table.add_column(columns[i].replace("_", "\n"), justify=side, no_wrap=True, vertical="bottom")
    for row in rows:
        table.add_row(*(Text(spell(row[i])) for i in shown))
    text = io.StringIO()
    Console(file=text, width=10_000, color_system=None, legacy_windows=False).print(table)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _width(text: str) -> int:
    return max(map(len, text.splitlines()))


def numeric_columns(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[bool]:
    return [_numeric(rows, i) for i in range(len(columns))]


def _numeric(rows: Sequence[Sequence[Any]], index: int) -> bool:
    return any(isinstance(row[index], int | float) and not isinstance(row[index], bool) for row in rows)


def plain(value: Any) -> Any:
    """A value that JSON and CSV can carry without losing anything."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value if value is None or isinstance(value, bool | int | float | str | list) else str(value)


def short(value: Any) -> str:
    """A value as a person reads it: four significant digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(plain(value))
    return " ".join(str(value).splitlines())


def without_noise(mean: float, sd: float) -> float:
    """The standard deviation as it is printed: 0 where it is of the size of the rounding of equal values."""
    return 0.0 if sd <= ROUNDING * abs(mean) < math.inf else sd


_VERDICTS = {"trustworthy": "✓ trustworthy", "needs walk-back": "⚑ walk back"}
_MARKS = {"trustworthy": "✓", "needs walk-back": "⚑", "inconclusive": "?", "not audited": "–"}
_COUNTED = re.compile(rf"(\d+) × ({'|'.join(_MARKS)})")
_RUN_ID = re.compile(r"[0-9a-f]{32}")


def _shorter(value: Any) -> str:
    """A value where room is short: three digits, the head of a verdict, the first eight letters of a run id."""
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.3g}"
    text = short(value)
    if text.startswith("MIXED: "):
        return "MIXED " + " ".join(f"{n}{_MARKS[verdict]}" for n, verdict in _COUNTED.findall(text))
    return text[:8] if _RUN_ID.fullmatch(text) else _VERDICTS.get(text.partition(":")[0], text)
