"""Compares the marked values of a document with the database, and brings them up to date."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fa_tracking import markdown
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.publishing.markers import LATEX, MARKDOWN, Marker, line_of
from fa_tracking.publishing.markers_latex import in_latex
from fa_tracking.publishing.markers_markdown import in_markdown
from fa_tracking.publishing.publication import latex_escaped, markdown_body
from fa_tracking.publishing.reference import Answers, parse, spell


@dataclass(frozen=True)
class Finding:
    """What the database says of one marker.

    Attributes:
        old, new: the value in the document and that of the database, or the first line of a table that differs.
        problem: why there is no new value; None where there is one.
    """

    path: Path
    line: int
    reference: str
    old: str
    new: str
    problem: str | None

    @property
    def stale(self) -> bool:
        return self.problem is None and self.old != self.new


@dataclass(frozen=True)
class Verified:
    """A document held against the database.

    Attributes:
        text: the document with the database's values.
        left_out: lines of the markers that stand in code, verbatim or a comment of LaTeX: they are not verified.
        unmarked: lines of tables with numbers that have no marker, where the document has any marker; the first
            column, which labels the rows, is not looked at.
    """

    findings: list[Finding]
    unmarked: list[tuple[int, list[str]]]
    text: str
    left_out: list[int]


def read(path: Path) -> str:
    """The text of a document, its line ends as they are.

    Raises:
        UsageError: it is neither Markdown nor LaTeX, or no UTF-8.
    """
    if path.suffix.lower() not in (*MARKDOWN, *LATEX):
        raise UsageError(f"{path} is neither Markdown ({', '.join(MARKDOWN)}) nor LaTeX ({', '.join(LATEX)})")
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}") from None


def verify(path: Path, text: str, answers: Answers) -> Verified:
    """Recompute every marked value of a document."""
    is_latex = path.suffix.lower() in LATEX
    found, left_out, rows = (in_latex if is_latex else in_markdown)(text)
    findings: list[Finding] = []
    fresh = []
    done = 0
    for each in found:
        (begins, ends), (start, end) = each.whole, each.value
        old = text[start:end]
        new, problem = (None, each.problem) if each.problem else _recomputed(each, answers, is_latex)
        if new is not None and each.kind == "fa-table":
            new = new.replace("\n", "\n" + _indented(text, begins))
        if new is not None and "\r\n" in text:
            new = new.replace("\n", "\r\n")
        shown = _first_difference(old, new) if each.kind == "fa-table" and new is not None else (old, new or "")
        findings.append(Finding(path, line_of(text, begins), each.body, *shown, problem))
        fresh += [text[done:start], old if new is None else new, text[end:ends]]
        done = max(done, ends)  # a malformed macro may stand within another one
    unmarked = [(line, numbers) for line, cells in rows if (numbers := _numbers(cells[1:]))] if found else []
    return Verified(findings, unmarked, "".join([*fresh, text[done:]]), [line_of(text, at) for at in left_out])


def _indented(text: str, at: int) -> str:
    """What the lines of a quotation or list item begin with, by the line in which a marker begins."""
    begins = text.rfind("\n", 0, at) + 1
    return re.sub(r"[^\s>]", " ", text[begins:at])


def _recomputed(marker: Marker, answers: Answers, latex: bool) -> tuple[str | None, str | None]:
    """The value of a marker, or why it has none."""
    reference, rest = _split(marker.body)
    try:
        if marker.kind == "fa-table":
            if not rest:
                raise UsageError("a table's marker names its columns, such as method,n,accuracy_mean")
            answers.selected(parse(reference))
            return f"\n{markdown_body(answers, parse(reference), rest.replace(' ', '').split(','))}", None
        text = spell(answers.find(parse(reference)).value, rest)
        return latex_escaped(text) if latex else markdown.escaped(text), None
    except FATrackError as error:
        return None, str(error)


def _split(body: str) -> tuple[str, str]:
    """Reference and format; only a selection may hold spaces."""
    end = body.find("]") + 1
    reference, _, rest = body[end:].partition(" ")
    return body[:end] + reference, rest.strip()


_NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?!\w)")


def _numbers(cells: Sequence[str]) -> list[str]:
    return [number for cell in cells for number in _NUMBER.findall(cell)]


def _first_difference(old: str, new: str) -> tuple[str, str]:
    """The first lines of two tables that differ; nothing where none does."""
    before, after = old.strip().splitlines(), new.strip().splitlines()
    for i in range(max(len(before), len(after))):
        pair = ("".join(before[i : i + 1]), "".join(after[i : i + 1]))
        if pair[0] != pair[1]:
            return pair
    return "", ""
