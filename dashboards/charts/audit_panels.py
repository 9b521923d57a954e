"""The audit in four panels: one a diagnostic, methods sorted by accuracy, thresholds drawn."""

from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from dashboards import theme

TITLE = "Audit: four diagnostics per run, methods sorted by accuracy"
QUERY = "audit_table"

WIDTH, HEIGHT = 295, 180

IDENTITY = ["method", "architecture", "width"]


@dataclass(frozen=True)
class Panel:
    """One diagnostic: the column it shows and the column of its threshold."""

    column: str
    title: str
    threshold: str
    fires: str
    log: bool


PANELS = (
    Panel("growth", "(a) max per-block growth ‖h_(l+1)‖/‖h_l‖", "h_norm_explosion_ratio", "above", True),
    Panel("grad_norm", "(b) deepest gradient norm ‖g_L‖", "g_norm_floor", "below", True),
    Panel("stability", "(c) cross-batch direction stability", "stability_drift_ceiling", "above", False),
    Panel("margin_pp", "(d) margin over the frozen control, pp", "frozen_acc_margin_pp", "below", False),
)


def draw(rows: pd.DataFrame) -> alt.VConcatChart:
    """Four panels; a point is a run. A run without a value in a panel is counted in the panel's subtitle."""
    rows = rows.assign(cell=theme.cell_labels(rows), state=_state(rows))
    means = rows.groupby("cell")["accuracy"].mean().sort_values(ascending=False)
    order = [*means.index]
    a, b, c, d = (_panel(rows, panel, order) for panel in PANELS)
    return alt.vconcat(alt.hconcat(a, b, spacing=30), alt.hconcat(c, d, spacing=30), spacing=30)


def describe(rows: pd.DataFrame) -> str:
    """The runs of each verdict, and the range of each measurement."""
    states = _state(rows).value_counts()
    counts = ", ".join(f"{n} {state}" for state, n in states.items())
    ranges = "; ".join(f"{panel.title}: {theme.value_range(rows[panel.column])}" for panel in PANELS)
    return f"{len(rows)} runs: {counts}. {ranges}."


def _state(rows: pd.DataFrame) -> pd.Series:
    verdict = rows["verdict"]
    known = {"trustworthy": theme.HEALTHY, "not audited": theme.UNKNOWN}
    return verdict.map(lambda v: known.get(v, theme.UNKNOWN if v.startswith("inconclusive") else theme.FLAGGED))


def _panel(rows: pd.DataFrame, panel: Panel, order: list[str]) -> Any:
    values = rows[["cell", "seed", "state", "verdict", "accuracy", panel.column, "run_id", *IDENTITY]].copy()
    values["edge"] = [theme.spelled(v, panel.log) for v in values[panel.column]]
    missing = int(values[panel.column].isna().sum() - (values["edge"] == "NaN").sum())
    inside = values[(values["edge"] == "") & values[panel.column].notna()]
    edge = values[values["edge"] != ""].drop(columns=panel.column)
    thresholds = sorted(rows[panel.threshold].dropna().unique())
    subtitle = f"fires {panel.fires} {', '.join(f'{t:g}' for t in thresholds) or '—'}"
    subtitle += f"; {missing} of {len(rows)} runs not measured" if missing else ""

    x = alt.X(
        "cell:N", sort=order, scale=alt.Scale(domain=order), title=None, axis=alt.Axis(labelAngle=-25, labelLimit=160)
    )
    scale = alt.Scale(type="log") if panel.log else alt.Scale(zero=False, padding=10)
    axis = theme.log_axis(inside[panel.column], thresholds) if panel.log else alt.Axis(tickCount=6)
    points = (
        alt.Chart(inside)
        .mark_point(filled=True, size=75)
        .encode(
            x=x,
            opacity=theme.opacity(),
            y=alt.Y(f"{panel.column}:Q", scale=scale, axis=axis, title=None),
            xOffset=alt.XOffset("seed:N"),
            color=alt.Color("state:N", scale=theme.VERDICT_COLOUR, title="verdict of the run"),
            shape=alt.Shape("state:N", scale=theme.VERDICT_SHAPE, title="verdict of the run"),
            tooltip=[
                "cell:N",
                "seed:Q",
                alt.Tooltip(f"{panel.column}:Q", format=".4g"),
                alt.Tooltip("accuracy:Q", format=".4f"),
                "verdict:N",
                "run_id:N",
            ],
        )
    )
    rules = (
        alt.Chart(pd.DataFrame({"threshold": thresholds}))
        .mark_rule(color=theme.THRESHOLD, strokeDash=[5, 3], strokeWidth=1.3)
        .encode(y="threshold:Q")
    )
    labels = (
        alt.Chart(edge)
        .mark_text(fontSize=11, fontWeight="bold", baseline="top", color="#D55E00")
        .encode(x=x, xOffset=alt.XOffset("seed:N"), y=alt.value(4), text="edge:N")
    )
    title = alt.TitleParams(panel.title, subtitle=subtitle)
    return alt.layer(rules, points, labels).properties(width=WIDTH, height=HEIGHT, title=title)
