"""A document of headings, paragraphs, lists and tables, as Markdown, LaTeX or HTML; every text in it is escaped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fa_tracking import html, markdown
from fa_tracking.publishing.publication import Table, latex_cell, latex_escaped, latex_row
from fa_tracking.untrusted import one_line

_LATEX_HEADINGS = ("section", "subsection", "subsubsection")
_LONG = 36
"""Letters from which on a column of text is broken into lines in LaTeX; a run's id has 32."""


@dataclass(frozen=True)
class Heading:
    """Of level 1 (the document's title), 2 or 3."""

    text: str
    level: int


@dataclass(frozen=True)
class Items:
    """A list."""

    texts: tuple[str, ...]


Block = Heading | Items | Table | str
"""A text is a paragraph."""


def as_markdown(blocks: Sequence[Block]) -> str:
    """CommonMark with the tables that GitHub and Pandoc read."""

    def written(block: Block) -> str:
        match block:
            case Heading(text, level):
                return f"{'#' * level} {markdown.escaped(text)}\n"
            case Items(texts):
                return "".join(f"- {markdown.escaped(text)}\n" for text in texts)
            case Table():
                table = markdown.table(block.headings, block.cells, block.numeric)
                return f"{markdown.escaped(block.caption)}\n\n{table}"
        return f"{markdown.escaped(block)}\n"

    return "\n".join(map(written, blocks))


def as_latex(blocks: Sequence[Block]) -> str:
    """A part of a document, to be taken in with ``\\input``; tables may run over pages."""

    def written(block: Block) -> str:
        match block:
            case Heading(text, level):
                return f"\\{_LATEX_HEADINGS[level - 1]}{{{latex_escaped(text)}}}\n"
            case Items(texts):
                items = "".join(f"  \\item {latex_escaped(text)}\n" for text in texts)
                return f"\\begin{{itemize}}\n{items}\\end{{itemize}}\n"
            case Table():
                return _longtable(block)
        return f"{latex_escaped(block)}\n"

    needs = "% Needs \\usepackage{booktabs,longtable}, and LuaLaTeX or XeLaTeX where names hold letters beyond Latin.\n"
    return "\n".join([needs, *map(written, blocks)])


def as_html(blocks: Sequence[Block]) -> str:
    """A page of its own: no script, no second file."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "")
    return html.render("document.html.j2", title=title, blocks=[(type(block).__name__, block) for block in blocks])


FORMATS: dict[str, Callable[[Sequence[Block]], str]] = {"md": as_markdown, "latex": as_latex, "html": as_html}


def _longtable(table: Table) -> str:
    """For the packages booktabs and longtable."""
    head = [r"    \toprule", latex_row([latex_escaped(heading) for heading in table.headings]), r"    \midrule"]
    cells = [[latex_cell(one_line(c), n) for c, n in zip(row, table.numeric, strict=True)] for row in table.cells]
    lines = [
        r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\begin{{longtable}}{{{_columns(table)}}}",
        rf"  \caption{{{latex_escaped(table.caption)}}}\\",
        *head,
        r"  \endfirsthead",
        *head,
        r"  \endhead",
        *map(latex_row, cells),
        r"    \bottomrule",
        r"\end{longtable}",
        r"\endgroup",
    ]
    return "".join(f"{line}\n" for line in lines)


def _columns(table: Table) -> str:
    """Numbers to the right, texts to the left, and long texts broken into lines."""
    columns = list(zip(*table.cells, strict=True)) or [()] * len(table.headings)
    long = [max(map(len, column), default=0) > _LONG for column in columns]
    broken = rf"p{{{0.7 / max(1, sum(long)):.2f}\linewidth}}"
    return "".join("r" if n else broken if wide else "l" for n, wide in zip(table.numeric, long, strict=True))
