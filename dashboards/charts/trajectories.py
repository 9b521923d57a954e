"""Training trajectories of ‖h_L‖, ‖g_L‖ and accuracy: a line a run, a row of panels a network."""

from typing import Any

import altair as alt
import pandas as pd

from dashboards import theme
from dashboards.charts import _training

TITLE = "Training: residual norm, gradient norm and accuracy by epoch"
QUERY = "trajectories"

WIDTH, HEIGHTS = 178, (180, 130, 105)


def draw(rows: pd.DataFrame) -> alt.VConcatChart:
    """Three panels a network. A point that an axis cannot hold is spelled at the panel's top, the first in its cell."""
    rows = _training.named(rows.rename(columns=lambda name: name.removeprefix("deepest_")))
    networks = _training.networks(rows)
    lines = [_network(rows, name, last=name == networks[-1], of=len(networks)) for name in networks]
    return alt.vconcat(*lines, spacing=12, title=theme.caption(f"A line is a run. {theme.usual(rows)}"))


def describe(rows: pd.DataFrame) -> str:
    """The runs and epochs that are drawn, and where the three quantities end."""
    last = rows.loc[rows.groupby("run_id")["epoch"].idxmax()].rename(columns=lambda c: c.removeprefix("deepest_"))
    ends = "; ".join(f"{title.partition(',')[0]} {theme.value_range(last[q])}" for q, title in _training.PANELS.items())
    return f"{rows['run_id'].nunique()} runs up to epoch {last['epoch'].max()}; at its end: {ends}."


def _network(rows: pd.DataFrame, network: str, last: bool, of: int) -> Any:
    panels = [_panel(rows, network, quantity, last, of) for quantity in _training.PANELS]
    return alt.hconcat(*panels, spacing=18)


def _panel(rows: pd.DataFrame, network: str, quantity: str, last: bool, of: int) -> Any:
    kept = ["cell", "variant", "method", "architecture", "width", "seed", "epoch", "run_id", quantity]
    values = rows.loc[rows["network"] == network, kept].copy()
    log = quantity in _training.LOG
    values["edge"] = [theme.spelled(v, log) for v in values[quantity]]
    edge = values[values["edge"] != ""].drop_duplicates(["cell", "edge"]).drop(columns=quantity)
    values[quantity] = theme.held(values[quantity], log)

    first = quantity == "residual_norm"
    y = _training.y_axis(rows, quantity, [quantity], shown=True, title=network if first and of > 1 else None)
    lines = (
        alt.Chart(values)
        .mark_line(strokeWidth=1.4, point=_training.points(values))
        .encode(
            x=_training.x_axis(titled=last),
            y=y,
            **_training.marks(rows),
            opacity=theme.opacity(),
            detail="run_id:N",
            tooltip=["cell:N", "seed:Q", "epoch:Q", alt.Tooltip(f"{quantity}:Q", format=".4g"), "run_id:N"],
        )
    )
    rules = theme.threshold_rule(_training.floors_of(rows, quantity), y="threshold:Q")
    labels = theme.edge_text(edge, "below", x="epoch:Q", y=alt.value(6))
    heading = _training.PANELS[quantity] if network == _training.networks(rows)[0] else ""
    height = HEIGHTS[min(of, 3) - 1]
    return alt.layer(rules, lines, labels).properties(width=WIDTH, height=height, title=heading)
