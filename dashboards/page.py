"""The dashboard of an experiment: one HTML page that needs no network, or pictures."""

import base64
import gzip
import json
import os
import zlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from fa_tracking import html
from fa_tracking.dashboards import board
from fa_tracking.dashboards.draw import Answer, answers, draw_all, write
from fa_tracking.dashboards.names import Glyphs
from fa_tracking.dashboards.thin import first_groups
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.protocol.verdicts import caveats
from fa_tracking.publishing.cell_tables import DIAGNOSTICS
from fa_tracking.publishing.tables import numeric_columns
from fa_tracking.results.database import DEFAULT_DATABASE, Query, explain_query, find_query
from fa_tracking.results.export.source import Progress, unseen
from fa_tracking.results.files import write_whole
from fa_tracking.spelled import counted, short
from fa_tracking.tracking import address
from fa_tracking.untrusted import one_line

FILTERS = ("experiment", "method", "architecture", "width", "seed", "state")
"""What a page chooses runs by; those that have one value are not offered."""
FIRST_ROWS = 200
"""Rows of a query that the page lists."""
BOARD_RUNS = 1_500
"""Runs that the board of a page holds, in whole cells; each is some 1.5 kB."""
FOLDED_FROM = 60
"""Runs from which on a board begins with its cells folded."""


@dataclass(frozen=True)
class Answered:
    """What a page says of a query: its question, what n is, its SQL as asked, and how much is behind it."""

    name: str
    title: str
    notes: str
    sql: str
    behind: str
    is_cut: bool


def page(experiment: str, answer: Answer, mlflow_url: str | None = None, progress: Progress = unseen) -> str:
    """The dashboard of ``experiment`` as HTML that loads nothing.

    Args:
        answer: of ``fa_tracking.dashboards.draw.answers``.
        mlflow_url: where MLflow's UI is; without it, the server that the runs were exported from, else
            ``address.UI``.

    Raises:
        UsageError: ``mlflow_url`` is no address.
    """
    if mlflow_url and not mlflow_url.startswith(("http://", "https://", "/")):
        raise UsageError(f"MLflow's address must begin with http:// or https://, not {mlflow_url!r}")
    rows = answer(board.QUERY)
    rows = rows.assign(state=rows["verdict"].map(board.state))
    runs: list[dict[str, Any]] = [dict(zip(rows.columns, row, strict=True)) for row in rows.itertuples(index=False)]
    cells = board.cells(rows, runs, mlflow_url)
    shown = [*first_groups(cells, lambda cell: len(cell["runs"]), BOARD_RUNS)]
    charts = draw_all(experiment, answer, progress)
    queries = {board.QUERY: find_query(board.QUERY)} | {chart.query.name: chart.query for chart in charts}
    datasets: dict[str, Any] = {}  # charts that draw the same rows share them: Altair names rows by their content
    for chart in charts:
        datasets |= (chart.specification or {}).pop("datasets", {})
    data = {
        "runs": [{key: run[key] for key in ("run_id", *FILTERS)} for run in runs],
        "charts": {chart.name: chart.specification for chart in charts if chart.specification},
        "datasets": datasets,
        "answers": {name: _first_rows(answer(name)) for name in queries},
    }
    return html.render(
        "page.html.j2",
        ("fa_tracking.dashboards", "assets"),
        experiment=one_line(experiment),
        made=_at(datetime.now(UTC)),
        known=_known(rows),
        n_runs=len(runs),
        tally=Counter(run["state"] for run in runs),
        states=board.STATES,
        filters=_filters(runs),
        cells=shown,
        n_cells=len(cells),
        n_shown=sum(len(cell["runs"]) for cell in shown),
        folded=len(runs) >= FOLDED_FROM,
        caveats=caveats(rows["verdict"]),
        measured=list(zip(DIAGNOSTICS, board.MEASURED.values(), board.thresholds(rows), strict=True)),
        stores=board.stores(rows, mlflow_url),
        mlflow=address.UI,
        charts=charts,
        answers={name: _answered(query, experiment, answer(name)) for name, query in queries.items()},
        board=board.QUERY,
        every=f"{mlflow_url}fa/" if mlflow_url and mlflow_url.startswith("/") else None,  # on MLflow's own server
        first_rows=FIRST_ROWS,
        data=_packed(data),
        bundle=bundle(),
    )


def write_html(
    experiment: str,
    out: Path,
    database: str | Path = DEFAULT_DATABASE,
    mlflow_url: str | None = None,
    progress: Progress = unseen,
) -> None:
    """The dashboard as one self-contained HTML file.

    Raises:
        UsageError: the file is not named as HTML, or ``mlflow_url`` is no address.
        FATrackError: the file cannot be written.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"the page is HTML: name it {out.with_suffix('.html').name}, not {out.name}")
    with answers(experiment, database) as answer:
        write_whole(out, page(experiment, answer, mlflow_url, progress).encode())


def write_png(
    experiment: str,
    out: Path,
    database: str | Path = DEFAULT_DATABASE,
    progress: Progress = unseen,
    glyphs: Glyphs | None = None,
) -> list[Path]:
    """Each chart as a picture beside ``out``: ``STEM-CHART.png``. The files written.

    Args:
        glyphs: afterwards knows what the fonts of the pictures lack.
    """
    with answers(experiment, database, glyphs or Glyphs()) as answer:
        drawn = [d for d in draw_all(experiment, answer) if d.specification]
    targets = [out.with_name(f"{out.stem}-{d.name}.png") for d in drawn]
    for done, (each, target) in enumerate(zip(drawn, targets, strict=True), start=1):
        write(each, target)
        progress(done, len(targets))
    return targets


def _known(rows: pd.DataFrame) -> str:
    """How old the rows are: when their stores were exported, the first of several; else the newest thing known."""
    if rows["exported_at"].notna().all():
        return f"exported {_at(rows['exported_at'].min())}"
    newest = rows["changed_at"].dropna()
    return f"export's time unknown, newest run or audit of {_at(newest.max())}" if len(newest) else ""


def _at(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC")


def _filters(runs: list[dict[str, Any]]) -> dict[str, list[tuple[str, str, int]]]:
    """The values of each filter, sorted, each as an attribute and as a person reads it, and the number of its runs."""
    found = {name: Counter(run[name] for run in runs) for name in FILTERS}
    order = [*board.STATES].index
    return {
        name: [
            (text := "" if value is None else str(value), one_line(text), counts[value])
            for value in sorted(counts, key=order if name == "state" else lambda v: (v is None, v))
        ]
        for name, counts in found.items()
        if len(counts) > 1
    }


def _answered(query: Query, experiment: str, rows: pd.DataFrame) -> Answered:
    behind = [counted(len(rows), "row")]
    if "run_id" in rows:
        behind.append(counted(rows["run_id"].nunique(), "run"))
    if "n" in rows and rows["n"].notna().any():
        low, high = rows["n"].min(), rows["n"].max()
        behind.append(f"n = {low}" if low == high else f"n from {low} to {high}")
    sql = explain_query(query, experiment)
    return Answered(query.name, query.title, query.notes, sql, ", ".join(behind), len(rows) > FIRST_ROWS)


def _first_rows(rows: pd.DataFrame) -> dict[str, Any]:
    columns, values = [*rows.columns], rows.head(FIRST_ROWS).to_numpy().tolist()
    return {
        "columns": columns,
        "numeric": numeric_columns(columns, values),
        "rows": [
            ["" if v is None else board.number(v) if isinstance(v, float) else short(v) for v in row] for row in values
        ],
    }


def _packed(data: Any) -> str:
    """JSON, compressed: rows of many runs and epochs say the same names over and over."""
    return base64.b64encode(gzip.compress(json.dumps(data, ensure_ascii=False).encode(), mtime=0)).decode()


@cache
def bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from vl-convert's own copy.

    It is kept in the user's cache folder: vl-convert takes seconds to make it.
    """
    import vl_convert

    kept = _cache() / f"vega-embed-{version('vl-convert-python')}.js.gz"
    with suppress(OSError, EOFError, ValueError, zlib.error):  # damaged, it is not what gzip has summed up
        if found := gzip.decompress(kept.read_bytes()).decode():
            return found
    made = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
    with suppress(OSError, FATrackError):  # it is made again where it cannot be kept
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(kept, gzip.compress(made.encode()))
    return made


def _cache() -> Path:
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    with suppress(RuntimeError):  # a user without a home
        return (given if given.is_absolute() else Path.home() / ".cache") / "fa-track"
    return Path(os.devnull)  # in which nothing can be kept
