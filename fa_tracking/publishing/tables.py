"""Turns an answer into text: a table for the terminal, CSV, JSON, Markdown."""

import csv
import io
import json
import math
import re
import textwrap
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

from fa_tracking import markdown
from fa_tracking.protocol.verdicts import OTHER_THRESHOLDS, caveats, head
from fa_tracking.spelled import plain, short
from fa_tracking.untrusted import printable

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

FORMATS = ("table", "csv", "json", "md")
WIDTH = 100


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
            said = caveats(value for row in rows for value in row if isinstance(value, str))
            below = "".join(f"{textwrap.fill(line, width)}\n" for line in said)
            return text_table(columns, rows, width) + (f"\n{below}" if below else "")
    raise ValueError(f"no format {form!r}; there are: {', '.join(FORMATS)}")


def _csv(columns: Sequence[str], rows: Sequence[tuple]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_no_formula(plain(value)) for value in row] for row in rows)
    return text.getvalue()


def _no_formula(value: Any) -> Any:
    """A text that a spreadsheet would compute, behind an apostrophe; a number in a text stays as it is."""
    if not isinstance(value, str) or not _FORMULA.match(value) or _NUMBER.fullmatch(value.strip()):
        return value
    return f"'{value}"


def _markdown(columns: Sequence[str], rows: Sequence[tuple]) -> str:
    cells = [[short(value) for value in row] for row in rows]
    return markdown.table(columns, cells, numeric_columns(columns, rows))


def text_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    width: int = WIDTH,
    whole: str = "--format csv, json or md",
) -> str:
    """A table that fits ``width`` columns of text.

    Where it would be wider, columns that say the same in every row move above it, long verdicts and run ids are
    shortened (and that is said), long texts take several lines, verdicts are left with their marks alone, and at last
    each row becomes a block, so that nothing is cut without a word. Without a row it says so.

    Args:
        whole: the option of the command that prints everything, named where something is shortened.
    """
    if not rows:
        return "no rows\n"
    columns = [printable(column) for column in columns]
    every, right = range(len(columns)), numeric_columns(columns, rows)
    full = [[short(value) for value in row] for row in rows]
    if _width(columns, full, every) <= width:
        return _draw(columns, full, every, right)
    same = [i for i in every if len(rows) > 1 and len({short(row[i]) for row in rows}) == 1]
    shown = [i for i in every if i not in same]
    above = ", ".join(f"{columns[i]} = {short(rows[0][i]) or '(empty)'}" for i in same)
    heading = textwrap.fill(f"in every row: {above}", width, subsequent_indent="  ") + "\n\n" if same else ""
    if _width(columns, full, shown) <= width:
        return heading + _draw(columns, full, shown, right)
    ids = _heads({cell for row in full for cell in row if _RUN_ID.fullmatch(cell)})
    for spell, legend in ((_shorter, ""), (_shortest, _LEGEND)):
        cells = [
            [ids.get(said) or spell(value) for value, said in zip(row, texts, strict=True)]
            for row, texts in zip(rows, full, strict=True)
        ]
        table = _fitted(columns, cells, shown, right, width)
        if table:
            said = [legend, f"shortened to fit; whole with {whole}"]
            below = "".join(f"{textwrap.fill(line, width)}\n" for line in said if line)
            return f"{heading}{table}\n{below}"
    return heading + _blocks([columns[i] for i in shown], [[short(row[i]) for i in shown] for row in rows], width)


def _fitted(
    columns: Sequence[str], cells: Sequence[Sequence[str]], shown: Sequence[int], right: Sequence[bool], width: int
) -> str | None:
    """The table with its longest texts over several lines, where it is too wide; None where even so it does not fit.

    Rich, which draws the table, could wrap it as well, but would part a mark from its word, and cut words and numbers
    in columns that it makes too narrow.
    """
    excess = _width(columns, cells, shown) - width
    room = {i: _room(columns[i], [row[i] for row in cells]) for i in shown if not right[i]}
    while excess > 0 and any(wide > least for wide, least in room.values()):
        widest = max(room, key=lambda i: room[i][0] - room[i][1])
        wide, least = room.pop(widest)
        narrow = max(least, wide - excess)
        cells = [[_lines(cell, narrow) if i == widest else cell for i, cell in enumerate(row)] for row in cells]
        excess = _width(columns, cells, shown) - width
    return None if excess > 0 else _draw(columns, cells, shown, right)


def _room(heading: str, cells: Sequence[str]) -> tuple[int, int]:
    """How wide a column of texts is, and how narrow it can be: half as wide, with no word broken."""
    wide = max(map(len, cells))
    words = [*heading.split("_"), *(word for cell in cells for word in _words(cell))]
    return wide, max(wide // 2, *map(len, words))


def _lines(text: str, width: int) -> str:
    """The text with lines of at most ``width``, broken at its spaces."""
    lines = [""]
    for word in _words(text):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        lines[-1:] = [joined] if len(joined) <= width else [lines[-1], word]
    return "\n".join(filter(None, lines))


def _words(text: str) -> list[str]:
    """What stays on one line: a word, with the mark or the name before it."""
    return re.split(r"(?<![✓⚑?:]) ", text)


def _draw(columns: Sequence[str], cells: Sequence[Sequence[str]], shown: Sequence[int], right: Sequence[bool]) -> str:
    """The columns ``shown`` as a table as wide as it needs to be, headings broken at their underscores."""
    from rich.align import Align
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    for i in shown:
        side: Literal["left", "right"] = "right" if right[i] else "left"
        heading = Align(columns[i].replace("_", "\n"), side, vertical="bottom")
        table.add_column(heading, justify=side, no_wrap=True)
    for row in cells:
        table.add_row(*(Text(row[i]) for i in shown))
    text = io.StringIO()
    Console(file=text, width=10_000, color_system=None, legacy_windows=False).print(table)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _blocks(columns: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> str:
    """Each row as a block: a line a column, longer values indented below."""
    label = min(max(map(len, columns)) + 2, width // 2)

    def line(column: str, cell: str) -> str:
        indent = " " * label
        return textwrap.fill(f"{column:<{label}}{cell}", width, subsequent_indent=indent, break_on_hyphens=False)

    return "\n".join("".join(f"{line(*pair)}\n" for pair in zip(columns, row, strict=True)) for row in cells)


def _width(columns: Sequence[str], cells: Sequence[Sequence[str]], shown: Sequence[int]) -> int:
    """How wide ``_draw`` makes the columns ``shown``, told without drawing them, which takes longer than a query."""
    from rich.cells import cell_len

    texts = ([columns[i].replace("_", "\n"), *(row[i] for row in cells)] for i in shown)
    return sum(max(cell_len(line) for text in column for line in text.split("\n")) for column in texts) + len(shown) - 1


def numeric_columns(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[bool]:
    """Which columns hold numbers, and are aligned to the right."""
    return [_numeric(rows, i) for i in range(len(columns))]


def _numeric(rows: Sequence[Sequence[Any]], index: int) -> bool:
    return any(isinstance(row[index], int | float) and not isinstance(row[index], bool) for row in rows)


_FORMULA = re.compile(r"\s*[=+\-@]|[\t\r]")
"""Some spreadsheets pass over white space before it."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|infinity|nan)", re.I)
_VERDICTS = {"trustworthy": "✓ trustworthy", "needs walk-back": "⚑ walk back", "inconclusive": "? inconclusive"}
_MARKS = {"trustworthy": "✓", "needs walk-back": "⚑", "inconclusive": "?", "not audited": "–"}
_LEGEND = "✓ trustworthy   ⚑ needs walk-back   ? inconclusive   – not audited   † other thresholds"
_OTHER = "†"
"""Behind a shortened verdict under other thresholds than the protocol's."""
_COUNTED = re.compile(rf"(\d+) × ({'|'.join(_MARKS)})")
_RUN_ID = re.compile(r"[0-9a-f]{32}")


def _shorter(value: Any) -> str:
    """A value where room is short: three digits, the head of a verdict."""
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:z.3g}"
    text = short(value)
    if text.startswith("MIXED: "):
        counts = " ".join(f"{n}{_MARKS[verdict]}" for n, verdict in _COUNTED.findall(text))
        return f"MIXED {counts}{_OTHER if OTHER_THRESHOLDS in text else ''}"
    short_verdict = _VERDICTS.get(head(text))
    if short_verdict and OTHER_THRESHOLDS in text:
        return f"{short_verdict}{_OTHER}"
    return short_verdict or text


def _heads(run_ids: Collection[str]) -> dict[str, str]:
    """The first eight letters of each run id, or as many more as tell all of them apart."""
    length = next(n for n in range(8, 33) if len({run_id[:n] for run_id in run_ids}) == len(run_ids))
    return {run_id: run_id[:length] for run_id in run_ids}


def _shortest(value: Any) -> str:
    """The same, and of a verdict its mark alone."""
    text = _shorter(value)
    if text.removesuffix(_OTHER) in _VERDICTS.values():
        return text[0] + (_OTHER if text.endswith(_OTHER) else "")
    return text.removeprefix("MIXED ")
