"""Training on each architecture side by side: the median over the seeds and their range, methods overlaid."""

from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.dashboards import theme
from fa_tracking.dashboards.charts import _training

TITLE = "Training across architectures: residual norm, gradient norm and accuracy over the seeds"
QUERY = "training_by_cell"
ORDER = 8

DRAWN = ("median", "lowest", "highest")

MOST = 10
"""Networks that are drawn: beside more, none is wide enough to be read."""
ROOM, WIDEST, SPACING, HEIGHT, LABELS = theme.FULL_WIDTH - 120, 270, 12, 120, 28


def draw(rows: pd.DataFrame) -> alt.HConcatChart:
    """A column a network, a row a quantity: a line is the median of a cell's seeds, a band reaches over all of them."""
    rows = _training.named(rows)
    every = _training.networks(rows)
    networks = every[:MOST]
    rows = rows[rows["network"].isin(networks)]
    columns = [_network(rows, name, len(networks)) for name in networks]
    n = theme.value_range(rows["n"])
    caption = [
        f"Lines: median over a cell's seeds, n = {n}; bands: lowest to highest.",
        "n×k: here the first of k runs is not finite any more.",
    ]
    if not rows["n_not_finite"].any():
        caption.pop()
    if len(networks) < len(every):
        caption.append(f"Drawn: the first {len(networks)} of {len(every)} networks.")
    caption.append(theme.usual(rows))
    return alt.hconcat(*columns, spacing=SPACING, title=theme.caption(*caption))


def describe(rows: pd.DataFrame) -> str:
    """The networks, and where the medians of each end."""
    rows = _training.named(rows)
    last = rows.loc[rows.groupby(["network", "cell", "quantity"])["epoch"].idxmax()]
    said = [f"{name}: {_ends(last[last['network'] == name])}" for name in _training.networks(rows)]
    return f"Medians of {last.groupby(['network', 'cell']).ngroups} cells at their last epoch. {'. '.join(said)}."


def _ends(last: pd.DataFrame) -> str:
    medians = {q: last.loc[last["quantity"] == q, "median"] for q in _training.PANELS}
    titles = _training.PANELS
    return "; ".join(f"{titles[q]} {theme.value_range(values)}" for q, values in medians.items() if len(values))


def _network(rows: pd.DataFrame, network: str, of: int) -> Any:
    width = min(WIDEST, (ROOM - (of - 1) * SPACING) / of)
    first = network == _training.networks(rows)[0]
    here = rows[rows["network"] == network]
    words = network.split(" ")
    most = max(name.count(" ") + 1 for name in _training.networks(rows))
    heading = theme.heading(*words, *[""] * (most - len(words)))
    panels = [
        alt.layer(*_layers(rows, here, q, first), *(heading if q == next(iter(_training.PANELS)) else []))
        for q in _training.PANELS
    ]
    panels = [panel.properties(width=width, height=HEIGHT) for panel in panels]
    # flush: else a label that reaches beyond the end of an axis moves the panels of its column
    return alt.vconcat(*panels, spacing=LABELS, bounds="flush")


def _layers(rows: pd.DataFrame, here: pd.DataFrame, quantity: str, first: bool) -> list[Any]:
    kept = ["cell", "variant", "method", "architecture", "width", "epoch", "n", "n_not_finite", *DRAWN]
    log = quantity in _training.LOG
    values = here.loc[here["quantity"] == quantity, kept].copy()
    lost = values[values["n_not_finite"] > 0].drop(columns=[*DRAWN])
    most = lost.groupby("cell")["n_not_finite"].transform("max")
    lost = lost.assign(edge=[f"n×{n}" for n in most]).drop_duplicates("cell")
    for column in DRAWN:
        values[column] = theme.held(values[column], log)

    everything = rows[rows["quantity"] == quantity]
    title = _training.PANELS[quantity] if first else None
    marks = _training.marks(rows)
    x = _training.x_axis(titled=quantity == [*_training.PANELS][-1])

    def y(column: str) -> alt.Y:
        return _training.y_axis(everything, quantity, [column, *DRAWN], shown=first, title=title)

    data = alt.Chart(values)
    band = {"y": y("lowest"), "y2": alt.Y2("highest:Q"), "color": marks["color"]}
    bands = data.mark_area(opacity=0.18).encode(x=x, detail=alt.Detail("cell:N"), **band)
    told = theme.tooltip(
        "cell:N", "epoch:Q", "n:Q", "n_not_finite:Q", *(alt.Tooltip(f"{c}:Q", format=".4g") for c in DRAWN)
    )
    lines = data.mark_line(strokeWidth=1.4, point=_training.points(values))
    lines = lines.encode(x=x, y=y("median"), detail=alt.Detail("cell:N"), tooltip=told, **marks)
    rules = theme.threshold_rule(_training.floors_of(everything, quantity), y=alt.Y("threshold:Q"))
    counts = alt.Chart(lost).mark_text(fontSize=10, fontWeight="bold")
    counts = counts.encode(x=alt.X("epoch:Q"), y=alt.YValue(6), text=alt.Text("edge:N"), color=marks["color"])
    return [bands, rules, lines, counts]
