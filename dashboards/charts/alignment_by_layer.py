"""Γ by layer, a panel a cell, on the band that fresh feedback gives."""

import textwrap
from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.dashboards import theme
from fa_tracking.dashboards.charts import _marks

TITLE = "Γ by layer, and its null band under fresh feedback"
QUERY = "alignment_by_layer"
ORDER = 7

COLUMNS, WIDTH, HEIGHT, STRIP = 4, 140, 100, 20
"""Panels in a row, their size, and the height of the strip below for layers without a Γ."""
LETTERS = 20, 25
"""Letters that a line of a panel's name and of its network hold."""
TOLD = 8
"""Cells whose range is told one by one."""
IDENTITY = ["method", "architecture", "width", "layer"]


def draw(rows: pd.DataFrame) -> Any:
    """A panel a cell, all with one axis of Γ. A layer without Γ has a cross in a strip below the axis, and no value."""
    rows = rows.assign(label=theme.variant_labels(rows), network=theme.network_labels(rows))
    held = [v for c in ("mean", "low", "high", "null_low", "null_high") for v in rows[c] if pd.notna(v)]
    scale = alt.Scale(domain=[min(held), max(held)], nice=True, padding=8) if held else alt.Scale(domain=[-1, 1])
    cells = [cell for _, cell in rows.groupby(["network", "label"], sort=False)]
    has_strip = bool((rows["n"] == 0).any())
    headings = [_heading(cell, is_network_said=rows["network"].nunique() > 1) for cell in cells]
    above = _marks.LINE if any(len(_ns(cell)) > 1 for cell in cells) else 0
    panels = []
    for i, (cell, heading) in enumerate(zip(cells, headings, strict=True)):
        beside = headings[i - i % COLUMNS :][:COLUMNS]  # the names of a row of panels begin at one height
        lines = [*heading, *[""] * (max(map(len, beside)) - len(heading))]
        layers = _layers(cell, scale, has_strip, is_first=i % COLUMNS == 0, is_last=i + COLUMNS >= len(cells))
        layers += theme.heading(*lines, above=above)
        panels.append(alt.layer(*layers).properties(width=WIDTH, height=HEIGHT))
    caption = theme.caption(
        "Point and bar: the mean of Γ over n seeds and its 95 % t interval; none for n = 1.",
        "Grey: the null of fresh feedback, its mean ± 2 standard deviations, where it was drawn.",
        *(["× below the axis: no Γ here, since the gradient is below the floor."] if has_strip else []),
        theme.usual(rows),
    )
    return alt.concat(*panels, columns=COLUMNS, spacing=14, title=caption)


def describe(rows: pd.DataFrame) -> str:
    """How many layers have a Γ, how many lie beyond their null, and the range: of each cell, or of all where many."""
    rows = rows.assign(cell=theme.cell_labels(rows))
    measured, beyond = rows[rows["n"] > 0], rows[rows["n_beyond_null"] > 0]
    cells = rows["cell"].nunique()
    said = (
        f"Γ is a measurement at {len(measured)} of {len(rows)} layers of {cells} cells, at "
        f"{len(beyond)} of them beyond the null band in some seed. Mean Γ by layer: "
    )
    if cells <= TOLD:
        groups = rows.groupby("cell")
        return said + "; ".join(f"{cell} {theme.value_range(group['mean'])}" for cell, group in groups) + "."
    ends = measured.assign(mean=pd.to_numeric(measured["mean"])).sort_values("mean").iloc[[0, -1]].itertuples()
    where = ", ".join(
        f"{word} in {end.cell} at layer {end.layer}" for word, end in zip(("lowest", "highest"), ends, strict=True)
    )
    return f"{said}{theme.value_range(rows['mean'])}; {where}."


def _ns(cell: pd.DataFrame) -> list[int]:
    """The numbers of seeds behind the layers that have a Γ."""
    return sorted(cell.loc[cell["n"] > 0, "n"].unique())


def _heading(cell: pd.DataFrame, is_network_said: bool) -> list[str]:
    """The lines over a panel: the cell's name, its network, and n where it is the same at every layer."""
    ns = _ns(cell)
    about = [cell["network"].iloc[0]] if is_network_said else []
    about += [f"n={ns[0]}"] if len(ns) == 1 else []
    wrapped = (
        textwrap.wrap(text, letters, break_on_hyphens=False)
        for text, letters in zip((cell["label"].iloc[0], ", ".join(about)), LETTERS, strict=True)
    )
    return [line for lines in wrapped for line in lines]


def _layers(cell: pd.DataFrame, scale: alt.Scale, has_strip: bool, is_first: bool, is_last: bool) -> list[Any]:
    measured, none = cell[cell["n"] > 0], cell[cell["n"] == 0]
    axis = alt.Axis(labelAngle=0, offset=STRIP if has_strip else 0)
    x = alt.X("layer:O", title="layer" if is_last else None, scale=alt.Scale(domain=sorted(cell["layer"])), axis=axis)
    y: dict[str, Any] = {
        "scale": scale,
        "title": "Γ" if is_first else None,
        "axis": alt.Axis(tickCount=5, labels=is_first, ticks=is_first),
    }
    tip = [alt.Tooltip(f"{c}:Q", format=".3g") for c in ("mean", "low", "high", "null_mean", "null_sd")]

    null = cell.loc[cell["null_low"].notna(), [*IDENTITY, "null_low", "null_high"]]
    band = alt.Chart(null).mark_bar(color="#C8C8C8", width={"band": 1})
    zero = (
        alt.Chart(pd.DataFrame({"zero": [0]}))
        .mark_rule(color=theme.THRESHOLD, strokeWidth=0.8)
        .encode(y=alt.Y("zero:Q"))
    )
    means = alt.Chart(measured[[*IDENTITY, "n", "mean", "low", "high", "null_mean", "null_sd", "n_beyond_null"]])
    bounded = alt.Chart(measured.loc[measured["low"].notna(), [*IDENTITY, "low", "high"]])
    layers = [
        band.encode(x=x, y=alt.Y("null_low:Q", **y), y2=alt.Y2("null_high:Q")),
        zero,
        bounded.mark_rule(strokeWidth=1.8, color="#0072B2").encode(x=x, y=alt.Y("low:Q", **y), y2=alt.Y2("high:Q")),
        means.mark_point(filled=True, size=45, color="#0072B2", opacity=1).encode(
            x=x, y=alt.Y("mean:Q", **y), tooltip=theme.tooltip("layer:O", "n:Q", *tip, "n_beyond_null:Q")
        ),
        alt.Chart(none[[*IDENTITY, "n_missing"]])
        .mark_text(text="×", fontSize=14, color="#555555", baseline="middle")
        .encode(x=x, y=alt.YValue(HEIGHT + 11), tooltip=theme.tooltip("layer:O", "n_missing:Q")),
    ]
    if has_strip and is_first:
        word = alt.Chart(pd.DataFrame({"heading": ["no Γ"]})).mark_text(align="right", baseline="middle", fontSize=11)
        layers.append(word.encode(text=alt.Text("heading:N"), x=alt.XValue(-7), y=alt.YValue(HEIGHT + 12)))
    if len(_ns(cell)) > 1:
        changes = measured[measured["n"] != cell["n"].shift().loc[measured.index]]
        counts = alt.Chart(changes[[*IDENTITY, "n"]]).mark_text(fontSize=10, baseline="bottom", color="#444444")
        layers.append(
            counts.transform_calculate(said="'n=' + datum.n").encode(x=x, y=alt.YValue(-2), text=alt.Text("said:N"))
        )
    return layers
