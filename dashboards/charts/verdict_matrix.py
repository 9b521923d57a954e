"""Every run's verdict in a grid: methods by architectures and seeds."""

from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.dashboards import names, theme

TITLE = "Verdicts: methods by architectures and seeds"
QUERY = "verdict_matrix"
ORDER = 1

ROOM, SPACING, HEIGHT, TITLE_SIZE = 530, 10, 28, 11
WIDEST, NAMED, LETTERED = 48, 68, 22
"""Width that a seed takes at most, that a network's name needs, and that a run's flags need under its mark."""


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
    rows["shift"] = theme.shifts(rows, by)
    networks = [*rows.groupby("network")["cell"].nunique().sort_values(ascending=False, kind="stable").index]
    steps = _steps(rows.groupby("network")["column"].nunique().to_dict())
    panels = [_network(rows, name, steps[name], labelled=name == networks[0]) for name in networks]
    for panel, title in zip(panels, _titles(rows, networks, steps), strict=True):
        panel.title = title
    caption = theme.caption(
        "A mark is a run, under it the flags that fire (n: not finite; × k: one of k runs of its cell and seed).",
        theme.usual(rows),
    )
    return alt.hconcat(*panels, spacing=SPACING, title=caption).resolve_scale(xOffset="independent")


def describe(rows: pd.DataFrame) -> str:
    """The runs of each verdict, by network."""
    states = rows["verdict"].map(theme.state).groupby(theme.network_labels(rows), sort=False)
    said = [f"{network}: {_counted(some)}" for network, some in states]
    shared = int((rows["n"] > 1).sum())
    return f"{len(rows)} runs. {'; '.join(said)}." + (f" {shared} share cell and seed with another." if shared else "")


def _counted(states: pd.Series) -> str:
    return ", ".join(f"{n} {state}" for state, n in states.value_counts().items())


def _steps(seeds: dict[Any, int]) -> dict[Any, float]:
    """The width of a seed's column in each network, which has so many, so that all fit the page."""
    room = ROOM - SPACING * (len(seeds) - 1)
    named = min(NAMED, room / len(seeds))
    widths = ({name: max(step, named / n) for name, n in seeds.items()} for step in range(WIDEST, 0, -1))
    return next((w for w in widths if sum(w[name] * n for name, n in seeds.items()) <= room), dict.fromkeys(seeds, 1.0))


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
        "shift",
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
        xOffset=alt.XOffset("shift:Q", scale=alt.Scale(domain=[0, 1], range=[0, step])),
        y=alt.Y(
            "cell:N",
            scale=alt.Scale(type="band", domain=cells, padding=0),
            title=None,
            axis=alt.Axis(labels=labelled, ticks=False, labelLimit=0, labelFontSize=10, grid=True, bandPosition=0),
        ),
        opacity=theme.opacity(1),
        tooltip=theme.tooltip(
            "cell:N", "seed:Q", "n:Q", "flags:N", "verdict:N", "accuracy:Q", "aborted_at:Q", "run_id:N"
        ),
    )
    size = min(90, (step / here["together"].max()) ** 2)
    marks = grid.mark_point(filled=True, size=size, yOffset=-5).encode(**theme.verdict_marks(rows["state"]))
    letters = grid.mark_text(fontSize=10, dy=9).encode(text=alt.Text("text:N"))
    return alt.layer(marks, letters).properties(width=alt.Step(step), height=alt.Step(HEIGHT))


def _titles(rows: pd.DataFrame, networks: list[str], steps: dict[Any, float]) -> list[alt.TitleParams]:
    """The names of the networks over their panels, a word a line, as much of each word as the narrowest panel holds."""
    seeds = rows.groupby("network")["column"].nunique()
    room = max(30.0, min(steps[name] * seeds[name] for name in networks)) / TITLE_SIZE
    words = names.fitted([word for name in networks for word in name.split(" ")], room)
    lines = [[words[word] for word in name.split(" ")] for name in networks]
    return [alt.TitleParams(some, anchor="middle", fontSize=TITLE_SIZE, limit=0) for some in lines]


def _text(row: dict[Any, Any], room: float) -> str:
    """What stands under a mark of a run that has ``room``."""
    if room >= LETTERED:
        return row["flags"].replace(",", "")
    return f"× {row['together']}" if row["together"] > 1 and row["shift"] * row["together"] < 1 else ""
