"""Draws a chart of the catalogue from an experiment's rows, and writes it as a picture, a document or a page."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
from altair.utils.schemapi import debug_mode

from fa_tracking import catalogue
from fa_tracking.dashboards import charts, theme
from fa_tracking.dashboards.names import Glyphs, with_fitted
from fa_tracking.dashboards.thin import thinned
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.protocol.verdicts import caveats
from fa_tracking.results.database import DEFAULT_DATABASE, Query, ask, connect, explain_query, find_query, sql_errors
from fa_tracking.results.export.source import Progress, unseen
from fa_tracking.results.files import write_whole
from fa_tracking.untrusted import one_line

PNG_PPI = 300
"""Pixels to the inch of a PNG where it stands as large as the PDF."""


@dataclass(frozen=True)
class Drawn:
    """A chart of the catalogue, drawn from an experiment's rows.

    Attributes:
        query: that the rows are the answer of; ``sql`` is that question as it was asked.
        specification: in Vega-Lite; None where there is nothing to draw.
        description: what is to be seen, for those who cannot see it.
    """

    name: str
    title: str
    query: Query
    sql: str
    rows: pd.DataFrame
    specification: dict[str, Any] | None
    description: str


Answer = Callable[[str], pd.DataFrame]
"""answer(query): the rows of a query of the catalogue, about one experiment of one database."""


@contextmanager
def answers(experiment: str, database: str | Path = DEFAULT_DATABASE, glyphs: Glyphs | None = None) -> Iterator[Answer]:
    """Asks the database about ``experiment``; each query is asked once. Texts are as ``one_line`` makes them.

    Args:
        glyphs: for pictures, replaces what their fonts lack; None: for a page, whose browser looks for fonts itself.

    Raises:
        UsageError: no such database or experiment.
    """
    with connect(database) as connection:

        @cache
        def answer(query: str) -> pd.DataFrame:
            with sql_errors():
                relation = ask(connection, find_query(query), experiment)
                # through Python objects: DuckDB's own data frame turns NULL into NaN, and NaN must stay apart from it
                rows = [[_printable(value, glyphs) for value in row] for row in relation.fetchall()]
                return pd.DataFrame(rows, columns=relation.columns, dtype=object)

        yield answer


def _printable(value: Any, glyphs: Glyphs | None) -> Any:
    """A value that a chart can hold: what draws it ends the process at a character that XML lacks."""
    if not isinstance(value, str):
        return value
    line = value if value.isprintable() else one_line(value)
    return glyphs.replace(line) if glyphs else line


def draw(name: str, experiment: str, answer: Answer) -> Drawn:
    """The chart ``name`` of ``experiment``.

    Raises:
        UsageError: there is no such chart.
    """
    chart = catalogue.load(charts, name)
    query, rows = find_query(chart.QUERY), answer(chart.QUERY)
    sql = explain_query(query, experiment)
    if rows.empty:
        nothing = f"Nothing to draw: the query {query.name} has no rows for {experiment}: {query.title}."
        return Drawn(name, chart.TITLE, query, sql, rows, None, nothing)
    few, left_out = thinned(rows)
    description = one_line(" ".join(filter(None, [chart.describe(rows), left_out])))
    with debug_mode(False):  # validated once, as a whole
        said = [left_out, *caveats(rows["verdict"].dropna() if "verdict" in rows else ())]
        whole = theme.styled(_saying([line for line in said if line], chart.draw(few)))
    with alt.data_transformers.enable(max_rows=None):  # Altair's limit is for notebooks; here the page packs the rows
        specification = with_fitted(_as_json(whole.to_dict()))
    _leave_out_empty_layers(specification, specification["datasets"])
    specification["description"] = f"{chart.TITLE}. {description}"
    specification["params"] = [*specification.get("params", []), {"name": theme.PICKED, "value": None}]
    return Drawn(name, chart.TITLE, query, sql, rows, specification, description)


def _saying(lines: list[str], chart: Any) -> Any:
    """The chart with lines above its panels, on what it does not show and what a reader must know."""
    if not lines:
        return chart
    said = chart.title.text if isinstance(chart.title, alt.TitleParams) else []
    return chart.properties(title=theme.caption(*said, *lines))


def _as_json(value: Any) -> Any:
    """NaN and infinities as null, the only way that JSON has; a chart spells them in words where it means them."""
    if isinstance(value, dict):
        return {key: _as_json(held) for key, held in value.items()}
    if isinstance(value, list):
        return [_as_json(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _leave_out_empty_layers(view: dict[str, Any], datasets: Mapping[str, Any]) -> None:
    """Layers without rows show nothing, and Vega warns that their axes have no extent."""
    if "layer" in view:
        full = [layer for layer in view["layer"] if datasets.get(layer.get("data", {}).get("name")) != []]
        view["layer"] = full or view["layer"][:1]  # a panel of its own stays, to show that it is empty
    for part in ("layer", "concat", "hconcat", "vconcat"):
        for inner in view.get(part, []):
            _leave_out_empty_layers(inner, datasets)


def draw_all(experiment: str, answer: Answer, progress: Progress = unseen) -> list[Drawn]:
    """Every chart of the catalogue, those with nothing to draw among them."""
    drawn: list[Drawn] = []
    for name in names():
        drawn.append(draw(name, experiment, answer))
        progress(len(drawn), len(names()))
    return drawn


def names() -> list[str]:
    """The catalogue, in the order of a page."""
    return sorted(catalogue.names(charts), key=lambda name: getattr(catalogue.load(charts, name), "ORDER", math.inf))


def render(drawn: Drawn, form: str) -> bytes:
    """The chart as a file of the format ``form``, one of ``FORMATS``. Nothing is loaded from anywhere, then or later.

    Raises:
        FATrackError: there is nothing to draw.
    """
    if drawn.specification is None:
        raise FATrackError(drawn.description.removesuffix("."))
    return FORMATS[form](drawn.specification)


def write(drawn: Drawn, out: Path) -> None:
    """The chart as the file ``out``, in the format that its name ends with.

    Raises:
        UsageError: its name ends with none of ``FORMATS``.
        FATrackError: there is nothing to draw, or the file cannot be written.
    """
    write_whole(out, render(drawn, format_of(out)))


def format_of(out: Path) -> str:
    """Which of ``FORMATS`` a file's name ends with.

    Raises:
        UsageError: none.
    """
    form = out.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise UsageError(f"{out}: a chart's file name must end in {', '.join(f'.{f}' for f in FORMATS)}")
    return form


def _html(specification: dict[str, Any]) -> bytes:
    import vl_convert

    return vl_convert.vegalite_to_html(specification, bundle=True).encode()


def _png(specification: dict[str, Any]) -> bytes:
    import vl_convert

    return vl_convert.vegalite_to_png(specification, scale=theme.PRINT_SCALE, ppi=PNG_PPI, allowed_base_urls=[])


def _svg(specification: dict[str, Any]) -> bytes:
    import vl_convert

    return vl_convert.vegalite_to_svg(specification, allowed_base_urls=[]).encode()


def _pdf(specification: dict[str, Any]) -> bytes:
    import vl_convert

    return vl_convert.svg_to_pdf(_in_print(_svg(specification).decode()))


def _in_print(svg: str) -> str:
    """The picture with the size that it is printed at; a unit of a PDF is a point."""
    return re.sub(
        r'(?<= )(width|height)="([\d.]+)"', lambda s: f'{s[1]}="{float(s[2]) * theme.PRINT_SCALE:g}"', svg, count=2
    )


def _json(specification: dict[str, Any]) -> bytes:
    return json.dumps(specification, indent=1, ensure_ascii=False).encode()


STILL = ("png", "pdf")
"""Formats whose letters are drawn here; those of the others by whoever shows them."""
FORMATS = {"html": _html, "png": _png, "svg": _svg, "pdf": _pdf, "json": _json}
