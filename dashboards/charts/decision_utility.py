"""Decision utility as a matrix: what each reporting strategy says of each method."""

from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.dashboards import theme

TITLE = "Decision utility: which methods each reporting strategy walks back"
QUERY = "decision_matrix"
ORDER = 10

CELL_WIDTH = 66

DECISIONS = {"walked back": "W", "kept": "K", "MIXED": "M", "not measured": "–"}
COLOURS = ["#D55E00", "#0072B2", "#E69F00", "#EEEEEE"]


def draw(rows: pd.DataFrame) -> Any:
    """A row a cell, a column a strategy; letters say what colours say, and MIXED how many runs are walked back."""
    rows = rows.assign(
        cell=theme.cell_labels(rows),
        added=rows["strategy"].str.removeprefix("accuracy ").str.strip(),
        mark=[_mark(r) for r in rows.to_dict("records")],
    )
    kept = [
        "cell",
        "method",
        "architecture",
        "width",
        "strategy",
        "added",
        "decision",
        "mark",
        "n",
        "n_measured",
        "n_walked_back",
    ]
    strategies = [*rows.sort_values("place")["added"].unique()]
    cells = [*rows["cell"].unique()]
    step = min(24, max(16, 420 // len(cells)))
    grid = alt.Chart(rows[kept]).encode(
        x=alt.X("added:N", sort=strategies, title=None, axis=alt.Axis(orient="top", labelAngle=0, domain=False)),
        y=alt.Y("cell:N", sort=cells, title=None, axis=alt.Axis(labelLimit=0, domain=False)),
        tooltip=theme.tooltip("cell:N", "strategy:N", "decision:N", "n:Q", "n_measured:Q", "n_walked_back:Q"),
    )
    colours = alt.Scale(domain=[*DECISIONS], range=COLOURS)
    legend = alt.Legend(title=None, labelExpr=f"{theme.literal(DECISIONS)}[datum.value] + ' ' + datum.value")
    squares = grid.mark_rect(stroke="white", strokeWidth=1.5).encode(
        color=alt.Color("decision:N", scale=colours, legend=legend)
    )
    is_dark = "datum.decision == 'walked back' || datum.decision == 'kept'"
    letters = grid.mark_text(fontSize=11, fontWeight="bold").encode(
        text=alt.Text("mark:N"), color=alt.condition(is_dark, alt.value("white"), alt.value("black"))
    )
    caption = theme.caption(
        "Flags are added to accuracy; all: the verdict. M k/n: k of n measured runs are walked back.",
        f"n=k: only k runs are measured. {theme.usual(rows)}",
    )
    size = {"width": CELL_WIDTH * len(strategies), "height": step * len(cells)}
    return alt.layer(squares, letters).properties(**size, title=caption)


def describe(rows: pd.DataFrame) -> str:
    """How many methods each strategy walks back, keeps, finds MIXED or cannot judge."""
    said = [f"{strategy}: {_counted(some)}" for strategy, some in rows.groupby("strategy", sort=False)["decision"]]
    return f"{rows.groupby('strategy').size().max()} methods. {'; '.join(said)}."


def _counted(decisions: pd.Series) -> str:
    counts = decisions.value_counts()
    return ", ".join(f"{counts[decision]} {decision}" for decision in DECISIONS if decision in counts)


def _mark(row: dict[Any, Any]) -> str:
    letter, measured = DECISIONS[row["decision"]], row["n_measured"]
    if row["decision"] == "MIXED":
        return f"{letter} {row['n_walked_back']}/{measured}"
    return f"{letter} n={measured}" if 0 < measured < row["n"] else letter
