"""One look for every chart: print sizes, colours that colour-blind readers can tell apart (Okabe & Ito 2008)."""

import json
import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.protocol.verdicts import head

FULL_WIDTH, COLUMN_WIDTH = 720, 345
"""Units that a figure is wide, across a page of two columns and across one of these; text of 11 is then of 7.7 pt."""
PRINT_SCALE = 7.0 * 72 / FULL_WIDTH
"""A page of two columns holds a figure 7 inches wide."""
PICKED = "picked"
"""The parameter of each specification that holds the ids of the runs that a page has picked; null: none are."""

FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
"""It has no ‖: a text with a glyph that its font lacks is set in another font as a whole."""

HEALTHY, FLAGGED, INCONCLUSIVE, UNKNOWN = STATES = "trustworthy", "flagged", "inconclusive", "not audited"

VERDICT_COLOUR = alt.Scale(domain=STATES, range=["#0072B2", "#D55E00", "#CC79A7", "#999999"])
VERDICT_SHAPE = alt.Scale(domain=STATES, range=["circle", "triangle-up", "square", "cross"])
THRESHOLD = "#444444"
METHOD_COLOURS = {
    "bp": "#332288",
    "dfa": "#117733",
    "fa": "#999933",
    "credit_bridge": "#882255",
    "state_bridge": "#44AA99",
    "ep": "#E69F00",
    "state_bridge_direct": "#6E2C00",
    "kolen_pollack": "#88CCEE",
}
"""A method has its colour on every chart, and none is that of a verdict (after Tol 2021, "muted"); others take what is
left of these."""
"""Six of Okabe and Ito's, and two that colour-blind readers can tell from these and from black."""
SHAPES = ["diamond", "triangle-down", "triangle-right", "triangle-left", "wedge", "arrow"]
"""None is that of a verdict."""
DASHES = [[1, 0], [6, 3], [2, 2], [9, 3, 2, 3], [13, 3], [9, 2, 2, 2, 2, 2]]
LEGEND_LINE = {"symbolType": "M-1,0L5,0", "symbolOpacity": 1, "symbolStrokeWidth": 2, "labelOffset": 24, "columns": 3}
"""The symbol of a line in a legend, long enough for the period of every dash."""


def styled(chart: Any) -> Any:
    """The chart, given the fonts, sizes and grid of this project."""
    chart.config = alt.Config(  # in place: each of Altair's own methods copies the whole chart
        font=FONT,
        background="white",
        aria=False,  # a chart is told whole, in its description
        axis=alt.AxisConfig(labelFontSize=11, titleFontSize=12, titleFontWeight="normal", gridColor="#E5E5E5"),
        title=alt.TitleConfig(frame="group", fontSize=12, anchor="start", subtitleFontSize=11, subtitleColor="#444444"),
        legend=alt.LegendConfig(
            labelFontSize=11,
            titleFontSize=12,
            labelLimit=0,
            symbolSize=90,
            orient="bottom",
            direction="horizontal",
            columns=4,
        ),
        view=alt.ViewConfig(stroke="#BBBBBB"),
    )
    return chart


def method_colours(names: Sequence[str]) -> alt.Scale:
    """A colour for each of ``names``, which begin with a method: that of the method for the first one of it."""
    found: dict[str, str] = {}
    for name in names:
        own = METHOD_COLOURS.get(name.split(" ")[0])
        if own and own not in found.values():
            found[name] = own
    free = [colour for colour in METHOD_COLOURS.values() if colour not in found.values()] or [*METHOD_COLOURS.values()]
    others = (name for name in names if name not in found)
    found |= {name: free[place % len(free)] for place, name in enumerate(others)}
    return alt.Scale(domain=[*names], range=[found[name] for name in names])


def opacity(usual: float = 0.85) -> Any:
    """The opacity of a mark of one run: ``usual``, and faint where a page has picked other runs."""
    is_picked = f"!isArray({PICKED}) || indexof({PICKED}, datum.run_id) >= 0"
    return alt.OpacityValue(0.08, condition={"test": is_picked, "value": usual})


def tooltip(*fields: str | alt.Tooltip) -> list[alt.Tooltip]:
    """What is told of a mark beside the pointer; as objects, which Altair takes milliseconds to make of a text."""
    return [field if isinstance(field, alt.Tooltip) else alt.Tooltip(field) for field in fields]


def cell_labels(rows: pd.DataFrame) -> pd.Series:
    """A cell's name: its method, and in what it differs from most of ``rows``; ``usual`` says how these are."""
    labels, settings = _variants(rows), _settings(rows, SIZES | TRAINING)
    for values, most in zip(settings, _most(settings), strict=True):
        labels = labels + (" " + values).where(values != most, "")
    return _told_apart(labels, _also(rows))


def network_labels(rows: pd.DataFrame) -> pd.Series:
    """A network's name: its architecture, its size where that has several, and in what most of its cells are unusual.

    ``usual`` says what is not.
    """
    sizes, training, networks = _settings(rows, SIZES), _settings(rows, TRAINING), _networks(rows)
    most = _most(sizes + training)
    labels = sizes[0]
    for values, common in zip(sizes[1:], most[1:], strict=False):
        has_several = values.groupby(sizes[0]).transform("nunique") > 1
        labels = labels + (" " + values).where(has_several | (values != common), "")
    for values, common in zip(training, most[len(sizes) :], strict=True):
        own = _own(values, networks)
        labels = labels + (" " + own).where(own != common, "")
    return labels


def variant_labels(rows: pd.DataFrame) -> pd.Series:
    """A cell's name among those of its network: its method, and in what it differs from most of these."""
    labels, networks = _variants(rows), _networks(rows)
    for values in _settings(rows, TRAINING):
        labels = labels + (" " + values).where(values != _own(values, networks), "")
    return _told_apart(labels, _also(rows), networks)


def usual(rows: pd.DataFrame) -> str:
    """How most of ``rows`` are, in a sentence: what the names of cells and networks leave out."""
    settings = _settings(rows, SIZES | TRAINING)
    known = " ".join(most for most in _most(settings) if not most.endswith("?"))
    differ = any(values.nunique() > 1 for values in settings)
    return f"{'Unless a name says otherwise' if differ else 'All'}: {known}." if known else ""


SIZES = {"architecture": "", "width": "d=", "depth": "L="}
TRAINING = {"epochs": "epochs=", "lr": "lr=", "dataset": ""}
NAMED = ("augmentation=", "lr=", "dataset=", "trainable_blocks=")
"""How those of a cell's further params begin that a name tells in a way of its own."""


def _variants(rows: pd.DataFrame) -> pd.Series:
    said = {
        "penalty": lambda v: f" λ={v:g}" if pd.notna(v) and v else "",
        "frozen_blocks": lambda v: " frozen" if v is True or v == 1 else "",
        "augmentation": lambda v: f" {v}" if pd.notna(v) and v != "none" else "",
    }
    labels = rows["method"].fillna("?")
    for column in rows.columns.intersection([*said], sort=False):
        labels = labels + rows[column].map(said[column])
    if "also" in rows:  # of a network that is trained in part
        labels = labels + (" k=" + rows["also"].str.extract(r"(?:^| )trainable_blocks=(\S+)", expand=False)).fillna("")
    return labels


def _settings(rows: pd.DataFrame, columns: dict[str, str]) -> list[pd.Series]:
    """Each of the columns that ``rows`` have, as text; the data set stands among the further params where it varies."""
    if "also" in rows and rows["also"].str.contains("dataset=").any():
        rows = rows.assign(dataset=rows["also"].str.extract(r"(?:^| )dataset=(\S+)", expand=False))
    return [
        rows[column].map(lambda v, sign=sign: sign + ("?" if pd.isna(v) else str(v)))
        for column, sign in columns.items()
        if column in rows
    ]


def _networks(rows: pd.DataFrame) -> pd.Series:
    """What tells one network from another."""
    return pd.Series([" ".join(row) for row in zip(*_settings(rows, SIZES), strict=True)], rows.index)


def _own(values: pd.Series, networks: pd.Series) -> pd.Series:
    """What most of each row's network have."""
    return values.groupby(networks).transform(lambda group: group.mode()[0])


def _most(settings: list[pd.Series]) -> tuple[str, ...]:
    """The settings that stand together most often."""
    return pd.Series([*zip(*settings, strict=True)]).mode()[0]


def _also(rows: pd.DataFrame) -> pd.Series:
    """The params that have no part of their own in a name."""
    words = rows["also"].fillna("").str.split(" ") if "also" in rows else pd.Series([[]] * len(rows), rows.index)
    return words.map(lambda told: " ".join(w for w in told if not w.startswith(NAMED)))


def _told_apart(labels: pd.Series, values: pd.Series, within: pd.Series | None = None) -> pd.Series:
    """The labels, with the values where a label has several of them, in one group of ``within``."""
    several = values.groupby([labels] if within is None else [labels, within]).nunique() > 1
    ambiguous = several[several].index.get_level_values(0)
    return labels + (" " + values).where(labels.isin(ambiguous), "")


def shifts(rows: pd.DataFrame, by: list[str]) -> pd.Series:
    """Where each of the rows that share ``by`` stands in their common room, from 0 to 1."""
    groups = rows.groupby(by, dropna=False)
    return (groups.cumcount() + 0.5) / groups[by[0]].transform("size")


def state(verdict: str) -> str:
    """Which of ``STATES`` a verdict is."""
    said = head(verdict)
    return said if said in STATES else FLAGGED


def verdict_marks(states: pd.Series, field: str = "state") -> dict[str, Any]:
    """Colour and shape of the field that holds ``states``; their one legend has those that there are."""
    legend = alt.Legend(title="verdict of the run", values=[s for s in STATES if s in set(states)])
    return {
        "color": alt.Color(f"{field}:N", scale=VERDICT_COLOUR, legend=legend),
        "shape": alt.Shape(f"{field}:N", scale=VERDICT_SHAPE, legend=legend),
    }


def caption(*lines: str) -> alt.TitleParams:
    """What a chart says above its panels."""
    return alt.TitleParams([*lines], frame="bounds", fontSize=11, fontWeight="normal", color="#444444", offset=8)


def heading(title: str, *lines: str, above: float = 0) -> list[alt.Chart]:
    """What stands over a panel, always as far above it: a title's place depends on what sticks out of the panel.

    Args:
        above: pixels that are left free between the panel and the last of the ``lines``.
    """
    said: list[tuple[str, dict[str, Any]]] = [(title, {"fontSize": 12, "fontWeight": "bold"})]
    said += [(line, {"fontSize": 11, "color": "#444444"}) for line in lines]
    return [
        alt.Chart(pd.DataFrame({"heading": [text]}))
        .mark_text(align="left", baseline="bottom", **look)
        .encode(text=alt.Text("heading:N"), x=alt.XValue(0), y=alt.YValue(-4 - above - 14 * place))
        for place, (text, look) in enumerate(reversed(said))
        if text
    ]


def edge_text(rows: pd.DataFrame, beside: str, **encoding: Any) -> alt.Chart:
    """What ``spelled`` says, the field ``edge``, at the edge of a panel; NaN apart from the rest.

    Args:
        beside: where the rest stands, ``left`` of NaN or ``below`` it.
    """
    shift, by = {"left": ("dx", -26), "below": ("dy", 11)}[beside]
    aside: dict[str, Any] = {shift: alt.ExprRef(f"datum.edge == 'NaN' ? 0 : {by}")}
    mark = alt.Chart(rows).mark_text(fontSize=10, fontWeight="bold", color="#D55E00", **aside)
    return mark.encode(text=alt.Text("edge:N"), opacity=opacity(1), **encoding)


def threshold_rule(values: Sequence[float], **encoding: Any) -> alt.Chart:
    """A dashed line at each of ``values``, the field ``threshold``."""
    rule = alt.Chart(pd.DataFrame({"threshold": values}))
    return rule.mark_rule(color=THRESHOLD, strokeDash=[5, 3], strokeWidth=1.3).encode(**encoding)


def log_axis(values: pd.Series, also: Sequence[float] = (), most: int = 8) -> alt.Axis:
    """An axis with a line a decade over the positive finite ``values``, or every few decades: ``most`` lines or so."""
    finite = [float(v) for v in (*values, *also) if v is not None and not spelled(v, log=True)]
    low, high = (math.floor(math.log10(min(finite))), math.ceil(math.log10(max(finite)))) if finite else (0, 1)
    decades = range(low, min(high, 308) + 1, max(1, math.ceil((high - low) / most)))  # 1e309 is infinite
    return alt.Axis(format=".0e", values=[10.0**k for k in decades], labelFlush=False)


def spelled(value: float | None, log: bool = False) -> str:
    """What a mark at the panel's edge says of a value that an axis cannot hold; empty for one that it can."""
    if value is None or (pd.isna(value) and not isinstance(value, float)):
        return ""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+∞" if value > 0 else "−∞"
    return f"{value:g}" if log and value <= 0 else ""


def held(values: pd.Series, log: bool = False) -> pd.Series:
    """The values, None where an axis cannot hold one: a line breaks there."""
    return pd.Series([None if spelled(v, log) else v for v in values], values.index, dtype=object)


def value_range(values: pd.Series) -> str:
    """The least and the largest of ``values`` in words, and how many are not finite or not measured."""
    held = [v for v in values if isinstance(v, int | float)]
    finite = sorted(float(v) for v in held if math.isfinite(v))
    spread = f"{finite[0]:.3g}" + (f" to {finite[-1]:.3g}" if finite[-1] != finite[0] else "") if finite else ""
    said = [spread, f"{len(held) - len(finite)} not finite", f"{len(values) - len(held)} not measured"]
    return ", ".join(text for text in said if text and not text.startswith("0 not"))


def literal(value: Any) -> str:
    """A value as a literal of Vega's expressions, whatever text of a run it holds."""
    return json.dumps(value, ensure_ascii=False)
