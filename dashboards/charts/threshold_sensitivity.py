"""The thresholds against what was measured: two groups of runs, the gap between them, and what moves no verdict."""

from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.dashboards import theme

TITLE = "Threshold sensitivity: healthy and degenerate runs, and the thresholds that give the same verdicts"
QUERY = "threshold_groups"
ORDER = 11

WIDTH, HEIGHT = 270, 120

PANELS = {
    "a": ("(a) max growth of a block", True),
    "b": ("(b) larger of g_L and that at chance", True),
    "c": ("(c) cosine across batches", False),
    "d": ("(d) margin over frozen blocks, pp", False),
}
GROUPS = ["healthy", "degenerate"]
STATE_COLOUR = alt.Scale(domain=["passing", "flagged"], range=theme.VERDICT_COLOUR.range[:2])
STATE_SHAPE = alt.Scale(domain=["passing", "flagged"], range=theme.VERDICT_SHAPE.range[:2])
GAP, SAME = "#BBBBBB", "#009E73"


def draw(rows: pd.DataFrame) -> alt.VConcatChart:
    """Four panels; a mark is a run in its group. Runs without a value in a panel are counted in its subtitle."""
    rows = rows[rows["flag"].isin([*PANELS])]
    rows = rows.assign(group=[GROUPS[bool(d)] for d in rows["is_degenerate"]], cell=theme.cell_labels(rows))
    rows["place"] = theme.shifts(rows, ["flag", "group"])
    a, b, c, d = (_panel(rows, flag) for flag in PANELS)
    caption = [
        "A mark is a run; degenerate: (a) or (b) fires, or it diverged. Dashes: the threshold used. Grey: the gap",
        "between the groups. Green bar on top: thresholds that flag the same runs. (a), (b) are drawn as they judge: a",
        "class token that grows alone does not fire, nor does a g_L that a small output error explains.",
    ]
    upper, lower = alt.hconcat(a, b, spacing=24), alt.hconcat(c, d, spacing=24)
    return alt.vconcat(upper, lower, spacing=14, title=theme.caption(*caption))


def describe(rows: pd.DataFrame) -> str:
    """For each diagnostic its threshold, whether it separates the groups, and the thresholds that change no verdict."""
    edges = [edge for edge in _edges(rows) if edge["flag"] in PANELS]
    said = [f"{PANELS[e['flag']][0]}: used {e['used']:g}, {'; '.join(_told(e))}" for e in edges]
    return f"{rows['run_id'].nunique()} runs. {'. '.join(said)}."


def _edges(rows: pd.DataFrame) -> list[dict[Any, Any]]:
    return rows.drop_duplicates(["flag", "used"]).to_dict("records")


def _told(edge: dict[Any, Any]) -> list[str]:
    limits = {"from": edge["same_from"], "to": edge["same_to"]}
    same = " ".join(f"{word} {limit:.3g}" for word, limit in limits.items() if limit is not None)
    gap = sorted(v for v in (edge["healthy_edge"], edge["degenerate_edge"]) if v is not None)
    group = GROUPS[edge["n_degenerate"] > 0]
    separates = {
        None: f"one group: n={edge['n']}, {group}" if edge["n"] else "no run has a finite value",
        True: f"groups apart: gap {' to '.join(f'{v:.3g}' for v in gap)}",
        False: "groups overlap",
    }[edge["separates"]]
    return [separates, f"same verdicts {same or 'at any threshold'}"]


def _panel(rows: pd.DataFrame, flag: str) -> Any:
    title, log = PANELS[flag]
    here = rows[rows["flag"] == flag]
    edges = _edges(here)
    values = here[
        ["cell", "method", "architecture", "width", "seed", "group", "place", "state", "value", "run_id"]
    ].copy()
    values["edge"] = [theme.spelled(v, log) for v in values["value"]]
    inside = values[(values["edge"] == "") & values["value"].notna()]
    outside = values[values["edge"] != ""].drop(columns="value")
    missing = int((values["state"] == "not measured").sum())

    used = sorted(here["used"].dropna().unique())
    held = [float(v) for v in [*inside["value"], *used] if not theme.spelled(v, log)]
    low, high = (min(held), max(held)) if held else (0.1, 1.0)
    gaps = [sorted([e["healthy_edge"], e["degenerate_edge"]]) for e in edges if e["separates"]]
    before, after = (low / high * low, high / low * high) if log else (2 * low - high, 2 * high - low)  # off the panel
    same = [
        [e["same_from"] if e["same_from"] is not None else before, e["same_to"] if e["same_to"] is not None else after]
        for e in edges
    ]
    kind: dict[str, Any] = {"type": "log", "nice": False} if log else {"zero": False, "nice": True}
    scale = alt.Scale(domain=[low, high], padding=10, **kind)
    axis = theme.log_axis(inside["value"], used, most=6) if log else alt.Axis(tickCount=6)
    x = alt.X("value:Q", scale=scale, axis=axis, title=None)
    y = {
        "y": alt.Y("group:N", scale=alt.Scale(domain=GROUPS, padding=0), title=None),
        "yOffset": alt.YOffset("place:Q", scale=alt.Scale(domain=[0, 1], range=[0.12 * HEIGHT, 0.44 * HEIGHT])),
    }
    marks = (
        alt.Chart(inside)
        .mark_point(filled=True, size=42)
        .encode(
            x=x,
            **y,
            opacity=theme.opacity(0.7),
            color=alt.Color("state:N", scale=STATE_COLOUR, title="by this diagnostic"),
            shape=alt.Shape("state:N", scale=STATE_SHAPE, title="by this diagnostic"),
            tooltip=theme.tooltip(
                "cell:N", "seed:Q", alt.Tooltip("value:Q", format=".4g"), "state:N", "group:N", "run_id:N"
            ),
        )
    )
    gap = _ranges(gaps).mark_rect(color=GAP, opacity=0.45).encode(x=alt.X("low:Q"), x2=alt.X2("high:Q"))
    bar = (
        _ranges(same)
        .mark_rule(color=SAME, strokeWidth=4, clip=True)
        .encode(x=alt.X("low:Q"), x2=alt.X2("high:Q"), y=alt.YValue(4))
    )
    rule = theme.threshold_rule(used, x=alt.X("threshold:Q"))
    spelled = theme.edge_text(outside, "left", x=alt.XValue(WIDTH - 16), **y)
    subtitle = [text for e in edges for text in _told(e)]
    if missing:
        subtitle[-1] += f"; {missing} of {len(here)} runs not measured"
    heading = alt.TitleParams(title, subtitle=subtitle)
    return alt.layer(gap, rule, bar, marks, spelled).properties(width=WIDTH, height=HEIGHT, title=heading)


def _ranges(ranges: list[list[float]]) -> alt.Chart:
    return alt.Chart(pd.DataFrame(ranges, columns=["low", "high"]))
