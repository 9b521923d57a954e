"""Training trajectories of ‖h_L‖, ‖g_L‖ and accuracy: a line a run, a row of panels a network or a variant in it."""

from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.dashboards import theme
from fa_tracking.dashboards.charts import _training
from fa_tracking.spelled import counted

TITLE = "Training: residual norm, gradient norm and accuracy by epoch"
QUERY = "trajectories"
ORDER = 4

WIDTH, SPACING = 174, 18
TALLEST, LOWEST, ROOM = 180, 60, 600
"""Heights that a row of panels may have, and that all of them may take together."""
DENSE = 8
"""A network of more cells has a row for each variant."""


def draw(rows: pd.DataFrame) -> alt.ConcatChart:
    """Three panels a row. A point that an axis cannot hold is spelled at the panel's top, the first in its cell."""
    rows = _training.named(rows.rename(columns=lambda name: name.removeprefix("deepest_")))
    groups = [group for network in _training.networks(rows) for group in _groups(rows[rows["network"] == network])]
    height = max(LOWEST, min(TALLEST, ROOM // len(groups)))
    panels = [
        _panel(rows, here, quantity, place == len(groups) - 1, _heading(name, quantity, place == 0, len(groups) > 1))
        for place, (name, here) in enumerate(groups)
        for quantity in _training.PANELS
    ]
    panels = [panel.properties(width=WIDTH, height=height) for panel in panels]
    n = counted(rows["run_id"].nunique(), "run")
    caption = theme.caption(f"{n}, a line each; the dashed line across is the floor of (b).", theme.usual(rows))
    return alt.concat(*panels, columns=len(_training.PANELS), spacing={"row": 8, "column": SPACING}, title=caption)


def describe(rows: pd.DataFrame) -> str:
    """The runs and epochs that are drawn, and where the three quantities end."""
    last = rows.loc[rows.groupby("run_id")["epoch"].idxmax()].rename(columns=lambda c: c.removeprefix("deepest_"))
    ends = "; ".join(f"{title} {theme.value_range(last[q])}" for q, title in _training.PANELS.items())
    return f"{rows['run_id'].nunique()} runs up to epoch {last['epoch'].max()}; at its end: {ends}."


def _groups(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The runs of a network that share a row of panels, with the name of each row."""
    network = rows["network"].iloc[0]
    if rows["cell"].nunique() <= DENSE:
        return [(network, rows)]
    variants = _training.variants_of(rows)
    return [(f"{network} {variant}", rows[rows["variant"] == variant]) for variant in variants]


def _heading(name: str, quantity: str, first: bool, several: bool) -> list[alt.Chart]:
    """The row's name over its first panel, that of the quantity over the first row."""
    named = name if several and quantity == next(iter(_training.PANELS)) else ""
    title = _training.PANELS[quantity] if first else ""
    return theme.heading(*((named, title) if several and first else (named or title,)))


def _panel(rows: pd.DataFrame, here: pd.DataFrame, quantity: str, is_last: bool, heading: list[alt.Chart]) -> Any:
    kept = ["cell", "variant", "method", "architecture", "width", "seed", "epoch", "run_id", quantity]
    values = here[kept].copy()
    log = quantity in _training.LOG
    values["edge"] = [theme.spelled(v, log) for v in values[quantity]]
    edge = values[values["edge"] != ""].drop_duplicates(["cell", "edge"]).drop(columns=quantity)
    values[quantity] = theme.held(values[quantity], log)

    y = _training.y_axis(rows, quantity, [quantity], shown=True)
    lines = (
        alt.Chart(values)
        .mark_line(strokeWidth=1.4, point=_training.points(values))
        .encode(
            x=_training.x_axis(titled=is_last),
            y=y,
            **_training.marks(rows),
            opacity=theme.opacity(),
            detail=alt.Detail("run_id:N"),
            tooltip=theme.tooltip(
                "cell:N", "seed:Q", "epoch:Q", alt.Tooltip(f"{quantity}:Q", format=".4g"), "run_id:N"
            ),
        )
    )
    rules = theme.threshold_rule(_training.floors_of(rows, quantity), y=alt.Y("threshold:Q"))
    labels = theme.edge_text(edge, "below", x=alt.X("epoch:Q"), y=alt.YValue(6))
    return alt.layer(rules, lines, labels, *heading)
