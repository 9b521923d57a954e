"""Small charts of one run as SVG, which a page without a script can hold."""

import math
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from typing import Any

import pandas as pd

from dashboards import theme

WIDTH, HEIGHT = 280, 150
TOP, RIGHT, BOTTOM, LEFT = 28, 14, 38, 44
X_TICKS, Y_TICKS = 8, 5
LEAST_SPREAD = 1e-9
"""Of the values of a linear axis, relative to them: below it they are drawn as one."""
LARGEST_TICKED = 1e300
"""Beyond it round numbers around the values of a linear axis may be infinite."""
CIRCLE, TRIANGLE = "M3.4,0A3.4,3.4,0,1,1,-3.4,0A3.4,3.4,0,1,1,3.4,0", "M0,-6L5.2,3.2H-5.2Z"
LINE, FIRES = theme.VERDICT_COLOUR.range[:2]
NOT_MEASURED = "?"
MANY = 40
"""Beyond so many numbers each is no longer marked by a point."""


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

    @property
    def inside(self) -> dict[int, float]:
        """The values that the axis can hold."""
        return {x: v for x, v in sorted(self.values.items()) if v is not None and self.holds(v)}

    @property
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

    Such a number is spelled at the panel's top. A rule or bar that the axis cannot hold is left out. Written as SVG by
    hand: an audit draws five a run, and Vega takes as long over one as the network takes over a forward pass.
    """
    x, y = _x(panel), _y(panel)
    line = _line(panel)
    inside = [
        *_grid(x, y),
        *_rules(panel, y),
        *_bars(panel, x, y),
        _group("mark-line", _lines(line, x, y)),
        _group("mark-symbol", (_symbol(row, x, y) for row in _points(panel, line))),
        *(_text(x.at(row["x"]), 11, row["said"], 11, f'font-weight="bold" fill="{FIRES}"') for row in _edge(panel)),
        _text(0, -12, panel.title, 12, 'text-anchor="start" font-weight="bold"'),
        _text(WIDTH / 2, HEIGHT + 31, panel.x_title, 12),
    ]
    width, height = LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="{theme.FONT}" text-anchor="middle"><rect width="{width}" height="{height}" fill="white"/>'
        f'<g transform="translate({LEFT},{TOP})">{"".join(inside)}</g></svg>'
    )
    return Picture(svg, _description(panel))


@dataclass(frozen=True)
class _Axis:
    """From a number to its place in pixels, ``low`` at ``start`` and ``high`` at ``end``; ticks with their labels."""

    low: float
    high: float
    start: float
    end: float
    ticks: Mapping[float, str]
    log: bool = False

    def at(self, value: float) -> float:
        return self.place(math.log10(value) if self.log else value)

    def place(self, tick: float) -> float:
        share = (tick / 2 - self.low / 2) / (self.high / 2 - self.low / 2)  # the whole difference may be infinite
        return round(self.start + share * (self.end - self.start), 1)


def _x(panel: Panel) -> _Axis:
    first, last = min(panel.values), max(panel.values)
    margin = 0.35 if panel.ceilings or len(panel.values) <= MANY else 0
    step = max(1, math.ceil(_step((last - first) / X_TICKS)))
    ticks = {float(n): f"{n}" for n in range(math.ceil(first / step) * step, last + 1, step)}
    return _Axis(first - margin, last + margin, 0, WIDTH, ticks)


def _y(panel: Panel) -> _Axis:
    also = [*panel.rules.values(), *(panel.ceilings.values() if panel.log else ())]
    shown = [*panel.inside.values(), *(v for v in also if panel.holds(v))] or [1.0]
    if panel.log:
        decades = theme.decades(shown)
        low, high = math.floor(math.log10(min(shown))), math.ceil(math.log10(max(shown)))
        return _Axis(low, max(high, low + 1), HEIGHT, 0, {k: f"1e{k:+d}" for k in decades}, log=True)
    low, high = min(shown), max(shown)
    largest = max(abs(low), abs(high))
    if high - low <= LEAST_SPREAD * largest or largest > LARGEST_TICKED:
        low, high = max(low - largest / 2 - 0.1, -sys.float_info.max), min(high + largest / 2 + 0.1, sys.float_info.max)
        return _Axis(low, high, HEIGHT, 0, {low: f"{low:.3g}", high: f"{high:.3g}"})
    step = _step((high - low) / Y_TICKS)
    steps = range(math.floor(low / step), math.ceil(high / step) + 1)
    return _Axis(steps[0] * step, steps[-1] * step, HEIGHT, 0, {n * step: f"{n * step:.6g}" for n in steps})


def _step(least: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is not below ``least``."""
    if least <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(least))
    return next((n * power for n in (1, 2, 5) if n * power >= least), 10 * power)


def _grid(x: _Axis, y: _Axis) -> Iterator[str]:
    places = {y.place(tick): said for tick, said in y.ticks.items()}
    yield from (_line_of(0, place, WIDTH, place, 'stroke="#E5E5E5"') for place in places)
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#BBBBBB"/>'
    yield from (_text(-6, place + 4, said, 11, 'text-anchor="end"') for place, said in places.items())
    for tick, said in x.ticks.items():
        yield _line_of(x.at(tick), HEIGHT, x.at(tick), HEIGHT + 5, 'stroke="#888"')
        yield _text(x.at(tick), HEIGHT + 16, said, 11)


def _rules(panel: Panel, y: _Axis) -> Iterator[str]:
    for label, value in panel.rules.items():
        if panel.holds(value):
            dashed = f'stroke="{theme.THRESHOLD}" stroke-width="1.3" stroke-dasharray="5,3"'
            yield _line_of(0, y.at(value), WIDTH, y.at(value), dashed)
            yield _text(WIDTH - 3, y.at(value) - 4, label, 11, f'text-anchor="end" fill="{theme.THRESHOLD}"')


def _bars(panel: Panel, x: _Axis, y: _Axis) -> Iterator[str]:
    for place, value in panel.ceilings.items():
        if panel.holds(value):
            ends = (x.at(place - 0.3), y.at(value), x.at(place + 0.3), y.at(value))
            yield _line_of(*ends, f'stroke="{theme.THRESHOLD}" stroke-width="2"')


def _lines(line: list[dict[str, Any]], x: _Axis, y: _Axis) -> Iterator[str]:
    for _, piece in groupby(line, key=lambda row: row["piece"]):
        places = "L".join(f"{x.at(row['x'])},{y.at(row['y'])}" for row in piece)
        yield f'<path d="M{places}" fill="none" stroke="{LINE}" stroke-width="2"/>'


def _symbol(row: dict[str, Any], x: _Axis, y: _Axis) -> str:
    return f'<path transform="translate({x.at(row["x"])},{y.at(row["y"])})" d="{row["shape"]}" fill="{row["color"]}"/>'


def _group(name: str, marks: Iterable[str]) -> str:
    return f'<g class="{name}">{"".join(marks)}</g>'


def _line_of(x: float, y: float, to_x: float, to_y: float, style: str) -> str:
    return f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" {style}/>'


def _text(x: float, y: float, said: str, size: int, style: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}px" {style}>{escape(said)}</text>'


def _line(panel: Panel) -> list[dict[str, Any]]:
    """The points of the line, numbered by the pieces into which gaps break it."""
    inside = panel.inside
    pieces = groupby(sorted(panel.values), key=lambda x: x not in inside)
    return [
        {"x": x, "y": inside[x], "piece": piece}
        for piece, (is_gap, places) in enumerate(pieces)
        if not is_gap
        for x in places
    ]


def _points(panel: Panel, line: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where there are many, only those that are told apart and those that no line meets."""
    usual = {"shape": CIRCLE, "color": LINE}
    told_apart = {"shape": TRIANGLE, "color": FIRES}
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
