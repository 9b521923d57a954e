"""Finds what of a document is code, verbatim or a comment, in which no marker is read.

Markdown is parsed as CommonMark with the tables of GitHub, LaTeX split into its tokens: what looks like code to a
search for ticks, or like a comment to one for per cent signs, need not be.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.token import Token

Span = tuple[int, int]


@dataclass
class Page:
    """What a Markdown document is made of.

    Attributes:
        shown: the places, among those asked for, of the comments that the parser takes for such.
        rows: of each table's row its line, and for each cell its text without code, in pieces: a number is the place
            of a comment among those asked for.
    """

    shown: set[int] = field(default_factory=set)
    rows: list[tuple[int, list[list[str | int]]]] = field(default_factory=list)


def markdown(text: str, comments: Sequence[Span]) -> Page:
    """Parse a document, and find the ``comments`` in it, which are given by where they begin and end in the text.

    The parser does not say where a comment stands that it has found. So each of them gets a number here, in a copy that
    has the same lines.
    """
    from markdown_it import MarkdownIt

    pieces, done = [], 0
    for place, (begins, ends) in enumerate(comments):
        said = text[begins:ends]
        closing = "-->" if said.endswith("-->") else ""
        pieces += [text[done:begins], f"<!--fa{place}." + "\n" * said.count("\n") + closing]
        done = ends
    parsed = MarkdownIt("commonmark").enable("table").parse("".join([*pieces, text[done:]]))
    page = Page()
    cells: list[list[str | int]] | None = None
    for token in parsed:
        if token.type == "tr_open":
            cells = []
            page.rows.append(((token.map or [0])[0] + 1, cells))
        elif token.type == "tr_close":
            cells = None
        elif token.type == "thead_close":  # headings are no numbers
            page.rows.pop()
        elif token.type == "html_block":
            page.shown.update(map(int, _NUMBERED.findall(token.content)))
        elif token.type == "inline":
            pieces_of = list(_pieces(token.children or []))
            page.shown.update(piece for piece in pieces_of if isinstance(piece, int))
            if cells is not None:
                cells.append(pieces_of)
    return page


_NUMBERED = re.compile(r"<!--fa(\d+)\.")


def _pieces(children: "list[Token]") -> Iterator[str | int]:
    """The texts of a paragraph or cell, and the places of the comments between them; code is none."""
    for child in children:
        if child.type == "html_inline":
            yield from map(int, _NUMBERED.findall(child.content))
        elif child.type == "image":
            yield from _pieces(child.children or [])
        elif child.type in ("text", "text_special"):
            yield child.content
        elif child.type in ("softbreak", "hardbreak", "code_inline"):
            yield " "


_NEXT = re.compile(r"[\\%]")
_VERBATIM = frozenset(
    [
        "verbatim",
        "verbatim*",
        "Verbatim",
        "Verbatim*",
        "BVerbatim",
        "LVerbatim",
        "lstlisting",
        "minted",
        "comment",
        "filecontents",
        "filecontents*",
        "luacode",
        "luacode*",
    ]
)
_ADDRESSES = frozenset(("url", "path", "nolinkurl", "href"))
_INLINE = frozenset(("verb", "verb*", "lstinline", "mintinline", "Verb"))


def latex(text: str) -> list[Span]:
    """Where comments, verbatim text and addresses stand, in whose arguments a per cent sign begins no comment."""
    from pylatexenc.latexwalker import LatexWalker, LatexWalkerEndOfStream

    walker = LatexWalker(text, tolerant_parsing=True)
    spans: list[Span] = []
    at = 0
    while found := _NEXT.search(text, at):
        try:
            token = walker.get_token(found.start(), environments=True)
        except LatexWalkerEndOfStream:
            break
        at, ends = token.pos + max(1, token.len), None
        if token.tok == "comment":
            ends = at
        elif token.tok == "begin_environment" and token.arg in _VERBATIM:
            close = text.find(f"\\end{{{token.arg}}}", at)
            ends = len(text) if close < 0 else close
        elif token.tok == "macro" and token.arg in _ADDRESSES:
            ends = _braced(text, token.pos + 1 + len(token.arg))
        elif token.tok == "macro" and token.arg in _INLINE:
            ends = _delimited(text, token.pos + 1 + len(token.arg), languages=token.arg == "mintinline")
        if ends is not None:
            spans.append((token.pos, ends))
            at = max(at, ends)
    return spans


def _braced(text: str, at: int) -> int | None:
    """The end of an argument in braces, in which only braces count; None where there is none."""
    at = _after_blanks(text, at)
    if text[at : at + 1] != "{":
        return None
    depth = 0
    for brace in re.finditer(r"\\.|[{}]", text[at:], re.S):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if not depth:
            return at + brace.end()
    return len(text)


def _delimited(text: str, at: int, languages: bool) -> int | None:
    """The end of what stands between two equal letters, or braces, after options; None where there is none."""
    at = _after_blanks(text, at + (text[at : at + 1] == "*"))
    if text[at : at + 1] == "[":
        at = _after_blanks(text, text.find("]", at) + 1 or len(text))
    if languages:
        at = _after_blanks(text, _braced(text, at) or at)
    if text[at : at + 1] == "{":
        return _braced(text, at)
    close = text.find(text[at], at + 1) if at < len(text) else -1
    return close + 1 if close >= 0 else None


def _after_blanks(text: str, at: int) -> int:
    while text[at : at + 1].isspace():
        at += 1
    return at
