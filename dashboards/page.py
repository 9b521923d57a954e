"""The dashboard of an experiment: one HTML file that needs no network, or pictures."""

import json
from datetime import UTC, datetime
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from dashboards import theme
from dashboards.draw import answers, draw_all, write
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.results.database import DEFAULT_DATABASE
from fa_tracking.results.files import write_whole

_STYLE = """
body { font: 15px/1.5 Helvetica, Arial, sans-serif; margin: 1.5rem auto; max-width: 60rem; padding: 0 1rem }
body { color: #1b1b1b }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem } .note { color: #444 }
.chart { overflow-x: auto } table { border-collapse: collapse; font-size: 13px }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid #ddd } td.n { text-align: right }
.table { overflow-x: auto }
"""


def write_html(experiment: str, out: Path, database: str | Path = DEFAULT_DATABASE) -> None:
    """The dashboard as one self-contained HTML file.

    Raises:
        FATrackError: the file cannot be written.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"the page is HTML: name it {out.with_suffix('.html').name}, not {out.name}")
    with answers(experiment, database) as answer:
        drawn = [d for d in draw_all(experiment, answer) if d.specification]
        cells = answer("cross_seed")
    if cells.empty:
        raise FATrackError(f"the experiment {experiment!r} has no finished run to draw")
    sections = "".join(
        f'<section><h2>{escape(d.title)}</h2><div class="chart" id="{d.name}" role="img" '
        f'aria-label="{escape(d.title)}"></div></section>'
        for d in drawn
    )
    specifications = json.dumps({d.name: d.specification for d in drawn}).replace("<", "\\u003c")
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(experiment)} · FA-Track</title><style>{_STYLE}</style></head><body>
<h1>{escape(experiment)}</h1>
<p class="note">{int(cells["n_runs"].sum())} finished runs in {len(cells)} cells; made {made} by FA-Track.</p>
<h2>Cells over their seeds</h2><div class="table">{_table(cells)}</div>
{sections}
<script>{_bundle()}</script>
<script>
const specifications = {specifications};
for (const [id, specification] of Object.entries(specifications))
  vegaEmbed("#" + id, specification, {{actions: {{export: true, source: false, compiled: false, editor: false}}}});
</script></body></html>
"""
    write_whole(out, page.encode())


def write_png(experiment: str, out: Path, database: str | Path = DEFAULT_DATABASE) -> list[Path]:
    """Each chart as a picture beside ``out``: ``STEM-CHART.png``. The files written."""
    with answers(experiment, database) as answer:
        drawn = [d for d in draw_all(experiment, answer) if d.specification]
    targets = [out.with_name(f"{out.stem}-{d.name}.png") for d in drawn]
    for each, target in zip(drawn, targets, strict=True):
        write(each, target)
    return targets


def _table(cells: pd.DataFrame) -> str:
    columns = [
        "cell",
        "n",
        "n_runs",
        "n_diverged",
        "accuracy_mean",
        "accuracy_sd",
        "margin_pp_mean",
        "flags",
        "verdict",
    ]
    cells = cells.assign(cell=theme.cell_labels(cells))[columns]
    head = "".join(f"<th>{escape(c.replace('_', ' '))}</th>" for c in columns)
    body = "".join(f"<tr>{''.join(map(_table_cell, row))}</tr>" for row in cells.itertuples(index=False))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _table_cell(value: Any) -> str:
    if isinstance(value, float):
        return f'<td class="n">{value:.4g}</td>'
    if isinstance(value, int):
        return f'<td class="n">{value}</td>'
    return f"<td>{escape('' if value is None else str(value))}</td>"


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from vl-convert's own copy."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
