"""Seeds as points, and below them their mean with its 95 % t interval, for accuracy and margin."""

from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.dashboards import names, theme
from fa_tracking.dashboards.charts import _marks
from fa_tracking.spelled import counted

TITLE = "Seeds: accuracy and margin over the frozen control, with mean and 95 % interval"
QUERY = "seeds"
ORDER = 3

PANELS = {"accuracy": "test accuracy", "margin_pp": "margin over the frozen control, pp"}
WIDTH, STEP, LABEL = 440, 24, 160
POINT = ["label", "method", "architecture", "width", "seed", "state", "verdict", "judged", "value", "run_id"]
MEAN = ["label", "method", "architecture", "width", "n", "mean", "low", "high"]


def draw(rows: pd.DataFrame) -> Any:
    """A line of marks a cell, sorted by mean accuracy; the cells of one network under its heading."""
    rows = _labelled(rows)
    measures = [measure for measure in PANELS if (rows["measure"] == measure).any()]
    scales = {m: _scale(rows[rows["measure"] == m]) for m in measures}
    groups, titles = [], names.fitted(map(str, rows["network"].unique()), theme.FULL_WIDTH / 12)
    for network, group in rows.groupby("network", sort=False):
        accuracy = group[group["measure"] == "accuracy"].sort_values("mean", ascending=False)
        order = [*dict.fromkeys([*accuracy["label"], *group["label"]])]
        is_last = network == rows["network"].iloc[-1]
        panels = [_panel(group, m, order, scales[m], rows["judged"], m == measures[0], is_last) for m in measures]
        title = alt.TitleParams(titles[str(network)], limit=0)
        groups.append(alt.hconcat(*panels, spacing=50).properties(title=title))
    is_frozen = rows["frozen_blocks"].map(lambda v: v is True or v == 1)
    with_margin = rows.loc[rows["measure"] == "margin_pp", "cell"]
    without = rows.loc[~rows["cell"].isin(with_margin) & ~is_frozen, "cell"].nunique()
    caption = theme.caption(
        "Upper mark: a seed. Diamond and bar below: the mean of n seeds and its 95 % t interval; none for n = 1.",
        *(["Frozen: a control, which has no margin of its own."] if is_frozen.any() else []),
        *([f"Without a margin: {counted(without, 'cell')} without a frozen control."] if without else []),
        *([_marks.LOST] if _marks.lost(rows) else []),
        theme.usual(rows),
    )
    return alt.vconcat(*groups, spacing=10, title=caption)


def describe(rows: pd.DataFrame) -> str:
    """How many seeds of how many cells, and the highest and lowest mean with n and interval."""
    rows = _labelled(rows[rows["measure"] == "accuracy"])
    means = rows[rows["mean"].notna()].drop_duplicates(["label", "network"]).sort_values("mean", ascending=False)
    said = f"{_marks.points(rows, ['label', 'network'])}."
    ends = {"Highest": means.head(1), "lowest": means.iloc[1:].tail(1)}
    told = [f"{end} mean accuracy: {_told(c)}" for end, one in ends.items() for c in one.itertuples()]
    return said + (f" {'; '.join(told)}." if told else "")


def _told(cell: Any) -> str:
    interval = _marks.interval_words(cell.n, cell.low, cell.high)
    return f"{_marks.named(cell.label, cell.network)} {cell.mean:.3f} ({interval})"


def _labelled(rows: pd.DataFrame) -> pd.DataFrame:
    labels, networks = theme.variant_labels(rows), theme.network_labels(rows)
    rows = rows.assign(label=labels, network=networks, cell=networks + labels, judged=rows["verdict"].map(theme.state))
    return rows.sort_values(["architecture", "width", "depth"], kind="stable")


def _scale(rows: pd.DataFrame) -> alt.Scale:
    held = [float(v) for c in ("value", "low", "high") for v in rows[c] if pd.notna(v) and not theme.spelled(v)]
    room = 34 if any(map(theme.spelled, rows["value"])) else 6
    return alt.Scale(domain=[min(held), max(held)] if held else [0, 1], nice=True, padding=room)


def _panel(
    group: pd.DataFrame,
    measure: str,
    order: list[str],
    scale: alt.Scale,
    verdicts: pd.Series,
    is_first: bool,
    is_last: bool,
) -> Any:
    rows = group[group["measure"] == measure]
    inside, edge = _marks.on_axis(rows[POINT], "value")
    y = alt.Y(
        "label:N",
        sort=order,
        scale=alt.Scale(domain=order),
        title=None,
        axis=alt.Axis(labels=is_first, ticks=is_first, labelLimit=0, minExtent=LABEL if is_first else 0, grid=True),
    )
    title = PANELS[measure] if is_last else None
    x: dict[str, Any] = {"scale": scale, "axis": alt.Axis(labels=is_last, ticks=is_last, title=title, tickCount=5)}
    marks = theme.verdict_marks(verdicts, "judged")
    points = (
        alt.Chart(inside)
        .mark_point(filled=True, size=42, yOffset=-5, strokeWidth=1.4)
        .encode(
            x=alt.X("value:Q", **x),
            y=y,
            fillOpacity=alt.condition("datum.state == 'complete'", alt.value(0.85), alt.value(0)),
            opacity=theme.opacity(),
            **marks,
            stroke=alt.Stroke("judged:N", scale=theme.VERDICT_COLOUR, legend=marks["color"]["legend"]),
            tooltip=theme.tooltip(
                "label:N", "seed:Q", alt.Tooltip("value:Q", format=".4g"), "verdict:N", "state:N", "run_id:N"
            ),
        )
    )
    means = rows[MEAN].drop_duplicates()
    mean = alt.Chart(means[means["mean"].notna()]).encode(y=y)
    interval = mean.mark_rule(strokeWidth=1.8, yOffset=5, y2Offset=5).encode(x=alt.X("low:Q", **x), x2=alt.X2("high:Q"))
    tip = theme.tooltip("label:N", "n:Q", *(alt.Tooltip(f"{c}:Q", format=".4g") for c in ("mean", "low", "high")))
    diamond = mean.mark_point(shape="diamond", filled=True, size=60, opacity=1, color="black", yOffset=5)
    count = alt.Chart(means).mark_text(align="left", dx=6, fontSize=11).encode(y=y, x=alt.XValue("width"))
    layers = [
        interval.transform_filter("isValid(datum.low)"),
        diamond.encode(x=alt.X("mean:Q", **x), tooltip=tip),
        points,
        count.encode(text=alt.Text("said:N")).transform_calculate(said="'n=' + datum.n"),
        *_marks.spelled(edge, "label", "x", 16, 34, y=y),
    ]
    return alt.layer(*layers).properties(width=WIDTH / 2, height=alt.Step(STEP))
