"""Markdown of texts that somebody else has written: it says them, and does nothing."""

import re
from collections.abc import Iterable, Sequence
from html import escape

from fa_tracking.untrusted import one_line

_MARKS = re.compile(r"[\\`*\[\]~$#]|(?<!\w)_|_(?!\w)")


def escaped(text: str) -> str:
    """A text as one line that CommonMark prints as it is, also where HTML and mathematics are read, and in a table."""
    marked = _MARKS.sub(lambda found: f"\\{found[0]}", escape(one_line(text), quote=False))
    return marked.replace("|", "&#124;")


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[bool] = (), is_markdown: bool = False
) -> str:
    """A table of texts.

    Args:
        right: the columns that are aligned to the right; empty: none.
        is_markdown: the texts are Markdown already, and stay as they are.
    """
    sides = ["---:" if side else "---" for side in right] or ["---"] * len(headings)
    spelled = [
        [cell.replace("|", "\\|") if is_markdown else escaped(cell) for cell in row] for row in [headings, *rows]
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in (spelled[0], sides, *spelled[1:]))


def fence(text: str) -> str:
    """What opens and closes ``text`` as a block of code, longer than any that stands in it."""
    return "`" * max(3, *(len(ticks) + 1 for ticks in ["", *re.findall(r"`+", text)]))
