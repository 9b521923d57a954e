"""What charts of seeds share: seeds as points, their centre with its interval, thresholds, and values off the axis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.dashboards import theme
from fa_tracking.spelled import counted

OFF_AXIS = "#D55E00"
LOST = "Hollow: a diverged or aborted run; no mean includes it."
LINE = 12
"""Height of a line of n over a panel."""


@dataclass(frozen=True)
class Quantity:
    """A panel's quantity: the columns of its seeds, of their centre, and of the centre's interval where it has one."""

    column: str
    title: str
    centre: str
    interval: tuple[str, str] | None = None
    log: bool = True


def measured(rows: pd.DataFrame, quantities: Sequence[Quantity]) -> list[Quantity]:
    """The quantities that some row has."""
    return [quantity for quantity in quantities if rows[quantity.column].notna().any()]


def by_network(rows: pd.DataFrame, quantities: Sequence[Quantity], panel: Callable[..., Any]) -> Any:
    """A row of panels for each network, a column for each quantity; n stands over what is a mean over seeds.

    Args:
        rows: with the columns ``label``, ``network`` and ``place`` of a cell.
        panel: of the rows of one network and a quantity.
    """
    networks, labels = [*rows["network"].unique()], sorted(rows["label"].unique())
    n = rows["n"].unique()
    above = LINE * len(labels) if len(n) > 1 else 0
    panels = []
    for network in networks:
        here = rows[rows["network"] == network]
        for quantity in quantities:
            title = quantity.title + (f", n={n[0]}" if quantity.interval and len(n) == 1 else "")
            name = str(network) if quantity is quantities[0] else ""
            heading = theme.heading(*((name, title) if len(networks) > 1 else (title,)), above=above)
            counts = _counts(here, labels) if quantity.interval and above else []
            panels.append(alt.layer(panel(here, quantity), *counts, *heading))
    return alt.concat(*panels, columns=len(quantities), spacing=20)


def _counts(rows: pd.DataFrame, labels: list[str]) -> list[alt.Chart]:
    """Each cell's n over the panel, a line a label: there it covers no mark."""
    cells = rows[["label", "method", "architecture", "width", "penalty", "place", "n"]].drop_duplicates()
    return [
        alt.Chart(cells[cells["label"] == label])
        .transform_calculate(said="'n=' + datum.n")
        .mark_text(fontSize=10, baseline="bottom")
        .encode(x=alt.X("place:Q"), y=alt.YValue(-2 - LINE * rank), text=alt.Text("said:N"), color=_colour(labels))
        for rank, label in enumerate(reversed(labels))
        if (cells["label"] == label).any()
    ]


def on_axis(rows: pd.DataFrame, column: str, log: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows whose value an axis can hold, and those whose value is spelled, as ``edge``; NULL is in neither."""
    edge = pd.Series([theme.spelled(v, log) for v in rows[column]], rows.index, dtype=object)
    return rows[(edge == "") & rows[column].notna()], rows.assign(edge=edge)[edge != ""].drop(columns=column)


def spelled(edge: pd.DataFrame, place: str, channel: str, start: float, step: float, **where: Any) -> list[alt.Chart]:
    """The values that no axis can hold, in words at the panel's edge: several of one ``place`` beside each other.

    Args:
        channel: along which they stand, in pixels from ``start`` in steps of ``step``.
    """
    return [
        alt.Chart(group)
        .mark_text(fontSize=11, fontWeight="bold", baseline="middle", color=OFF_AXIS)
        .encode(
            text=alt.Text("edge:N"), opacity=theme.opacity(1), **where, **{channel: alt.value(start + step * int(rank))}
        )
        for rank, group in edge.groupby(edge.groupby(place).cumcount())
    ]


def thresholds(values: pd.Series) -> alt.Chart:
    """A dashed line at each of the ``values``."""
    lines = alt.Chart(pd.DataFrame({"threshold": sorted(values.dropna().unique())}, dtype=float))
    return lines.mark_rule(color=theme.THRESHOLD, strokeDash=[5, 3], strokeWidth=1.3).encode(
        x=alt.XValue(0), x2=alt.X2Value("width"), y="threshold:Q"
    )


def seeds_and_centres(rows: pd.DataFrame, quantity: Quantity, identity: Sequence[str], also: pd.Series) -> list[Any]:
    """The seeds of a panel at their ``place``, their centres joined by lines where ``line`` is one, and intervals.

    Args:
        identity: the columns of a cell, ``label``, ``line`` and ``place`` among them.
        also: further values that the axis has to hold.
    """
    inside, edge = on_axis(rows[[*identity, "seed", "state", quantity.column, "run_id"]], quantity.column, quantity.log)
    bounds = [*quantity.interval] if quantity.interval else []
    cells = rows[[*identity, "n", quantity.centre, *bounds]].drop_duplicates()
    cells = on_axis(cells, quantity.centre, quantity.log)[0]
    order = sorted(rows["label"].unique())
    padding = 10 if edge.empty else 24  # room for the words at the top
    scale = alt.Scale(type="log", padding=padding) if quantity.log else alt.Scale(zero=False, padding=padding)
    axis = theme.log_axis(inside[quantity.column], [*also]) if quantity.log else alt.Axis(tickCount=6)
    y: dict[str, Any] = {"scale": scale, "axis": axis, "title": None}
    tip = ["label:N", "penalty:Q", "width:Q", *(f"{c}:Q" for c in ("trainable_blocks",) if c in identity)]

    centres = alt.Chart(cells).encode(
        x=alt.X("place:Q"), y=alt.Y(f"{quantity.centre}:Q", **y), color=_colour(order), shape=_shape(order)
    )
    shown = [alt.Tooltip(f"{column}:Q", format=".4g") for column in (quantity.centre, *bounds)]
    seeds = (
        alt.Chart(inside)
        .mark_point(size=28, strokeWidth=1.2, xOffset=-8)
        .encode(
            x=alt.X("place:Q"),
            y=alt.Y(f"{quantity.column}:Q", **y),
            stroke=_colour(order),
            fill=_colour(order),
            fillOpacity=alt.condition("datum.state == 'complete'", alt.value(0.85), alt.value(0)),
            shape=_shape(order),
            opacity=theme.opacity(0.6),
            tooltip=theme.tooltip(
                *tip, "seed:Q", alt.Tooltip(f"{quantity.column}:Q", format=".4g"), "state:N", "run_id:N"
            ),
        )
    )
    layers = [
        centres.mark_line(strokeWidth=1.2, opacity=0.7).encode(detail=alt.Detail("line:N")),
        seeds,
        centres.mark_point(filled=True, size=80, opacity=1).encode(tooltip=theme.tooltip(*tip, "n:Q", *shown)),
        *spelled(edge, "place", "y", 8, 12, x=alt.X("place:Q")),
    ]
    if bounds:
        held = cells[cells[bounds[0]].notna()]
        interval = alt.Chart(held).mark_rule(strokeWidth=1.8)
        layers.insert(
            1,
            interval.encode(
                x=alt.X("place:Q"), y=alt.Y(f"{bounds[0]}:Q"), y2=alt.Y2(f"{bounds[1]}:Q"), color=_colour(order)
            ),
        )
    return layers


def dodged(values: pd.Series, labels: pd.Series, step: float) -> pd.Series:
    """The positive ``values``, those of each label by a factor of its own, so that marks stand beside each other."""
    order = sorted(labels.unique())
    return values.astype(float) * (1 + step) ** labels.map(lambda label: order.index(label) - (len(order) - 1) / 2)


def lost(rows: pd.DataFrame) -> str:
    """The runs that are in no mean, in words; empty where every run is complete."""
    return "".join(f", {n} {state}" for state, n in rows["state"].value_counts().items() if state != "complete")


def points(rows: pd.DataFrame, identity: Sequence[str]) -> str:
    """How many points are drawn of how many cells, in words; a point is a seed, whose runs are averaged."""
    cells = rows.groupby([*identity], dropna=False).ngroups
    return f"{counted(len(rows), 'point')} of {counted(cells, 'cell')}, one a seed{lost(rows)}"


def named(label: Any, network: Any) -> str:
    """A cell in words."""
    return f"{label} {network}".strip()


def interval_words(n: int, low: float | None, high: float | None) -> str:
    """n and the interval of a mean, or that it has none."""
    return f"n = {n}, " + (f"95 % interval {low:.3f} to {high:.3f}" if low is not None else "no interval")


def _colour(order: list[str]) -> Any:
    return alt.Color("label:N", scale=theme.method_colours(order), title=None)


def _shape(order: list[str]) -> Any:
    return alt.Shape(
        "label:N", scale=alt.Scale(domain=order, range=(theme.SHAPES * len(order))[: len(order)]), title=None
    )
