"""Finds the markers of a LaTeX document, and the rows of its tables."""

import re
from collections.abc import Iterator, Sequence

from fa_tracking.publishing import hidden
from fa_tracking.publishing.markers import FORMS, Marker, Rows


def in_latex(text: str) -> tuple[list[Marker], list[int], Rows]:
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


_TABULAR = re.compile(r"\\begin\{(tabular[x*]?|longtable|array)\}(.*?)(?:\\end\{\1\}|\Z)", re.S)
_LAYOUT = re.compile(r"\\(?:cmidrule|cline|multicolumn|multirow|addlinespace|vspace)(?:[\[({][^\])}]{0,200}[\])}])*")


def _latex_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    line, before = 1, 0
    for table in _TABULAR.finditer(text):
        at = table.start(2)
        for row in _LAYOUT.sub(lambda command: " " * len(command[0]), table[2]).split(r"\\"):
            begins = at + len(row) - len(row.lstrip())
            line, before = line + text.count("\n", before, begins), begins
            yield line, row.split("&")
            at += len(row) + 2
