"""Finds the markers of a Markdown document, and the rows of its tables."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from fa_tracking.publishing import hidden
from fa_tracking.publishing.markers import FORMS, Marker, Rows, line_of


def in_markdown(text: str) -> tuple[list[Marker], list[int], Rows]:
    """The markers, where those begin that are left out, and the rows of tables."""
    comments = list(_COMMENT.finditer(text))
    page = hidden.markdown(text, [comment.span() for comment in comments])
    shown = [(place, comment) for place, comment in enumerate(comments) if place in page.shown]
    found = list(_markdown_markers(shown, page))
    left_out = [c.start() for place, c in enumerate(comments) if place not in page.shown and not c["close"]]
    tables = [(line_of(text, m.whole[0]), line_of(text, m.whole[1])) for m in found if m.kind == "fa-table"]
    opens = {place for place, comment in enumerate(comments) if not comment["close"]}
    rows = [
        (line, [_outside(cell, opens) for cell in cells])
        for line, cells in page.rows
        if not any(first <= line <= last for first, last in tables)
    ]
    return found, left_out, rows


def _outside(cell: Sequence[str | int], opens: Collection[int]) -> str:
    """The text of a cell that no marker holds."""
    is_marked, texts = False, []
    for piece in cell:
        if isinstance(piece, int):
            is_marked = piece in opens
        elif not is_marked and piece != hidden.OTHER:
            texts.append(piece)
    return " ".join(texts)


_COMMENT = re.compile(
    r"<!--\s*(?P<close>/?)(?P<kind>fa(?:-table)?)\b(?P<colon>:?)(?P<body>(?:(?!-->|<!--).)*)(?P<end>-->)?", re.S
)


def _markdown_markers(comments: Iterable[tuple[int, re.Match[str]]], page: hidden.Page) -> Iterator[Marker]:
    """Pairs of comments, an opening and a closing one, that hold a value, or a table, and nothing else."""
    opened: tuple[int, re.Match[str]] | None = None
    for place, comment in comments:
        closes = bool(comment["close"]) and bool(comment["end"])
        if opened and closes and comment["kind"] == opened[1]["kind"]:
            head = opened[1]
            if (opened[0], place) in (page.tables if head["kind"] == "fa-table" else page.values):
                body = " ".join(_unquoted(head).split())
                yield Marker(head["kind"], (head.start(), comment.end()), (head.end(), comment.start()), body)
            else:
                yield _malformed(head, "is not closed where its value ends")
            opened = None
            continue
        if opened:
            yield _malformed(opened[1], "is not closed")
        opened = None
        if comment["close"] or not comment["colon"] or not comment["end"]:
            yield _malformed(comment, "closes nothing" if closes else "is malformed")
        else:
            opened = (place, comment)
    if opened:
        yield _malformed(opened[1], "is not closed")


def _unquoted(comment: re.Match[str]) -> str:
    """What a comment says, without the signs of the quotation in which its lines stand."""
    begins = comment.string.rfind("\n", 0, comment.start()) + 1
    depth = (re.match(r"[\s>]*", comment.string[begins : comment.start()]) or [""])[0].count(">")
    return re.sub(rf"(?<=[\r\n])(?:[ \t]*>){{0,{depth}}}", "", comment["body"])


def _malformed(found: re.Match[str], what: str) -> Marker:
    head = found[0].splitlines()[0].strip()
    return Marker(
        found["kind"], found.span(), (found.end(), found.end()), head, f"{what}: write {FORMS[found['kind']]}"
    )
