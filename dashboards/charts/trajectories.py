"""Training trajectories of ‖h_L‖, ‖g_L‖ and accuracy: a line a run, methods told apart by colour and dash."""

from typing import Any

import altair as alt
import pandas as pd

from dashboards import theme

TITLE = "Training: residual norm, gradient norm and accuracy by epoch"
QUERY = "trajectories"

PANELS = (
    ("deepest_residual_norm", "‖h_L‖", True),
    ("deepest_grad_norm", "‖g_L‖, with the floor of (b)", True),
    ("accuracy", "test accuracy", False),
)


def draw(rows: pd.DataFrame) -> alt.HConcatChart:
    """Three panels over the epochs. A point that an axis cannot hold is spelled at the panel's top."""
    rows = rows.assign(cell=theme.cell_labels(rows))
    cells = sorted(rows["cell"].unique())
    return alt.hconcat(*(_panel(rows, cells, *panel) for panel in PANELS), spacing=25)


def describe(rows: pd.DataFrame) -> str:
    """The runs and epochs that are drawn, and where the three quantities end."""
    last = rows.loc[rows.groupby("run_id")["epoch"].idxmax()]
    ends = "; ".join(f"{title.partition(',')[0]} {theme.value_range(last[column])}" for column, title, _ in PANELS)
    return f"{rows['run_id'].nunique()} runs up to epoch {last['epoch'].max()}; at its end: {ends}."


def _panel(rows: pd.DataFrame, cells: list[str], column: str, title: str, log: bool) -> Any:
    values = rows[["cell", "method", "architecture", "width", "seed", "epoch", "run_id", column]].copy()
    values["edge"] = [theme.spelled(v, log) for v in values[column]]
    inside = values[(values["edge"] == "") & values[column].notna()]
    edge = values[values["edge"] != ""].drop(columns=column)
    colours = alt.Scale(domain=cells, range=(theme.METHOD_COLOURS * len(cells))[: len(cells)])
    dashes = alt.Scale(domain=cells, range=(theme.DASHES * len(cells))[: len(cells)])
    floors = sorted(rows["g_norm_floor"].dropna().unique()) if column == "deepest_grad_norm" else []
    scale = alt.Scale(type="log") if log else alt.Scale(zero=False)
    axis = theme.log_axis(inside[column], floors) if log else alt.Axis(tickCount=6)
    lines = (
        alt.Chart(inside)
        .mark_line(strokeWidth=1.6)
        .encode(
            opacity=theme.opacity(),
            x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y(f"{column}:Q", title=None, scale=scale, axis=axis),
            color=alt.Color("cell:N", scale=colours, title="cell"),
            strokeDash=alt.StrokeDash("cell:N", scale=dashes, title="cell"),
            detail="run_id:N",
            tooltip=["cell:N", "seed:Q", "epoch:Q", alt.Tooltip(f"{column}:Q", format=".4g")],
        )
    )
    labels = (
        alt.Chart(edge)
        .mark_text(fontSize=11, fontWeight="bold", baseline="top", color="#D55E00")
        .encode(x="epoch:Q", y=alt.value(4), text="edge:N")
    )
    layers = [lines, labels]
    if floors:
        rule = alt.Chart(pd.DataFrame({"floor": floors})).mark_rule(
            color=theme.THRESHOLD, strokeDash=[5, 3], strokeWidth=1.3
        )
        layers.append(rule.encode(y="floor:Q"))
    return alt.layer(*layers).properties(width=185, height=185, title=title)
