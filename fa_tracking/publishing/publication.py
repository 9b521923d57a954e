"""Publication tables: headings in words, a mean beside its spread, a caption that says n, units and provenance."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fa_tracking import html, markdown
from fa_tracking.errors import UsageError, meant
from fa_tracking.protocol.verdicts import caveats
from fa_tracking.publishing.provenance import digest
from fa_tracking.publishing.reference import Answers, Reference
from fa_tracking.publishing.tables import numeric_columns, render
from fa_tracking.results.database import find_query
from fa_tracking.results.statistics import without_noise
from fa_tracking.spelled import short
from fa_tracking.tracking import names
from fa_tracking.untrusted import one_line

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

FORMATS = ("md", "latex", "csv", "json", "html")
MISSING = "–"
WORDS = {"pp": "(pp)", "sd": "s.d.", "lr": "learning rate", "grad": "gradient"}
IDENTITY = (
    {*names.PARAMS}
    | {"experiment", "cell", "frozen_blocks", "also", "run_id", "layer", "flag", "used", "threshold", "strategy"}
    | {"regime", "measure", "quantity", "contrast", "rule", "control"}
)
"""The columns that say of what a row is; the others say what was found."""
UNITS = {r"_pp(_|$)": "pp: percentage points", r"^(\w+_)?accuracy": "Accuracy is a share in [0, 1]"}
"""What the caption says where a column's name holds a pattern."""

_NUMBER = re.compile(r"[-+0-9.e()± ]*\d[-+0-9.e()± ]*")
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{c: f"\\{c}" for c in "&%$#_{}"},
        **{"‖": r"$\|$", "±": r"$\pm$", "×": r"$\times$", "λ": r"$\lambda$", "Γ": r"$\Gamma$"},
        **{"<": r"\textless{}", ">": r"\textgreater{}", "\N{REPLACEMENT CHARACTER}": "?"},
        **{
            "≥": r"$\geq$",
            "≤": r"$\leq$",
            "−": "$-$",
            "·": r"$\cdot$",
            "–": "--",
            "…": r"\dots{}",
            "†": r"\textdagger{}",
        },
    }
)


@dataclass(frozen=True)
class Table:
    """An answer as texts.

    Attributes:
        numeric: the columns of numbers, which are aligned to the right.
    """

    caption: str
    headings: list[str]
    cells: list[list[str]]
    numeric: list[bool]


def publish(answers: Answers, reference: Reference, form: str, columns: Sequence[str] | None = None) -> str:
    """The rows of a reference as a table in one of ``FORMATS``; CSV and JSON hold them with all their digits.

    Args:
        columns: only these. Without it, columns that say the same in every row stand in the caption.

    Raises:
        UsageError: the reference is wrong, or there is no such column.
    """
    rows = answers.rows(reference)
    _refuse_unknown(reference, rows, columns or ())
    if form in ("csv", "json"):
        return render(rows.project(", ".join(f'"{c}"' for c in columns)) if columns else rows, form)
    table = _table(answers, reference, rows, columns)
    return {"md": _markdown, "latex": _latex, "html": _html}[form](table)


def left_out(rows: "DuckDBPyRelation", columns: Sequence[str]) -> list[str]:
    """Of ``IDENTITY``, the columns not among ``columns`` that alone tell some rows apart."""
    hidden = [c for c in rows.columns if c in IDENTITY and c not in columns]
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for values in rows.fetchall():
        row = dict(zip(rows.columns, values, strict=True))
        alike.setdefault(tuple(row[c] for c in columns if c in IDENTITY), []).append(row)
    return [c for c in hidden if any(len({row[c] for row in group}) > 1 for group in alike.values())]


def markdown_body(answers: Answers, reference: Reference, columns: Sequence[str]) -> str:
    """The columns of the rows of a reference as a Markdown table without a caption.

    Raises:
        UsageError: the reference is wrong, or there is no such column.
    """
    rows = answers.rows(reference)
    _refuse_unknown(reference, rows, columns)
    return markdown.table(*_cells(rows, columns))


def mean_and_sd(mean: float | None, sd: float | None) -> str:
    """A mean beside its standard deviation, which has two significant digits, and the mean as many decimals.

    Without a standard deviation, of one seed, four significant digits of the mean; so where it is rounding alone.
    """
    if mean is None or sd is None:
        return MISSING if mean is None else short(mean)
    sd = without_noise(mean, sd)
    if sd == 0 or not (math.isfinite(mean) and math.isfinite(sd)):
        return f"{short(mean)} ± {short(sd)}"
    size, last = _exponent(max(abs(mean), sd)), _exponent(sd)
    shift = 0 if -4 <= size <= 4 else size
    decimals = 1 - last + shift
    values = (f"{round(v / 10.0**shift, decimals):z.{max(0, decimals)}f}" for v in (mean, sd))
    text = " ± ".join(values)
    return f"({text})e{shift:+03d}" if shift else text


def latex_escaped(text: str) -> str:
    """A text as LaTeX prints it, on one line."""
    return one_line(text).translate(_LATEX)


def _exponent(value: float) -> int:
    """Of the power of ten, once the value is rounded to two digits."""
    return int(f"{value:.1e}".partition("e")[2])


def _refuse_unknown(reference: Reference, rows: "DuckDBPyRelation", columns: Sequence[str]) -> None:
    for column in columns:
        if column not in rows.columns:
            raise UsageError(
                f"{reference.query} has no column {column!r}{meant(column, rows.columns)}; "
                f"there are: {', '.join(rows.columns)}"
            )


def _table(answers: Answers, reference: Reference, rows: "DuckDBPyRelation", columns: Sequence[str] | None) -> Table:
    found = rows.fetchall()
    same = (
        []
        if columns or len(found) < 2
        else [i for i, v in enumerate(zip(*found, strict=True)) if len({*map(short, v)}) == 1]
    )
    headings, cells, numeric = _cells(rows, columns or [c for i, c in enumerate(rows.columns) if i not in same])
    everywhere = [f"{_words(rows.columns[i])} {short(found[0][i]) or MISSING}" for i in same]
    experiment = answers.experiment(reference)
    parts = [
        find_query(reference.query).title,
        _number_behind(rows),
        *(said for pattern, said in UNITS.items() if any(re.search(pattern, c) for c in columns or rows.columns)),
        "±: sample standard deviation over the seeds" if any("±" in cell for row in cells for cell in row) else "",
        *caveats(value for row in found for value in row if isinstance(value, str)),
        f"{MISSING}: not measured" if any(MISSING in row for row in cells) else "",
        f"In every row: {', '.join(everywhere)}" if everywhere else "",
        f"Experiment {experiment or 'all'}, database digest {digest(answers.connection, experiment)}",
    ]
    return Table("".join(f"{part}. " for part in parts if part).rstrip(), headings, cells, numeric)


def _cells(rows: "DuckDBPyRelation", columns: Sequence[str]) -> tuple[list[str], list[list[str]], list[bool]]:
    """Headings, cells, and which columns are numbers. A mean takes its standard deviation into its column."""
    paired = {c: f"{c.removesuffix('_mean')}_sd" for c in columns if c.endswith("_mean")}
    paired = {mean: sd for mean, sd in paired.items() if sd in rows.columns}
    shown = [c for c in columns if c not in paired.values()]
    found = [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]
    cells = [[mean_and_sd(row[c], row[paired[c]]) if c in paired else _cell(row[c]) for c in shown] for row in found]
    headings = [_words(c.removesuffix("_mean") if c in paired else c) for c in shown]
    return headings, cells, numeric_columns(shown, [[row[c] for c in shown] for row in found])


def _cell(value: Any) -> str:
    text = MISSING if value is None else short(value)
    return text[:8] if _RUN_ID.fullmatch(text) else text


def _words(column: str) -> str:
    return " ".join(WORDS.get(word, word) for word in column.split("_"))


def _number_behind(rows: "DuckDBPyRelation") -> str:
    if "n" in rows.columns and len(rows):
        low, high = rows.aggregate("min(n), max(n)").fetchall()[0]
        return f"n = {low}" if low == high else f"n = {low} to {high}"
    if "run_id" in rows.columns:
        return f"{rows.aggregate('count(distinct run_id)').fetchall()[0][0]} runs"
    return f"{len(rows)} rows"


def _markdown(table: Table) -> str:
    """With the caption as Pandoc reads it."""
    return f"{markdown.table(table.headings, table.cells, table.numeric)}\nTable: {markdown.escaped(table.caption)}\n"


def _latex(table: Table) -> str:
    """For the package booktabs."""
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{latex_escaped(table.caption)}}}",
        rf"  \begin{{tabular}}{{{''.join('r' if number else 'l' for number in table.numeric)}}}",
        r"    \toprule",
        latex_row([latex_escaped(heading) for heading in table.headings]),
        r"    \midrule",
        *(latex_row([latex_cell(c, n) for c, n in zip(row, table.numeric, strict=True)]) for row in table.cells),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "".join(f"{line}\n" for line in lines)


def latex_row(cells: list[str]) -> str:
    """Cells that are LaTeX already, as a row of a table."""
    guard = "{}" if cells[0].startswith(("[", "*")) else ""  # else an argument of the \\ of the row above
    return f"    {guard}{' & '.join(cells)} \\\\"


def latex_cell(cell: str, numeric: bool) -> str:
    """A cell as LaTeX prints it, a number in mathematics."""
    if not numeric or not _NUMBER.fullmatch(cell):
        return latex_escaped(cell)
    power = re.sub(r"e([-+]\d+)$", lambda m: rf" \times 10^{{{int(m[1])}}}", cell)
    return f"${power.replace('±', chr(92) + 'pm')}$"


def _html(table: Table) -> str:
    return html.render("table.html.j2", table=table)
