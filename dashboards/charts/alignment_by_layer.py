"""Γ by layer, a panel a cell, on the band that fresh feedback gives."""

import textwrap
from typing import Any

import altair as alt
import pandas as pd

from dashboards import theme
from dashboards.charts import _marks

TITLE = "Γ by layer, and its null band under fresh feedback"
QUERY = "alignment_by_layer"

COLUMNS, WIDTH, HEIGHT, LETTERS = 4, 140, 110, 26
IDENTITY = ["method", "architecture", "width", "layer"]


def draw(rows: pd.DataFrame) -> Any:
    """A panel a cell, all with one axis of Γ. A layer without Γ has a cross at the panel's foot, and no value."""
    rows = rows.assign(label=_marks.method_labels(rows), network=_marks.network_labels(rows))
    held = [v for c in ("mean", "low", "high", "null_low", "null_high") for v in rows[c] if pd.notna(v)]
    scale = alt.Scale(domain=[min(held), max(held)], nice=True, padding=8) if held else alt.Scale(domain=[-1, 1])
    cells = [cell for _, cell in rows.groupby(["network", "label"], sort=False)]
    panels = [_panel(cell, scale, is_first=i % COLUMNS == 0) for i, cell in enumerate(cells)]
    lines = [alt.hconcat(*panels[i : i + COLUMNS], spacing=16) for i in range(0, len(panels), COLUMNS)]
    return _marks.captioned(
        alt.vconcat(*lines, spacing=14),
        "Point and bar: the mean of Γ over n seeds and its 95 % t interval; none for n = 1.",
        "Grey: the null of fresh feedback, its mean ± 2 standard deviations, where it was drawn.",
        "×: no measurement, for the gradient is below the floor.",
    )


def describe(rows: pd.DataFrame) -> str:
    """How many layers have a Γ, how many lie beyond their null, and each cell's range."""
    rows = rows.assign(cell=(_marks.method_labels(rows) + " " + _marks.network_labels(rows)).str.strip())
    measured, beyond = rows[rows["n"] > 0], rows[rows["n_beyond_null"] > 0]
    ranges = "; ".join(f"{cell!s} {theme.value_range(group['mean'])}" for cell, group in rows.groupby("cell"))
    return (
        f"Γ is a measurement at {len(measured)} of {len(rows)} layers of {rows['cell'].nunique()} cells, at "
        f"{len(beyond)} of them beyond the null band in some seed. Mean Γ by layer: {ranges}."
    )


def _panel(cell: pd.DataFrame, scale: alt.Scale, is_first: bool) -> Any:
    label, network = cell["label"].iloc[0], cell["network"].iloc[0]
    measured, none = cell[cell["n"] > 0], cell[cell["n"] == 0]
    changes = measured[measured["n"] != cell["n"].shift().loc[measured.index]]
    x = alt.X("layer:O", title="layer", scale=alt.Scale(domain=sorted(cell["layer"])), axis=alt.Axis(labelAngle=0))
    y: dict[str, Any] = {
        "scale": scale,
        "title": "Γ" if is_first else None,
        "axis": alt.Axis(tickCount=5, labels=is_first),
    }
    tip = [alt.Tooltip(f"{c}:Q", format=".3g") for c in ("mean", "low", "high", "null_mean", "null_sd")]

    null = cell.loc[cell["null_low"].notna(), [*IDENTITY, "null_low", "null_high"]]
    band = alt.Chart(null).mark_bar(color="#C8C8C8", width={"band": 1})
    zero = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(color=theme.THRESHOLD, strokeWidth=0.8).encode(y="zero:Q")
    means = alt.Chart(measured[[*IDENTITY, "n", "mean", "low", "high", "null_mean", "null_sd", "n_beyond_null"]])
    bounded = alt.Chart(measured.loc[measured["low"].notna(), [*IDENTITY, "low", "high"]])
    layers = [
        band.encode(x=x, y=alt.Y("null_low:Q", **y), y2="null_high:Q"),
        zero,
        bounded.mark_rule(strokeWidth=1.8, color="#0072B2").encode(x=x, y=alt.Y("low:Q", **y), y2="high:Q"),
        means.mark_point(filled=True, size=45, color="#0072B2", opacity=1).encode(
            x=x, y=alt.Y("mean:Q", **y), tooltip=["layer:O", "n:Q", *tip, "n_beyond_null:Q"]
        ),
        alt.Chart(none[[*IDENTITY, "n_missing"]])
        .mark_text(text="×", fontSize=14, color="#555555", baseline="middle")
        .encode(x=x, y=alt.value(HEIGHT - 7), tooltip=["layer:O", "n_missing:Q"]),
        alt.Chart(changes[[*IDENTITY, "n"]])
        .mark_text(fontSize=10, baseline="bottom", color="#444444")
        .encode(x=x, y=alt.value(-2), text="said:N")
        .transform_calculate(said="'n=' + datum.n"),
    ]
    title = alt.TitleParams(textwrap.wrap(label, LETTERS - 8))
    if network:
        title.subtitle = textwrap.wrap(network, LETTERS)
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title)
