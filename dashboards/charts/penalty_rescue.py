"""What the residual penalty rescues: ‖h_L‖, ‖g_2‖ and accuracy over λ, the frozen control beside the accuracy."""

from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.dashboards import theme
from fa_tracking.dashboards.charts import _marks
from fa_tracking.dashboards.charts._marks import Quantity

TITLE = "Penalty rescue: residual norm, gradient norm and accuracy over λ"
QUERY = "penalty_rescue"
ORDER = 6

PANELS = (
    Quantity("residual_norm", "norm of h_L", "residual_norm_median"),
    Quantity("grad_norm_2", "norm of g_2", "grad_norm_2_median"),
    Quantity("accuracy", "test accuracy", "accuracy_mean", ("accuracy_low", "accuracy_high"), log=False),
)
IDENTITY = ["label", "line", "method", "architecture", "width", "penalty", "place"]
WIDTH, HEIGHT = 185, 190
DODGE = 0.35
"""Methods at one λ stand this share of it apart."""


def draw(rows: pd.DataFrame) -> Any:
    """Three panels for each network; λ = 0 has a place of its own, left of the least penalty."""
    least = min(v for v in rows["penalty"] if v > 0)
    place = rows["penalty"].map(lambda v: v or least / 10)
    rows = _labelled(rows)
    rows = rows.assign(place=_marks.dodged(place, rows["label"], DODGE), line=rows["label"])
    places = sorted(place.unique())
    panels = _marks.by_network(
        rows, _marks.measured(rows, PANELS), lambda here, quantity: _panel(here, quantity, places)
    )
    caption = theme.caption(
        "Small: a seed. Large, joined: the median of a norm, or the mean accuracy of n seeds with its 95 % t interval.",
        "Dashed across: the floor of (b). Short, dashed: the frozen control; short, solid: where (d) begins to pass.",
        *([_marks.LOST] if _marks.lost(rows) else []),
        theme.usual(rows),
    )
    return panels.properties(title=caption)


def describe(rows: pd.DataFrame) -> str:
    """Each method's norm and accuracy at every penalty, with n and interval."""
    rows, cell = _labelled(rows), ["label", "network", "penalty"]
    told = "; ".join(_told(one) for one in rows.drop_duplicates(cell).itertuples())
    return f"{_marks.points(rows, cell)}. {told}."


def _labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """With the names of networks, and of cells but for their λ."""
    return rows.assign(label=theme.variant_labels(rows.drop(columns="penalty")), network=theme.network_labels(rows))


def _told(cell: Any) -> str:
    interval = _marks.interval_words(cell.n, cell.accuracy_low, cell.accuracy_high)
    norms = f"norm of h_L {_number(cell.residual_norm_median)}, norm of g_2 {_number(cell.grad_norm_2_median)}"
    name = f"{_marks.named(cell.label, cell.network)} λ={cell.penalty:g}"
    return f"{name}: {norms}, accuracy {_number(cell.accuracy_mean)} ({interval})"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"


def _panel(rows: pd.DataFrame, quantity: Quantity, places: list[float]) -> Any:
    references = {"grad_norm_2": ["g_norm_floor"], "accuracy": ["control", "passes_from"]}.get(quantity.column, [])
    also = pd.concat([rows[c] for c in references]) if references else pd.Series(dtype=float)
    layers = _marks.seeds_and_centres(rows, quantity, IDENTITY, also)
    if quantity.column == "grad_norm_2":
        layers.insert(0, _marks.thresholds(also))
    for column, dash in (("control", [4, 2]), ("passes_from", [1, 0])) if quantity.column == "accuracy" else ():
        layers.insert(0, _beside(rows, column, dash))
    least = places[1]
    axis = alt.Axis(
        values=places, labelExpr=f"datum.value < {least * 0.99} ? '0' : format(datum.value, '~g')", grid=False
    )
    scale = alt.Scale(type="log", domain=[places[0] / 2.5, places[-1] * 2.5], nice=False)
    broken = alt.Chart(pd.DataFrame({"broken": [(places[0] * least) ** 0.5]}))
    layers.insert(0, broken.mark_rule(color="#BBBBBB", strokeDash=[2, 3]).encode(x=alt.X("broken:Q")))
    chart = alt.layer(*layers).encode(x=alt.X("place:Q", title="λ", axis=axis, scale=scale))
    return chart.properties(width=WIDTH, height=HEIGHT)


def _beside(rows: pd.DataFrame, column: str, dash: list[int]) -> alt.Chart:
    """A short line at each λ, in its method's colour: what the accuracies there are held against."""
    lines = rows.loc[rows[column].notna(), ["label", "penalty", "place", column]].drop_duplicates()
    lines = lines.assign(left=lines["place"] / 1.5, right=lines["place"] * 1.5)
    return (
        alt.Chart(lines)
        .mark_rule(strokeWidth=1.5, strokeDash=dash)
        .encode(x=alt.X("left:Q"), x2=alt.X2("right:Q"), y=alt.Y(f"{column}:Q"), color=alt.Color("label:N"))
    )
