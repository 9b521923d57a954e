"""One look for every chart: print sizes, colours that colour-blind readers can tell apart (Okabe & Ito 2008)."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

FULL_WIDTH, COLUMN_WIDTH = 720, 345
"""Units that a figure is wide, across a page of two columns and across one of these; text of 11 is then of 7.7 pt."""
PRINT_SCALE = 7.0 * 72 / FULL_WIDTH
"""A page of two columns holds a figure 7 inches wide."""
PICKED = "picked"
"""The parameter of each specification that holds the ids of the runs that a page has picked; null: none are."""

HEALTHY, FLAGGED, UNKNOWN = "trustworthy", "flagged", "not audited"

VERDICT_COLOUR = alt.Scale(domain=[HEALTHY, FLAGGED, UNKNOWN], range=["#0072B2", "#D55E00", "#999999"])
VERDICT_SHAPE = alt.Scale(domain=[HEALTHY, FLAGGED, UNKNOWN], range=["circle", "triangle-up", "cross"])
THRESHOLD = "#444444"
METHOD_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B2A100"]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [3, 1]]


def styled(chart: Any) -> Any:
    """The chart with the fonts, sizes and grid of this project."""
    font = "Helvetica, Arial, 'Liberation Sans', sans-serif"
    return (
        chart.configure(font=font, background="white")
        .configure_axis(labelFontSize=11, titleFontSize=12, titleFontWeight="normal", gridColor="#E5E5E5")
        .configure_title(fontSize=13, anchor="start", subtitleFontSize=11, subtitleColor="#444444")
        .configure_legend(
            labelFontSize=11,
            titleFontSize=12,
            labelLimit=220,
            symbolSize=90,
            orient="bottom",
            direction="horizontal",
            columns=4,
        )
        .configure_view(stroke="#BBBBBB")
    )


def opacity(usual: float = 0.85) -> Any:
    """The opacity of a mark of one run: ``usual``, and faint where a page has picked other runs."""
    is_picked = f"!isArray({PICKED}) || indexof({PICKED}, datum.run_id) >= 0"
    return alt.condition(is_picked, alt.value(usual), alt.value(0.08))


def cell_labels(rows: pd.DataFrame) -> pd.Series:
    """A cell's name on an axis: the method, and what sets it apart."""
    penalty = rows["penalty"].map(lambda v: f" λ={v:g}" if pd.notna(v) and v else "")
    frozen = rows["frozen_blocks"].map(lambda v: " frozen" if v is True or v == 1 else "")
    augmented = rows["augmentation"].map(lambda v: f" {v}" if pd.notna(v) and v != "none" else "")
    labels = rows["method"].fillna("?") + penalty + frozen + augmented
    for column, sign in (("architecture", ""), ("width", "d="), ("depth", "L="), ("epochs", "epochs="), ("lr", "lr=")):
        if rows[column].nunique() > 1:  # only what sets some rows apart
            labels = labels + " " + sign + rows[column].astype(str)
    return labels


def log_axis(values: pd.Series, also: Sequence[float] = ()) -> alt.Axis:
    """An axis with a line a decade over the positive finite ``values``, fewer where there are many."""
    finite = [float(v) for v in (*values, *also) if v is not None and not spelled(v, log=True)]
    low, high = (math.floor(math.log10(min(finite))), math.ceil(math.log10(max(finite)))) if finite else (0, 1)
    decades = range(low, min(high, 308) + 1, max(1, math.ceil((high - low) / 8)))  # 1e309 is infinite
    return alt.Axis(format=".0e", values=[10.0**k for k in decades])


def spelled(value: float | None, log: bool = False) -> str:
    """What a mark at the panel's edge says of a value that an axis cannot hold; empty for one that it can."""
    if value is None or (pd.isna(value) and not isinstance(value, float)):
        return ""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+∞" if value > 0 else "−∞"
    return f"{value:g}" if log and value <= 0 else ""


def value_range(values: pd.Series) -> str:
    """The least and the largest of ``values`` in words, and how many are not finite or not measured."""
    held = [v for v in values if isinstance(v, int | float)]
    finite = sorted(float(v) for v in held if math.isfinite(v))
    spread = f"{finite[0]:.3g}" + (f" to {finite[-1]:.3g}" if finite[-1] != finite[0] else "") if finite else ""
    said = [spread, f"{len(held) - len(finite)} not finite", f"{len(values) - len(held)} not measured"]
    return ", ".join(text for text in said if text and not text.startswith("0 not"))
