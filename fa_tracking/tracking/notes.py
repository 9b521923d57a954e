"""Notes of runs, which MLflow shows as Markdown."""

import re
from collections.abc import Iterable, Sequence
from html import escape

from fa_tracking.untrusted import one_line


def literal(text: str) -> str:
    """A text as one line of Markdown that says it and does nothing."""
    return re.sub(r"([\\`*_\[\]~|])", r"\\\1", escape(one_line(text), quote=False))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of plain texts as a Markdown table."""
    lines = [headings, ["---"] * len(headings), *([literal(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def fence(text: str) -> str:
    """What opens and closes ``text`` as a block of code, longer than any that stands in it."""
    return "`" * max(3, *(len(ticks) + 1 for ticks in ["", *re.findall(r"`+", text)]))
