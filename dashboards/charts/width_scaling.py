"""Accuracy, growth and ‖g_L‖ over width, of networks that differ in width alone."""

from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.dashboards import theme
from fa_tracking.dashboards.charts import _marks
from fa_tracking.dashboards.charts._marks import Quantity
from fa_tracking.protocol.diagnostics import grad_norm, residual_norm

TITLE = "Width scaling: accuracy, growth and gradient norm over width"
QUERY = "width_scaling"
ORDER = 9

PANELS = (
    Quantity("accuracy", "test accuracy", "accuracy_mean", ("accuracy_low", "accuracy_high"), log=False),
    Quantity("growth", "(a) max growth of a block", "growth_median"),
    Quantity("grad_norm", "(b) norm of g_L", "grad_norm_median"),
)
THRESHOLDS = {"growth": residual_norm.THRESHOLD.name, "grad_norm": grad_norm.THRESHOLD.name}
IDENTITY = ["label", "line", "method", "architecture", "width", "penalty", "place"]
WIDTH, HEIGHT = 185, 190
DODGE = 0.06
"""Methods at one width stand this share of it apart."""


def draw(rows: pd.DataFrame) -> Any:
    """Three panels for each network, methods overlaid; a line joins networks that differ in width alone."""
    rows = _labelled(rows)
    rows = rows.assign(place=_marks.dodged(rows["width"], rows["label"], DODGE), line=rows["label"])
    widths = sorted(rows["width"].unique())
    panels = _marks.by_network(
        rows, _marks.measured(rows, PANELS), lambda here, quantity: _panel(here, quantity, widths)
    )
    caption = theme.caption(
        "Small: a seed. Large, joined: the mean accuracy of n seeds with its 95 % t interval, or the median of a norm.",
        "Dashed: the thresholds of (a) and (b).",
        *([_marks.LOST] if _marks.lost(rows) else []),
        theme.usual(rows.drop(columns="width")),
    )
    return panels.properties(title=caption)


def describe(rows: pd.DataFrame) -> str:
    """Each method from its least to its largest width."""
    rows, told = _labelled(rows), []
    for (label, network), group in rows.drop_duplicates(["label", "network", "width"]).groupby(["label", "network"]):
        ends = [f"d={c.width} {_told(c)}" for c in group.sort_values("width").iloc[[0, -1]].itertuples()]
        told.append(f"{_marks.named(label, network)}: {'; '.join(ends)}")
    return f"{_marks.points(rows, ['label', 'network', 'width'])}. {'. '.join(told)}."


def _labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """With the names of cells, and of networks but for their width."""
    others = rows.drop(columns="width")
    return rows.assign(label=theme.variant_labels(others), network=theme.network_labels(others))


def _told(cell: Any) -> str:
    accuracy, growth = ("not measured" if v is None else f"{v:.3g}" for v in (cell.accuracy_mean, cell.growth_median))
    return (
        f"accuracy {accuracy} ({_marks.interval_words(cell.n, cell.accuracy_low, cell.accuracy_high)}), growth {growth}"
    )


def _panel(rows: pd.DataFrame, quantity: Quantity, widths: list[int]) -> Any:
    used = rows[THRESHOLDS[quantity.column]].dropna() if quantity.column in THRESHOLDS else pd.Series(dtype=float)
    layers = [_marks.thresholds(used), *_marks.seeds_and_centres(rows, quantity, IDENTITY, used)]
    scale = alt.Scale(type="log", base=2, domain=[widths[0] / 1.4, widths[-1] * 1.4], nice=False)
    x = alt.X("place:Q", title="width d", axis=alt.Axis(values=[*widths], format="d", grid=False), scale=scale)
    return alt.layer(*layers).encode(x=x).properties(width=WIDTH, height=HEIGHT)
