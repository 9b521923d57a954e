"""Numbers in documents that say where they come from: found, compared with the database, brought up to date.

Markdown: ``<!-- fa: REFERENCE FORMAT -->0.368<!-- /fa -->``, which also stands in a table's cell, and around a table
``<!-- fa-table: QUERY[SELECTION] COLUMN,COLUMN -->`` and ``<!-- /fa-table -->``. LaTeX:
``\\fa{REFERENCE}{FORMAT}{0.368}`` with ``\\newcommand{\\fa}[3]{#3}``. What stands in code, verbatim or a comment of
LaTeX is no marker (``fa_tracking/results/hidden.py``), but counted.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fa_tracking import markdown
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.publishing import hidden
from fa_tracking.publishing.provenance import Cited
from fa_tracking.publishing.publication import latex_escaped, markdown_body
from fa_tracking.publishing.reference import Answers, parse, spell

MARKDOWN = (".md", ".markdown")
LATEX = (".tex",)
FORMS = {
    "fa": "<!-- fa: QUERY[key=value].COLUMN FORMAT -->0.1<!-- /fa -->",
    "fa-table": "<!-- fa-table: QUERY[key=value] COLUMN,COLUMN --> … <!-- /fa-table -->",
    "latex": r"\fa{QUERY[key=value].COLUMN}{FORMAT}{0.1}, a per cent sign as \%",
}


@dataclass(frozen=True)
class Marker:
    """A marked value of a document.

    Attributes:
        whole: where the marker begins and ends in the text.
        value: where its value does.
        body: the reference, then a format, or a table's columns.
        problem: why it is no marker; None where it is one.
    """

    kind: str
    whole: tuple[int, int]
    value: tuple[int, int]
    body: str
    problem: str | None = None


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


def marker(cited: Cited, form: str) -> str:
    """The Markdown marker of a cited value."""
    return f"<!-- fa: {' '.join(filter(None, (cited.reference, form)))} -->{markdown.escaped(cited.text)}<!-- /fa -->"


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
    found, left_out, rows = (_in_latex if is_latex else _in_markdown)(text)
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
        findings.append(Finding(path, _line(text, begins), each.body, *shown, problem))
        fresh += [text[done:start], old if new is None else new, text[end:ends]]
        done = max(done, ends)  # a malformed macro may stand within another one
    unmarked = [(line, numbers) for line, cells in rows if (numbers := _numbers(cells[1:]))] if found else []
    return Verified(findings, unmarked, "".join([*fresh, text[done:]]), [_line(text, at) for at in left_out])


def _indented(text: str, at: int) -> str:
    """What the lines of a quotation or list item begin with, by the line in which a marker begins."""
    begins = text.rfind("\n", 0, at) + 1
    return re.sub(r"[^\s>]", " ", text[begins:at])


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


Rows = list[tuple[int, list[str]]]
"""The rows of tables, without what is marked or code: their lines, and the texts of their cells."""


def _in_markdown(text: str) -> tuple[list[Marker], list[int], Rows]:
    """The markers, where those begin that are left out, and the rows of tables."""
    comments = list(_COMMENT.finditer(text))
    page = hidden.markdown(text, [comment.span() for comment in comments])
    shown = [(place, comment) for place, comment in enumerate(comments) if place in page.shown]
    found = list(_markdown_markers(shown, page))
    left_out = [c.start() for place, c in enumerate(comments) if place not in page.shown and not c["close"]]
    tables = [(_line(text, m.whole[0]), _line(text, m.whole[1])) for m in found if m.kind == "fa-table"]
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


def _in_latex(text: str) -> tuple[list[Marker], list[int], Rows]:
    """The same of LaTeX."""
    spans = hidden.latex(text)
    plain = _blanked(text, spans)
    found = list(_latex_markers(plain, text))
    left_out = [
        macro.start()
        for begins, ends in spans
        for macro in _MACRO.finditer(text, begins, ends)
        if re.match(r"\s*\{", text[macro.end() : ends])
    ]
    rows = list(_latex_rows(_blanked(plain, [marker.whole for marker in found])))
    return found, left_out, rows


def _blanked(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text with spaces in the place of ``spans``."""
    pieces, done = [], 0
    for begins, ends in spans:
        pieces += [text[done:begins], re.sub(r"[^\n]", " ", text[max(done, begins) : ends])]
        done = max(done, ends)
    return "".join([*pieces, text[done:]])


def _recomputed(marker: Marker, answers: Answers, latex: bool) -> tuple[str | None, str | None]:
    """The value of a marker, or why it has none."""
    reference, _, rest = _split(marker.body)
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


def _split(body: str) -> tuple[str, str, str]:
    """Reference and format; only a selection may hold spaces."""
    end = body.find("]") + 1
    reference, space, rest = body[end:].partition(" ")
    return body[:end] + reference, space, rest.strip()


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


_MACRO = re.compile(r"\\fa(?![A-Za-z@])")
_DEFINITION = re.compile(
    r"(?<!\\)(?:\\\\)*\\(?:(?:re)?newcommand|providecommand|[egx]?def|(?:New|Renew|Provide|Declare)(?:Expandable)?"
    r"DocumentCommand|DeclareRobustCommand|(?:re)?newrobustcmd|providerobustcmd|let|undef|if(?:un)?defined|ifn?(?:un)?def"
    r"|ifcsname|string|meaning|show)\s*\*?\s*\{?\s*$"
)
_PRINTED = re.compile(r"\\(?:string|meaning|detokenize\s*\{)\s*$")
"""Before a macro that is printed by its name, and does nothing."""
_OURS = r"text(?:backslash|asciitilde|asciicircum|less|greater)|pm|times|lambda|Gamma|[lg]eq|cdot|dots"
_NO_VALUE = re.compile(rf"[\r\n][ \t]*\r?\n|\r[ \t]*\r|(?<!\\)[%&]|\\(?!(?:{_OURS})(?![a-zA-Z])|[&%$#_{{}}|,;:! ])")
"""A paragraph's end, a comment, a cell's or line's end, or a command that writes no value: a value has none."""
_ARGUMENTS = re.compile(r"\s*\{([^{}]*)\}\s*\{([^{}]*)\}\s*\{((?:\\[{}]|\{\}|[^{}])*)\}")


def _latex_markers(text: str, whole: str) -> Iterator[Marker]:
    """The macros of a text without comments and verbatim; ``whole`` has these."""
    for macro in _MACRO.finditer(text):
        defined = _DEFINITION.search(text, max(0, macro.start() - 40), macro.start())
        if defined and not _PRINTED.search(text, max(0, defined.start() - 20), defined.start()):
            continue
        found = _ARGUMENTS.match(text, macro.end())
        if found and not _NO_VALUE.search(whole[found.start(3) : found.end(3)]):
            body = " ".join(f"{found[1]} {found[2]}".replace("\\", "").split())
            yield Marker("latex", (macro.start(), found.end()), found.span(3), body)
        else:
            nothing = (macro.end(), macro.end())
            yield Marker("latex", macro.span(), nothing, macro[0], f"is malformed: write {FORMS['latex']}")


_NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?!\w)")
_TABULAR = re.compile(r"\\begin\{(tabular[x*]?|longtable|array)\}(.*?)(?:\\end\{\1\}|\Z)", re.S)
_LAYOUT = re.compile(r"\\(?:cmidrule|cline|multicolumn|multirow|addlinespace|vspace)(?:[\[({][^\])}]{0,200}[\])}])*")


def _numbers(cells: Sequence[str]) -> list[str]:
    return [number for cell in cells for number in _NUMBER.findall(cell)]


def _latex_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    line, before = 1, 0
    for table in _TABULAR.finditer(text):
        at = table.start(2)
        for row in _LAYOUT.sub(lambda command: " " * len(command[0]), table[2]).split(r"\\"):
            begins = at + len(row) - len(row.lstrip())
            line, before = line + text.count("\n", before, begins), begins
            yield line, row.split("&")
            at += len(row) + 2


def _first_difference(old: str, new: str) -> tuple[str, str]:
    """The first lines of two tables that differ; nothing where none does."""
    before, after = old.strip().splitlines(), new.strip().splitlines()
    for i in range(max(len(before), len(after))):
        pair = ("".join(before[i : i + 1]), "".join(after[i : i + 1]))
        if pair[0] != pair[1]:
            return pair
    return "", ""
