"""Γ against what the credit does to the loss: a point a cell and layer, ρ in one panel and Δ in the other."""

from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.dashboards import theme
from fa_tracking.dashboards.charts import _marks

TITLE = "Γ against function: how a credit with that cosine changes the loss"
QUERY = "functional_credit"
ORDER = 7.5

WIDTH, HEIGHT = 290, 230
PANELS = {"perturbation": "perturbation correlation ρ", "nudge": "nudging Δ: change of the loss"}
IDENTITY = ["method", "architecture", "width", "penalty", "label", "layer", "n"]
EDGE = 10
"""Pixels from a panel's edge to what is spelled there."""


def draw(rows: pd.DataFrame) -> Any:
    """Two panels for each network. A point is a layer of a cell, and says its number; the mean over the seeds."""
    rows = rows.assign(label=theme.variant_labels(rows), network=theme.network_labels(rows))
    shown = rows[rows["alignment"].notna()]
    labels, networks = sorted(shown["label"].unique()), [*shown["network"].unique()]
    panels = []
    for network in networks or [""]:
        here = shown[shown["network"] == network]
        for column, title in PANELS.items():
            lines = (str(network), title) if len(networks) > 1 else (title,)
            panel = alt.layer(*_layers(here, column, labels), *theme.heading(*lines))
            panels.append(panel.properties(width=WIDTH, height=HEIGHT))
    left_out = len(rows) - len(shown)
    caption = theme.caption(
        "A point per layer of a cell, with its number: the mean over n seeds. Dashed: no effect; left also ρ = Γ.",
        *([f"Left out: {left_out} layers without a Γ, as of BP, whose credit is the gradient."] if left_out else []),
        theme.usual(rows),
    )
    return alt.concat(*panels, columns=2, spacing=24, title=caption)


def describe(rows: pd.DataFrame) -> str:
    """How many layers have all three numbers, and for each cell the layers that Γ and each measure rank first."""
    rows = rows.assign(cell=theme.cell_labels(rows))
    shown = rows[rows["alignment"].notna() & (rows["perturbation"].notna() | rows["nudge"].notna())]
    said = [f"Γ and a functional measure stand beside each other at {len(shown)} of {len(rows)} layers"]
    for cell, group in shown.groupby("cell", sort=False):
        first = [
            f"{name} {_first(group, column, sign)}"
            for name, column, sign in (("Γ", "alignment", 1), ("ρ", "perturbation", 1), ("Δ", "nudge", -1))
        ]
        said.append(f"{cell}: layer with the best {', '.join(first)}")
    return ". ".join(said) + "."


def _first(rows: pd.DataFrame, column: str, sign: int) -> str:
    held = _marks.on_axis(rows, column)[0]
    return str(held["layer"].iloc[int((sign * pd.to_numeric(held[column])).argmax())]) if len(held) else "not measured"


def _layers(rows: pd.DataFrame, column: str, labels: list[str]) -> list[Any]:
    inside = _marks.on_axis(_marks.on_axis(rows[[*IDENTITY, "alignment", column]], "alignment")[0], column)[0]
    edge = _marks.on_axis(rows[[*IDENTITY, "alignment", column]], column)[1]
    axis = alt.Axis(tickCount=6, grid=False)
    x = alt.X("alignment:Q", title="Γ", scale=alt.Scale(nice=True, padding=16), axis=axis)
    y = alt.Y(f"{column}:Q", title=None, scale=alt.Scale(nice=True, padding=16), axis=axis)
    shape = alt.Scale(domain=labels, range=(theme.SHAPES * (len(labels) + 1))[: len(labels)])
    points = alt.Chart(inside).encode(x=x, y=y)
    layers = [
        alt.Chart(pd.DataFrame({"zero": [0.0]})).mark_rule(color=theme.THRESHOLD, strokeDash=[5, 3]).encode(y="zero:Q"),
        points.mark_point(filled=True, size=70, opacity=0.9).encode(
            color=alt.Color("label:N", scale=theme.method_colours(labels), title=None),
            shape=alt.Shape("label:N", scale=shape, title=None),
            tooltip=theme.tooltip(
                "label:N",
                "layer:O",
                "n:Q",
                alt.Tooltip("alignment:Q", format=".3f"),
                alt.Tooltip(f"{column}:Q", format=".3g"),
            ),
        ),
        points.mark_text(dx=9, align="left", baseline="middle", fontSize=10, color="#333333").encode(
            text=alt.Text("layer:O")
        ),
        *_marks.spelled(edge, "alignment", "y", EDGE, 12, x=x),
    ]
    if column == "perturbation" and len(inside):
        held = [float(v) for c in ("alignment", column) for v in inside[c]]
        ends = alt.Chart(pd.DataFrame({"same": [min(held), max(held)]}))
        line = ends.mark_line(color=theme.THRESHOLD, strokeDash=[5, 3], strokeWidth=1)
        layers.insert(1, line.encode(x="same:Q", y="same:Q"))
    return layers
