"""Every run's verdict in a grid: methods by architectures and seeds."""

from typing import Any

import altair as alt
import pandas as pd

from dashboards import theme

TITLE = "Verdicts: methods by architectures and seeds"
QUERY = "verdict_matrix"

ROOM, SPACING, HEIGHT, LABELS = 500, 10, 32, 165
LETTERED = 22
"""Width that a run needs for its flags to be written under its mark."""


def draw(rows: pd.DataFrame) -> alt.HConcatChart:
    """A row a method and what sets it apart, a column a network and seed. A mark is a run; its flags stand under it."""
    rows = rows.assign(
        cell=theme.variant_labels(rows),
        network=theme.network_labels(rows),
        state=rows["verdict"].map(theme.state),
        column=rows["seed"].map(lambda seed: "no seed" if pd.isna(seed) else str(seed)),
    )
    by = ["cell", "network", "column"]
    rows["together"] = rows.groupby(by)["run_id"].transform("size")
    rows["place"] = theme.shifts(rows, by)
    networks = [*rows.groupby("network")["cell"].nunique().sort_values(ascending=False, kind="stable").index]
    columns = rows.groupby("network")["column"].nunique().sum()
    step = min(48.0, (ROOM - SPACING * (len(networks) - 1)) / columns)
    panels = [_network(rows, name, step, labelled=name == networks[0]) for name in networks]
    caption = theme.caption(
        "A mark is a run, under it the flags that fire (n: not finite; × k: one of k runs of its cell and seed).",
        theme.usual(rows).partition(",")[0] + (", or as the column says" if len(networks) > 1 else ""),
    )
    return alt.hconcat(*panels, spacing=SPACING, title=caption)


def describe(rows: pd.DataFrame) -> str:
    """The runs of each verdict, by network."""
    states = rows["verdict"].map(theme.state).groupby(theme.network_labels(rows), sort=False)
    said = [f"{network}: {_counted(some)}" for network, some in states]
    shared = int((rows["n"] > 1).sum())
    return f"{len(rows)} runs. {'; '.join(said)}." + (f" {shared} share cell and seed with another." if shared else "")


def _counted(states: pd.Series) -> str:
    return ", ".join(f"{n} {state}" for state, n in states.value_counts().items())


def _network(rows: pd.DataFrame, network: str, step: float, labelled: bool) -> Any:
    here = rows[rows["network"] == network].copy()
    here["text"] = [_text(r, step / r["together"]) for r in here.to_dict("records")]
    seeds = sorted(here["column"].unique(), key=lambda c: (not c.isdigit(), len(c), c))
    cells = [*rows["cell"].unique()]
    kept = [
        "cell",
        "method",
        "architecture",
        "width",
        "seed",
        "column",
        "place",
        "state",
        "flags",
        "verdict",
        "accuracy",
    ]
    grid = alt.Chart(here[[*kept, "n", "aborted_at", "text", "run_id"]]).encode(
        x=alt.X(
            "column:N",
            scale=alt.Scale(domain=seeds, padding=0),
            title="seed" if labelled else None,
            axis=alt.Axis(labelAngle=0 if step >= 24 else -90, labelLimit=60, grid=True, bandPosition=0, ticks=False),
        ),
        xOffset=alt.XOffset("place:Q", scale=alt.Scale(domain=[0, 1], range=[0, step])),
        y=alt.Y(
            "cell:N",
            scale=alt.Scale(domain=cells, padding=0),
            title=None,
            axis=alt.Axis(labels=labelled, ticks=False, labelLimit=LABELS, grid=True, bandPosition=0),
        ),
        opacity=theme.opacity(1),
        tooltip=[
            "cell:N",
            "seed:Q",
            "n:Q",
            "verdict:N",
            alt.Tooltip("accuracy:Q", format=".4f"),
            "aborted_at:Q",
            "run_id:N",
        ],
    )
    size = min(90, (step / here["together"].max()) ** 2)
    marks = grid.mark_point(filled=True, size=size, yOffset=-5).encode(**theme.verdict_marks(rows["state"]))
    letters = grid.mark_text(fontSize=10, dy=9).encode(text="text:N")
    title = alt.TitleParams(network, anchor="middle", fontSize=12, limit=max(step * len(seeds), 30))
    return alt.layer(marks, letters).properties(width=alt.Step(step), height=alt.Step(HEIGHT), title=title)


def _text(row: dict[str, Any], room: float) -> str:
    """What stands under a mark of a run that has ``room``."""
    if room >= LETTERED:
        return row["flags"].replace(",", "")
    return f"× {row['together']}" if row["together"] > 1 and row["place"] * row["together"] < 1 else ""
