"""Small charts of one run as SVG, which a page without a script can hold."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import groupby
from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.dashboards import theme

WIDTH, HEIGHT = 280, 150
LINE, FIRES = theme.VERDICT_COLOUR.range[:2]
NOT_MEASURED = "?"
MANY = 40
"""Beyond so many numbers each is no longer marked by a point."""
AS_THEY_ARE = {"labelOverlap": False, "labelLimit": 0}
"""Labels of an axis that has room for each: to look for overlaps takes a quarter of the time of drawing."""


@dataclass(frozen=True)
class Panel:
    """Numbers over whole numbers, such as layers or epochs.

    Attributes:
        values: None: not measured.
        rules: horizontal lines, by what to call them.
        ceilings: a bar at each of these places.
        fires: the places of the values that are told apart.
        log: whether the axis of the values is logarithmic.
    """

    title: str
    x_title: str
    values: Mapping[int, float | None]
    rules: Mapping[str, float] = field(default_factory=dict)
    ceilings: Mapping[int, float] = field(default_factory=dict)
    fires: Collection[int] = ()
    log: bool = True

    @cached_property
    def inside(self) -> dict[int, float]:
        """The values that the axis can hold."""
        return {x: v for x, v in sorted(self.values.items()) if v is not None and self.holds(v)}

    @cached_property
    def outside(self) -> dict[int, str]:
        """The others, spelled."""
        others = {x: v for x, v in sorted(self.values.items()) if v is None or not self.holds(v)}
        return {x: NOT_MEASURED if v is None else theme.spelled(v, self.log) for x, v in others.items()}

    def holds(self, value: float) -> bool:
        """Whether the axis can show it."""
        return not theme.spelled(value, self.log)


@dataclass(frozen=True)
class Picture:
    """A drawn panel; ``description``: what is to be seen, for those who cannot see it."""

    svg: str
    description: str


def draw(panel: Panel) -> Picture:
    """A line that breaks where an axis cannot hold a number (NaN, infinities, 0 on a log axis) or there is none.

    Such a number is spelled at the panel's top. A rule or bar that the axis cannot hold is left out.
    """
    import vl_convert

    svg = vl_convert.vegalite_to_svg(_specification(panel), allowed_base_urls=[])
    return Picture(svg, _description(panel))


def _specification(panel: Panel) -> dict[str, Any]:
    """In Vega-Lite by hand: building it with Altair takes as long as drawing it."""
    rules = [{"y": v, "said": label} for label, v in panel.rules.items() if panel.holds(v)]
    bars = [{"x": x - 0.3, "to": x + 0.3, "y": v} for x, v in panel.ceilings.items() if panel.holds(v)]
    line = _line(panel)
    y = {"field": "y", "type": "quantitative", "title": None, **_y(panel)}
    said = {"field": "said"}
    as_it_says = {key: {"field": key, "scale": None} for key in ("shape", "color", "size")}
    layers = [
        _layer(rules, {"type": "rule", "strokeDash": [5, 3], "strokeWidth": 1.3}, x=None, y=y),
        _layer(rules, {"type": "text", "align": "right", "dy": -6}, x={"value": WIDTH - 3}, y=y, text=said),
        _layer(bars, {"type": "rule", "strokeWidth": 2}, y=y, x2={"field": "to"}),
        _layer(line, {"type": "line", "color": LINE}, y=y, detail={"field": "piece"}),
        _layer(_points(panel, line), {"type": "point", "filled": True, "opacity": 1}, y=y, **as_it_says),
        _layer(_edge(panel), {"type": "text", "fontWeight": "bold", "color": FIRES}, y={"value": 8}, text=said),
    ]
    return {
        "$schema": alt.SCHEMA_URL,
        "config": _config(),
        "title": panel.title,
        "width": WIDTH,
        "height": HEIGHT,
        "encoding": {"x": _x(panel)},
        "layer": [layer for layer in layers if layer["data"]["values"]],
    }


def _layer(rows: list[dict[str, Any]], mark: dict[str, Any], **encoding: Any) -> dict[str, Any]:
    return {"data": {"values": rows}, "mark": {"color": theme.THRESHOLD, **mark}, "encoding": encoding}


def _x(panel: Panel) -> dict[str, Any]:
    margin = 0.35 if panel.ceilings or len(panel.values) <= MANY else 0
    scale = {"domain": [min(panel.values) - margin, max(panel.values) + margin], "nice": False}
    axis = {"tickMinStep": 1, "format": "d", "tickCount": 5, "grid": False, **AS_THEY_ARE}
    return {"field": "x", "type": "quantitative", "title": panel.x_title, "scale": scale, "axis": axis}


def _y(panel: Panel) -> dict[str, Any]:
    if not panel.log:
        return {"scale": {"zero": False}, "axis": {"tickCount": 5, **AS_THEY_ARE}}
    also = [v for v in [*panel.rules.values(), *panel.ceilings.values()] if panel.holds(v)]
    axis = theme.log_axis(pd.Series([*panel.inside.values()]), also, most=5).to_dict()
    return {"scale": {"type": "log"}, "axis": {**axis, **AS_THEY_ARE}}


def _line(panel: Panel) -> list[dict[str, Any]]:
    """The points of the line, numbered by the pieces into which gaps break it."""
    pieces = groupby(sorted(panel.values), key=panel.outside.__contains__)
    return [
        {"x": x, "y": panel.inside[x], "piece": piece}
        for piece, (is_gap, places) in enumerate(pieces)
        if not is_gap
        for x in places
    ]


def _points(panel: Panel, line: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where there are many, only those that are told apart and those that no line meets."""
    usual = {"shape": "circle", "color": LINE, "size": 36}
    told_apart = {"shape": "triangle-up", "color": FIRES, "size": 80}
    pieces = [row["piece"] for row in line]
    shown = [row for row in line if len(line) <= MANY or row["x"] in panel.fires or pieces.count(row["piece"]) == 1]
    return [{**row, **(told_apart if row["x"] in panel.fires else usual)} for row in shown]


def _edge(panel: Panel) -> list[dict[str, Any]]:
    """What stands at the top; where there are many, neighbours that say the same are said once."""
    if len(panel.values) <= MANY:
        return [{"x": x, "said": said} for x, said in panel.outside.items()]
    places = groupby(sorted(panel.values), key=panel.outside.get)
    return [{"x": next(xs), "said": f"{said} …" if [*xs] else said} for said, xs in places if said]


def _description(panel: Panel) -> str:
    parts = [
        f"{panel.title}: {theme.value_range(pd.Series([*panel.values.values()], dtype=object))}",
        *(f"{label} at {v:.4g}" for label, v in panel.rules.items()),
        f"fires at {panel.x_title} {', '.join(map(str, sorted(panel.fires)))}" if panel.fires else "",
    ]
    return "; ".join(filter(None, parts)) + "."


@cache
def _config() -> dict[str, Any]:
    """The theme's."""
    found: dict[str, Any] = theme.styled(alt.Chart().mark_point()).to_dict()["config"]
    return found
