"""Finds what of a document is code, verbatim or a comment, in which no marker is read.

Markdown is parsed as CommonMark with the tables of GitHub, LaTeX split into its tokens: what looks like code to a
search for ticks, or like a comment to one for per cent signs, need not be.
"""

import re
import secrets
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
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
        tables: pairs of them on one level, each alone on its lines, with nothing but a table between.
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
    lines = [line.span() for line in _LINE.finditer(text)]
    cells: list[list[str | int]] | None = None
    last: tuple[int, int] | None = None  # the comment before, and the token that holds it
    for at, token in enumerate(parsed):
        for place in map(int, numbered.findall(token.content) if token.type in ("html_block", "inline") else ()):
            if (
                last
                and place == last[0] + 1
                and _is_table(parsed, last[1], at)
                and _are_rows(text, lines, comments[last[0]], comments[place], parsed[last[1] + 1])
            ):
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
            page.values |= set(_values(_pieces_of_html(token.content, numbered)))
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
            yield from _pieces_of_html(child.content, numbered)
        elif child.type == "image":
            yield OTHER
            yield from _pieces(child.children or [], numbered)
            yield OTHER
        elif child.type in ("text", "text_special"):
            yield child.content
        elif child.type == "softbreak":
            yield " "
        else:  # code, emphasis, a link, a line's end
            yield OTHER


def _values(pieces: "list[str | int]") -> Iterator[tuple[int, int]]:
    """The comments that follow one another with plain text, or nothing, between."""
    before: int | None = None
    for piece in pieces:
        if isinstance(piece, int):
            if before is not None:
                yield before, piece
            before = piece
        elif piece == OTHER:
            before = None


def _pieces_of_html(html: str, numbered: re.Pattern[str]) -> list[str | int]:
    """The same of HTML: what stands in a tag is no text, and a comment in one is none that holds a value."""
    told: list[str | int] = []

    class Reader(HTMLParser):
        def handle_comment(self, data: str) -> None:
            found = numbered.match(f"<!--{data}")
            told.append(int(found[1]) if found else OTHER)

        def handle_data(self, data: str) -> None:
            if re.search(r"[<>\r\n]", data):
                other(data)
            else:
                told.append(data)

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            other(self.get_starttag_text() or "")

        def handle_entityref(self, name: str) -> None:
            told.append(" ")

        def handle_endtag(self, tag: str) -> None:
            other(tag)

        handle_charref = handle_entityref

        def handle_decl(self, decl: str) -> None:
            other(decl)

        def handle_pi(self, data: str) -> None:
            other(data)

        unknown_decl = handle_pi

    def other(html: str) -> None:
        told.append(OTHER)
        for place in numbered.findall(html):
            told.extend((int(place), OTHER))

    reader = Reader(convert_charrefs=False)
    try:
        reader.feed(html)
    except AssertionError:  # Python's parser gives up on a declaration of no known kind
        told.clear()
    if reader.rawdata:  # what is not closed
        other(reader.rawdata)
    return told


def _is_table(tokens: "list[Token]", first: int, last: int) -> bool:
    """Whether nothing, or nothing but a table, stands between two tokens of one level."""
    if first == last or tokens[first].level != tokens[last].level:
        return False
    between = [token.type for token in tokens[first + 1 : last]]
    return not between or (between[0] == "table_open" and between.index("table_close") == len(between) - 1)


_BEFORE = re.compile(r"(?:[\s>]|[-+*](?=\s)|\d{1,9}[.)](?=\s))*")
"""What a line of a quotation or list item begins with."""
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")


def _are_rows(text: str, lines: Sequence[Span], opening: Span, closing: Span, table: "Token") -> bool:
    """Whether two comments stand alone on their lines, and those between are blank or the rows of one table.

    A parser takes a line below a table for a row of it, whatever it says: rows begin and end with a bar here.

    Args:
        lines: where those of the text begin and end.
        table: what the parser has found behind the first comment.
    """
    at = [bisect_right(lines, (place, len(text))) - 1 for place in (opening[0], opening[1], closing[0], closing[1])]
    before = (text[lines[at[0]][0] : opening[0]], text[lines[at[2]][0] : closing[0]])
    after = (text[opening[1] : lines[at[1]][1]], text[closing[1] : lines[at[3]][1]])
    if not all(map(_BEFORE.fullmatch, before)) or any(part.strip() for part in after):
        return False
    rows = {
        line: row
        for line in range(at[1] + 1, at[2])
        if (row := re.sub(r"^[\s>]+", "", text[slice(*lines[line])]).rstrip())
    }
    if not rows or table.type != "table_open":
        return not rows
    is_whole = table.map == [min(rows), max(rows) + 1]
    return is_whole and all(re.fullmatch(r"\|.*(?<!\\)\|", row) for row in rows.values())


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
