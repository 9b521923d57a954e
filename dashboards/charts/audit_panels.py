"""The audit in four panels: one a diagnostic, methods sorted by accuracy, thresholds drawn."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.dashboards import theme
from fa_tracking.protocol.diagnostics import direction_stability, frozen_control, grad_norm, residual_norm

TITLE = "Audit: four diagnostics per run, methods sorted by accuracy"
QUERY = "audit_table"
ORDER = 2

WIDTH = 115

IDENTITY = ["method", "architecture", "width"]


@dataclass(frozen=True)
class Panel:
    """One diagnostic, and the column that it shows."""

    column: str
    title: str
    axis: str
    diagnostic: ModuleType
    log: bool

    @property
    def threshold(self) -> str:
        """The column of its threshold."""
        return str(self.diagnostic.THRESHOLD.name)

    @property
    def fires(self) -> str:
        return str(self.diagnostic.THRESHOLD.fires)


PANELS = (
    Panel("growth", "(a) growth", "max growth of a block", residual_norm, True),
    Panel("grad_norm", "(b) gradient", "deepest norm, g_L", grad_norm, True),
    Panel("stability", "(c) direction", "cosine across batches", direction_stability, False),
    Panel("margin_pp", "(d) margin", "pp over frozen blocks", frozen_control, False),
)


def draw(rows: pd.DataFrame) -> alt.HConcatChart:
    """A row a cell, a point a run. A run without a value in a panel is counted in the panel's subtitle."""
    cells = theme.cell_labels(rows)
    rows = rows.assign(cell=cells, state=rows["verdict"].map(theme.state))
    rows["place"] = theme.shifts(rows, ["cell"])
    order = [*pd.to_numeric(rows["accuracy"]).groupby(cells).mean().sort_values(ascending=False).index]
    panels = [_panel(rows, panel, order, labelled=panel is PANELS[0]) for panel in PANELS]
    caption = theme.caption(f"A mark is a run; highest mean accuracy on top. {theme.usual(rows)}")
    return alt.hconcat(*panels, spacing=18, title=caption)


def describe(rows: pd.DataFrame) -> str:
    """The runs of each verdict, and the range of each measurement."""
    counts = ", ".join(f"{n} {state}" for state, n in rows["verdict"].map(theme.state).value_counts().items())
    ranges = "; ".join(f"{panel.title}: {theme.value_range(rows[panel.column])}" for panel in PANELS)
    return f"{len(rows)} runs: {counts}. {ranges}."


def _panel(rows: pd.DataFrame, panel: Panel, order: list[str], labelled: bool) -> Any:
    kept = ["cell", "place", "seed", "state", "verdict", "accuracy", panel.column, "run_id", *IDENTITY]
    values = rows[kept].assign(edge=[theme.spelled(v, panel.log) for v in rows[panel.column]])
    missing = int(values[panel.column].isna().sum() - (values["edge"] == "NaN").sum())
    inside = values[(values["edge"] == "") & values[panel.column].notna()]
    edge = values[values["edge"] != ""].drop(columns=panel.column)
    thresholds = sorted(rows[panel.threshold].dropna().unique())
    subtitle = [f"fires {panel.fires} {', '.join(f'{t:g}' for t in thresholds)}" if thresholds else "not audited"]
    if panel.column == "grad_norm" and thresholds:
        subtitle.append("unless the error is small")
    if missing:
        subtitle.append(f"{missing} of {len(rows)} not measured")
    subtitle += [""] * (3 - len(subtitle))

    step = min(38, max(15, 380 // len(order)))
    y = {
        "y": alt.Y(
            "cell:N",
            scale=alt.Scale(domain=order, padding=0),
            title=None,
            axis=alt.Axis(labels=labelled, ticks=labelled, labelLimit=0, labelFontSize=10, grid=True, bandPosition=0),
        ),
        "yOffset": alt.YOffset("place:Q", scale=alt.Scale(domain=[0, 1], range=[0.1 * step, 0.9 * step])),
    }
    scale = alt.Scale(type="log", padding=6) if panel.log else alt.Scale(zero=False, padding=8)
    axis = theme.log_axis(inside[panel.column], thresholds, most=4) if panel.log else alt.Axis(tickCount=4)
    points = (
        alt.Chart(inside)
        .mark_point(filled=True, size=50)
        .encode(
            x=alt.X(f"{panel.column}:Q", scale=scale, axis=axis, title=panel.axis),
            **y,
            **theme.verdict_marks(rows["state"]),
            opacity=theme.opacity(),
            tooltip=theme.tooltip(
                "cell:N",
                "seed:Q",
                alt.Tooltip(f"{panel.column}:Q", format=".4g"),
                alt.Tooltip("accuracy:Q", format=".4f"),
                "verdict:N",
                "run_id:N",
            ),
        )
    )
    rules = theme.threshold_rule(thresholds, x=alt.X("threshold:Q"))
    labels = theme.edge_text(edge, "left", x=alt.XValue(WIDTH - 14), **y)
    runs = alt.Chart(rows[["cell", "seed", "run_id", *IDENTITY]])
    lines = runs.mark_text(text="").encode(y=y["y"])  # the cells' names, beside a panel without values too
    layers = alt.layer(lines, rules, points, labels, *theme.heading(panel.title, *subtitle))
    return layers.properties(width=WIDTH, height=alt.Step(step))
