"""Numbers in documents that say where they come from: found, compared with the database, brought up to date.

Markdown: ``<!-- fa: REFERENCE FORMAT -->0.368<!-- /fa -->``, which also stands in a table's cell, and around a table
``<!-- fa-table: QUERY[SELECTION] COLUMN,COLUMN -->`` and ``<!-- /fa-table -->``. LaTeX:
``\\fa{REFERENCE}{FORMAT}{0.368}`` with ``\\newcommand{\\fa}[3]{#3}``. What stands in code, verbatim or a comment of
LaTeX is no marker (``fa_tracking/publishing/hidden.py``), but counted.
"""

from dataclasses import dataclass

from fa_tracking import markdown
from fa_tracking.publishing.provenance import Cited

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


def marker(cited: Cited, form: str) -> str:
    """The Markdown marker of a cited value."""
    return f"<!-- fa: {' '.join(filter(None, (cited.reference, form)))} -->{markdown.escaped(cited.text)}<!-- /fa -->"


def line_of(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


Rows = list[tuple[int, list[str]]]
"""The rows of tables, without what is marked or code: their lines, and the texts of their cells."""
