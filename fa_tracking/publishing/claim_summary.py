"""The evidence for claims as Markdown."""

import re
from collections import Counter
from collections.abc import Sequence

from fa_tracking import markdown
from fa_tracking.publishing.claims import HOLDS, MIXED, NO_EVIDENCE, WALKED_BACK, Checked
from fa_tracking.publishing.tables import numeric_columns
from fa_tracking.spelled import short


def summary(title: str, checked: Sequence[Checked]) -> str:
    """The evidence as Markdown: every claim with its verdict, then what the rows say."""
    verdicts = Counter(c.verdict for c in checked)
    counts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in (HOLDS, MIXED, WALKED_BACK, NO_EVIDENCE))
    cells = [
        [
            str(i),
            markdown.escaped(c.claim.sentence),
            c.verdict,
            c.counted,
            markdown.escaped(c.last_held.date) if c.last_held else "no record",
        ]
        for i, c in enumerate(checked, 1)
    ]
    columns = ["", "claim", "verdict", "rows", "last held"]
    table = markdown.table(columns, cells, [True, False, False, False, False], is_markdown=True)
    evidence = "\n".join(_evidence(i, c) for i, c in enumerate(checked, 1))
    return f"# {markdown.escaped(title)}\n\nOf {len(checked)} claims: {counts}.\n\n{table}\n{evidence}"


def _evidence(number: int, checked: Checked) -> str:
    claim = checked.claim
    runs = (
        "not given by the query"
        if checked.runs is None
        else markdown.escaped(", ".join(run[:8] for run in checked.runs)) or "none"
    )
    query = "SQL of the file of claims" if claim.is_sql else f"query {_code(claim.query)}"
    experiment = claim.experiment if "$experiment" in claim.sql else "all experiments"
    said = markdown.escaped(checked.note) if checked.note else f"{_code(claim.holds)} is {checked.counted}"
    lines = [
        f"## {number}. {markdown.escaped(claim.sentence)}",
        f"{checked.verdict.capitalize()}: {said}, where {_code(claim.where)}.",
        f"From the {query}, {markdown.escaped(str(experiment))}, database digest {checked.digest}. Runs: {runs}.",
    ]
    if claim.show and checked.rows:
        cells = [["–" if value is None else short(value) for value in row] for row in checked.rows]
        right = numeric_columns(checked.columns, checked.rows)
        lines.append(markdown.table(checked.columns, cells, right).rstrip())
    return "\n\n".join(lines) + "\n"


def _code(sql: str) -> str:
    """SQL on one line, as code: between more ticks than it holds one after the other."""
    said = " ".join(sql.split())
    ticks = "`" * (1 + max(map(len, re.findall("`+", said)), default=0))
    blank = " " if said[:1] == "`" or said[-1:] == "`" else ""
    return f"{ticks}{blank}{said}{blank}{ticks}"
