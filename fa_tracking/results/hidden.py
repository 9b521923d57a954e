"""Finds what of a document is code, verbatim or a comment, in which no marker is read.

Markdown is parsed as CommonMark with the tables of GitHub, LaTeX split into its tokens: what looks like code to a
search for ticks, or like a comment to one for per cent signs, need not be.
"""

import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.token import Token

Span = tuple[int, int]
OTHER = "\x00"
"""Stands for what is no text and no comment asked for."""
NESTED = 100
"""Levels of lists and quotations that are read."""


@dataclass
class Page:
    """What a Markdown document is made of.

    Attributes:
        shown: the places, among those asked for, of the comments that the parser takes for such.
        values: pairs of them, one after the other in one paragraph or cell, with nothing but plain text between.
        tables: pairs of them on one level, with nothing but a table, or the rows of one, between.
        rows: of each table's row its line, and for each cell its text without code, in pieces: a number is the place
            of a comment among those asked for.
    """

    shown: set[int] = field(default_factory=set)
    values: set[tuple[int, int]] = field(default_factory=set)
    tables: set[tuple[int, int]] = field(default_factory=set)
    rows: list[tuple[int, list[list[str | int]]]] = field(default_factory=list)


def markdown(text: str, comments: Sequence[Span]) -> Page:
    """Parse a document, and find the ``comments`` in it, which are given by where they begin and end in the text.

    The parser does not say where a comment stands that it has found. So each of them gets a number here, in a copy that
    has the same lines.
    """
    from markdown_it import MarkdownIt

    tag = secrets.token_hex(4)
    numbered = re.compile(rf"<!--fa{tag}\.(\d+)\.")
    pieces, done = [], 0
    for place, (begins, ends) in enumerate(comments):
        said, closing = (
            (text[begins:ends].removesuffix("-->"), "-->")
            if text[begins:ends].endswith("-->")
            else (text[begins:ends], "")
        )
        rest = re.sub(r"[^\s>`]", "x", said.removeprefix("<!--"))  # its lines, marks of quotations and ticks stay
        pieces += [text[done:begins], f"<!--fa{tag}.{place}.{rest}{closing}"]
        done = ends
    copied = "".join([*pieces, text[done:]]).replace("\ufeff", "")
    parsed = MarkdownIt("commonmark", {"maxNesting": NESTED}).enable("table").parse(copied)
    page = Page()
    cells: list[list[str | int]] | None = None
    last: tuple[int, int] | None = None  # the comment before, and the token that holds it
    for at, token in enumerate(parsed):
        for place in map(int, numbered.findall(token.content) if token.type in ("html_block", "inline") else ()):
            if last and place == last[0] + 1 and _is_table(parsed, last[1], at):
                page.tables.add((last[0], place))
            last = (place, at)
        if token.type == "tr_open":
            cells = []
            page.rows.append(((token.map or [0])[0] + 1, cells))
        elif token.type == "tr_close":
            cells = None
        elif token.type == "thead_close":  # headings are no numbers
            page.rows.pop()
        elif token.type == "html_block":
            page.shown.update(map(int, numbered.findall(token.content)))
            for found in re.finditer(
                rf"<!--fa{tag}\.(\d+)\.[^<]*?-->[^<>\r\n]*(?=<!--fa{tag}\.(\d+)\.)", token.content
            ):
                page.values.add((int(found[1]), int(found[2])))
        elif token.type == "inline":
            pieces_of = list(_pieces(token.children or [], numbered))
            page.shown.update(piece for piece in pieces_of if isinstance(piece, int))
            page.values |= set(_values(pieces_of))
            if cells is not None:
                cells.append(pieces_of)
    return page


def _pieces(children: "list[Token]", numbered: re.Pattern[str]) -> Iterator[str | int]:
    """The texts of a paragraph or cell, and the places of the comments between them; code is none."""
    for child in children:
        if child.type == "html_inline":
            found = [int(place) for place in numbered.findall(child.content)]
            yield from found or (OTHER,)
        elif child.type == "image":
            yield OTHER
            yield from _pieces(child.children or [], numbered)
        elif child.type in ("text", "text_special"):
            yield child.content
        elif child.type == "softbreak":
            yield " "
        else:  # code, emphasis, a link, a line's end
            yield OTHER


def _values(pieces: "list[str | int]") -> Iterator[tuple[int, int]]:
    """The comments that follow one another with plain text between."""
    before: int | None = None
    for piece in pieces:
        if isinstance(piece, int):
            if before is not None:
                yield before, piece
            before = piece
        elif piece == OTHER:
            before = None


def _is_table(tokens: "list[Token]", first: int, last: int) -> bool:
    """Whether nothing but a table stands between two tokens of one level, or lines of cells that are no table yet."""
    if first == last or tokens[first].level != tokens[last].level:
        return False
    between = tokens[first + 1 : last]
    if not between:
        return True
    if between[0].type == "table_open":
        return [t.type for t in between].index("table_close") == len(between) - 1
    lines = between[1].content.splitlines() if len(between) == 3 and between[0].type == "paragraph_open" else [""]
    return all(line.strip().startswith("|") for line in lines)


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
_ADDRESSES = frozenset(("url", "path", "nolinkurl", "href", "doi", "lstset"))
_INLINE = frozenset(("verb", "verb*", "lstinline", "mintinline", "Verb", "SaveVerb"))
_AFTER_ONE = frozenset(("mintinline", "SaveVerb"))
"""Those that take another argument, in braces, before."""


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
            ends = _delimited(text, token.pos + 1 + len(token.arg), False)
        elif token.tok == "macro" and token.arg in _INLINE:
            ends = _delimited(text, token.pos + 1 + len(token.arg), token.arg in _AFTER_ONE)
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


def _delimited(text: str, at: int, after_one: bool) -> int | None:
    """The end of what stands between two equal letters, or braces, after options; None where there is none."""
    at = _after_blanks(text, at + (text[at : at + 1] == "*"))
    if text[at : at + 1] == "[":
        at = _after_blanks(text, text.find("]", at) + 1 or len(text))
    if after_one:
        at = _after_blanks(text, _braced(text, at) or at)
    if text[at : at + 1] == "{":
        return _braced(text, at)
    close = text.find(text[at], at + 1) if at < len(text) else -1
    return close + 1 if close >= 0 else None


def _after_blanks(text: str, at: int) -> int:
    while text[at : at + 1].isspace():
        at += 1
    return at
