"""Marked documents, and texts of runs in every format."""

import csv
import io
import re
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fa_tracking.markdown import escaped
from fa_tracking.publishing import document, verify
from fa_tracking.publishing.publication import Table
from fa_tracking.publishing.reference import Answers
from fa_tracking.publishing.tables import _csv, _markdown, text_table
from fa_tracking.untrusted import one_line

from . import _database
from ._values import edited, scalars, texts

TITLE = "marked documents, and texts in every format"
WEIGHT = 12

SEEDS = {
    "x.md": b"# T\n\n<!-- fa: cross_seed[experiment=e].n d -->3<!-- /fa --> `code` ``` x ```\n\n"
    b"<!-- fa-table: cross_seed[experiment=e] method,n -->\n| a | b |\n|---|---|\n| 1 | 2 |\n<!-- /fa-table -->\n",
    "x.tex": b"\\newcommand{\\fa}[3]{#3}\n\\fa{cross_seed[experiment=e].n}{d}{3} %c\n\\begin{tabular}{ll}\na & 1 \\\\\n"
    b"\\end{tabular}\\begin{verbatim}x\\end{verbatim}\n",
}
WORDS = [
    b"<!-- fa: ",
    b"-->",
    b"`" * 300,
    b"\\fa{",
    b"| 1 " * 200,
    b"|---" * 300,
    b"\\begin{tabular}",
    b"~~~\n",
    b"&" * 500,
]
WORDS += [b"<!--" * 200, b" " * 2000, b"`a" * 500]

TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "p", "ul", "li", "table", "caption", "thead"}
TAGS |= {"tbody", "tr", "td", "th"}
"""Of a document in HTML."""


def inputs() -> st.SearchStrategy[Any]:
    _database.connection()
    marked = st.sampled_from(sorted(SEEDS)).flatmap(
        lambda name: st.tuples(
            st.just(name), edited(SEEDS[name], WORDS) | texts.map(lambda t: t.encode("utf-8", "replace"))
        )
    )
    return marked | st.tuples(st.just("texts"), st.lists(texts | scalars, min_size=1, max_size=4))


def feed(value: Any, folder: Path) -> None:
    name, content = value
    if name != "texts":
        (folder / name).write_bytes(content)
        verify.verify(folder / name, verify.read(folder / name), Answers(_database.connection(), "e"))
        return
    shown = [one_line(str(part)) for part in content if not isinstance(part, int)] or ["x"]
    assert all(text.isprintable() for text in shown)
    said = [str(part) for part in content if not isinstance(part, int)] or ["x"]
    table = Table(said[0], list(said), [list(said)], [False] * len(said))
    blocks = [document.Heading(said[0], 1), said[-1], document.Items(tuple(said)), table]
    html = document.as_html(blocks)
    assert set(re.findall(r"<(\w+)", html)) <= TAGS
    latex = document.as_latex(blocks)
    assert not re.search(r"\\(input|write|include|immediate|def|href|url)\b", latex.partition("\n")[2])
    for text in (html, latex, document.as_markdown(blocks), text_table(said, [content], 100)[: 10**6]):
        assert text.replace("\n", "").isprintable(), "what cannot be printed is printed"
    written = _markdown(said, [tuple(content)]) if len(said) == len(content) else document.as_markdown(blocks)
    assert "<" not in written
    assert not re.search(r"(?<!\\)\]\(", written), "a link"
    assert "<" not in escaped(said[0])
    for cell in next(
        csv.reader(io.StringIO(_csv(["a"], [(said[0].replace("\r", " ").replace("\0", " "),)]).partition("\n")[2])),
        [""],
    ):
        assert not re.match(r"\s*[=@]", cell)
