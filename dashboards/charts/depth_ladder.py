"""Accuracy over the number of trained blocks, the last k of L, methods overlaid; k = 0 is the frozen control."""

from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.dashboards import theme
from fa_tracking.dashboards.charts import _marks
from fa_tracking.dashboards.charts._marks import Quantity

TITLE = "Depth ladder: accuracy if only the last k blocks are trained"
QUERY = "depth_ladder_seeds"
ORDER = 10

ACCURACY = Quantity("accuracy", "test accuracy", "accuracy_mean", ("accuracy_low", "accuracy_high"), log=False)
IDENTITY = ["label", "line", "method", "architecture", "width", "penalty", "trainable_blocks", "place"]
WIDTH, HEIGHT = 480, 240
DODGE = 0.2
"""Methods at one k stand this far apart, in blocks."""


def draw(rows: pd.DataFrame) -> Any:
    """A panel for each network; a line joins cells that differ in k alone, a ring is round the best of them."""
    rows = _labelled(rows)
    order = sorted(rows["label"].unique())
    aside = rows["label"].map(lambda label: DODGE * (order.index(label) - (len(order) - 1) / 2))
    rows = rows.assign(place=rows["trainable_blocks"].astype(float) + aside, line=rows["label"])
    panels = _marks.by_network(rows, _marks.measured(rows, [ACCURACY]), _panel)
    caption = theme.caption(
        "Small: a seed. Large, joined: the mean accuracy of n seeds with its 95 % t interval.",
        "Ring: the best k of its method. Shaded: k = 0, the frozen control, and dashed its mean.",
        *([_marks.LOST] if _marks.lost(rows) else []),
        theme.usual(rows),
    )
    return panels.properties(title=caption)


def describe(rows: pd.DataFrame) -> str:
    """Each method's accuracy at every k with n and interval, its gain over the frozen control and its best k."""
    rows, told = _labelled(rows), []
    for (label, network), ladder in rows.groupby(["label", "network"]):
        rungs = [*ladder.drop_duplicates("trainable_blocks").sort_values("trainable_blocks").itertuples()]
        best: Any = rungs[0].best_blocks
        ending = "no mean accuracy" if best is None or pd.isna(best) else f"best at k = {best:.0f}"
        told.append(f"{_marks.named(label, network)}: {'; '.join(map(_told, rungs))}; {ending}")
    return f"{_marks.points(rows, ['label', 'network', 'trainable_blocks'])}. {'. '.join(told)}."


def _labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """With the names of networks, and of cells but for their k."""
    return rows.assign(label=theme.variant_labels(rows), network=theme.network_labels(rows))


def _told(rung: Any) -> str:
    mean = "not measured" if rung.accuracy_mean is None else f"{rung.accuracy_mean:.3g}"
    gain = "" if rung.gain_pp is None or pd.isna(rung.gain_pp) else f", {rung.gain_pp:+z.1f} pp"
    name = "k = 0 (frozen control)" if rung.trainable_blocks == 0 else f"k = {rung.trainable_blocks}"
    return f"{name} {mean}{gain} ({_marks.interval_words(rung.n, rung.accuracy_low, rung.accuracy_high)})"


def _panel(rows: pd.DataFrame, quantity: Quantity) -> Any:
    most = int(rows["trainable_blocks"].max())
    scale = alt.Scale(domain=[-0.5, most + 0.5], nice=False)
    axis = alt.Axis(values=[*range(most + 1)], format="d", grid=False)
    band = alt.Chart(pd.DataFrame({"left": [-0.5], "right": [0.5], "control": ["frozen control"]}))
    span = band.mark_rect(color="#F0F0F0").encode(x=alt.X("left:Q"), x2=alt.X2("right:Q"))
    word = band.mark_text(align="left", baseline="bottom", dx=4, dy=-4, fontSize=11, color=theme.THRESHOLD)
    layers = [
        span,
        word.encode(x=alt.X("left:Q"), y=alt.YValue("height"), text=alt.Text("control:N")),
        _controls(rows, most),
        *_marks.seeds_and_centres(rows, quantity, IDENTITY, rows["accuracy"]),
        _best(rows),
    ]
    x = alt.X("place:Q", title="k, number of last blocks trained", axis=axis, scale=scale)
    return alt.layer(*layers).encode(x=x).properties(width=WIDTH, height=HEIGHT)


def _controls(rows: pd.DataFrame, most: int) -> alt.Chart:
    """The mean of each frozen control across the panel, in its method's colour."""
    columns = ["label", "method", "architecture", "width", "accuracy_mean"]
    held = rows[(rows["trainable_blocks"] == 0) & rows["accuracy_mean"].notna()]
    lines = held[columns].drop_duplicates().assign(left=0, right=most + 0.5)
    return (
        alt.Chart(lines)
        .mark_rule(strokeWidth=1.2, strokeDash=[4, 3], opacity=0.8)
        .encode(x=alt.X("left:Q"), x2=alt.X2("right:Q"), y=alt.Y("accuracy_mean:Q"), color=alt.Color("label:N"))
    )


def _best(rows: pd.DataFrame) -> alt.Chart:
    columns = ["label", "method", "architecture", "width", "trainable_blocks", "place", "accuracy_mean"]
    best = rows[(rows["trainable_blocks"] == rows["best_blocks"]) & rows["accuracy_mean"].notna()]
    return (
        alt.Chart(best[columns].drop_duplicates())
        .mark_point(shape="circle", size=260, strokeWidth=1.6, color="black", filled=False)
        .encode(x=alt.X("place:Q"), y=alt.Y("accuracy_mean:Q"))
    )
