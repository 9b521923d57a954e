"""The dashboard of an experiment: one HTML page that needs no network, or pictures."""

import base64
import gzip
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pandas as pd

from dashboards import theme
from dashboards.draw import Answer, answers, draw_all, write
from fa_tracking.errors import UsageError
from fa_tracking.results.database import DEFAULT_DATABASE, Query, explain_query, find_query
from fa_tracking.results.files import write_whole
from fa_tracking.results.publication import MISSING, mean_and_sd
from fa_tracking.results.report import DIAGNOSTICS, MARKS
from fa_tracking.results.sources import address, id_in_store
from fa_tracking.results.tables import numeric_columns, short

BOARD = "board"
"""The query behind the verdict board."""
FILTERS = ("experiment", "method", "architecture", "width", "seed", "state")
"""What a page chooses runs by; those that have one value are not offered."""
MLFLOW_URL = "http://127.0.0.1:5000"
"""Where `mlflow ui` listens."""
FIRST_ROWS = 200
"""Rows of a query that the page lists."""
FOLDED_FROM = 60
"""Runs from which on a board begins with its cells folded."""

STATES = {"trustworthy": "✓", "flagged": "⚑", "inconclusive": "?", "not audited": "–"}
MEASURED = {"growth": "growth", "grad_norm": "‖g_L‖", "stability": "stability", "margin_pp": "margin, pp"}
"""The columns of the four diagnostics in the board, in the order of their letters, and their short headings."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Answered:
    """What a page says of a query: its question, what n is, its SQL as asked, and how much is behind it."""

    name: str
    title: str
    notes: str
    sql: str
    behind: str
    is_cut: bool


def page(experiment: str, answer: Answer, mlflow_url: str | None = None) -> str:
    """The dashboard of ``experiment`` as HTML that loads nothing.

    Args:
        answer: of ``dashboards.draw.answers``.
        mlflow_url: where MLflow's UI is; without it, the server that the runs were exported from, else ``MLFLOW_URL``.

    Raises:
        UsageError: ``mlflow_url`` is no address.
    """
    if mlflow_url and not mlflow_url.startswith(("http://", "https://", "/")):
        raise UsageError(f"the address of MLflow begins with http:// or https://, not as {mlflow_url!r} does")
    rows = answer(BOARD)
    rows = rows.assign(state=rows["verdict"].map(_state))
    runs: list[dict[str, Any]] = [dict(zip(rows.columns, row, strict=True)) for row in rows.itertuples(index=False)]
    charts = draw_all(experiment, answer)
    queries = {BOARD: find_query(BOARD)} | {chart.query.name: chart.query for chart in charts}
    datasets: dict[str, Any] = {}  # charts that draw the same rows share them: Altair names rows by their content
    for chart in charts:
        datasets |= (chart.specification or {}).pop("datasets", {})
    data = {
        "runs": [{key: run[key] for key in ("run_id", *FILTERS)} for run in runs],
        "charts": {chart.name: chart.specification for chart in charts if chart.specification},
        "datasets": datasets,
        "answers": {name: _first_rows(answer(name)) for name in queries},
    }
    return str(
        _templates()
        .get_template("page.html")
        .render(
            experiment=experiment,
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            n_runs=len(runs),
            tally=Counter(run["state"] for run in runs),
            states=STATES,
            filters=_filters(runs),
            cells=_cells(rows, runs, mlflow_url),
            folded=len(runs) >= FOLDED_FROM,
            measured=list(zip(DIAGNOSTICS, MEASURED.values(), _thresholds(rows), strict=True)),
            stores=_stores(rows, mlflow_url),
            mlflow=MLFLOW_URL,
            charts=charts,
            answers={name: _answered(query, experiment, answer(name)) for name, query in queries.items()},
            board=BOARD,
            every=f"{mlflow_url}fa/" if mlflow_url and mlflow_url.startswith("/") else None,  # on MLflow's own server
            first_rows=FIRST_ROWS,
            data=_packed(data),
            bundle=_bundle(),
        )
    )


def write_html(
    experiment: str, out: Path, database: str | Path = DEFAULT_DATABASE, mlflow_url: str | None = None
) -> None:
    """The dashboard as one self-contained HTML file.

    Raises:
        UsageError: the file is not named as HTML, or ``mlflow_url`` is no address.
        FATrackError: the file cannot be written.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"the page is HTML: name it {out.with_suffix('.html').name}, not {out.name}")
    with answers(experiment, database) as answer:
        write_whole(out, page(experiment, answer, mlflow_url).encode())


def write_png(experiment: str, out: Path, database: str | Path = DEFAULT_DATABASE) -> list[Path]:
    """Each chart as a picture beside ``out``: ``STEM-CHART.png``. The files written."""
    with answers(experiment, database) as answer:
        drawn = [d for d in draw_all(experiment, answer) if d.specification]
    targets = [out.with_name(f"{out.stem}-{d.name}.png") for d in drawn]
    for each, target in zip(drawn, targets, strict=True):
        write(each, target)
    return targets


def _state(verdict: str) -> str:
    """A verdict without its reasons."""
    head = verdict.partition(":")[0]
    return {"needs walk-back": "flagged"}.get(head, head)


def _filters(runs: list[dict[str, Any]]) -> dict[str, list[tuple[str, int]]]:
    """The values of each filter, sorted, and the number of runs of each."""
    found = {name: Counter(run[name] for run in runs) for name in FILTERS}
    order = [*STATES].index
    return {
        name: [
            ("" if value is None else str(value), counts[value])
            for value in sorted(counts, key=order if name == "state" else lambda v: (v is None, v))
        ]
        for name, counts in found.items()
        if len(counts) > 1
    }


def _cells(rows: pd.DataFrame, runs: list[dict[str, Any]], mlflow_url: str | None) -> list[dict[str, Any]]:
    """The board: each cell in words, and its runs."""
    several = rows["experiment"].nunique() > 1
    labels = dict(zip(rows["cell"], theme.cell_labels(rows), strict=True))
    return [
        _cell(labels[cell], [*members], several, mlflow_url)
        for cell, members in groupby(runs, key=lambda run: run["cell"])
    ]


def _cell(label: str, runs: list[dict[str, Any]], several: bool, mlflow_url: str | None) -> dict[str, Any]:
    first = runs[0]
    counted = {"n_diverged": "diverged", "n_aborted": "aborted", "n_unaudited": "not audited"}
    unfinished = sum(run["status"] != "FINISHED" for run in runs)
    behind = [_count(first["n_runs"] or 0, "finished run")]
    behind += [f"{first[column]} {said}" for column, said in counted.items() if first[column]]
    behind += [f"{unfinished} unfinished"] if unfinished else []
    states = Counter(run["state"] for run in runs if run["aborted_at"] is None and run["status"] == "FINISHED")
    return {
        "label": label,
        "also": " ".join(w for w in (first["also"] or "").split() if not w.startswith(("augmentation=", "lr="))),
        "accuracy": mean_and_sd(first["accuracy_mean"], first["accuracy_sd"]),
        "n": first["n"] or 0,
        "behind": ", ".join(behind),
        "flags": first["cell_flags"] or "",
        "verdict": first["cell_verdict"] or "no run ended as planned",
        "states": [(state, states[state]) for state in STATES if states[state]],
        "runs": [_run(run, several, mlflow_url) for run in runs],
    }


def _run(run: Row, several: bool, mlflow_url: str | None) -> dict[str, Any]:
    status = str(run["status"]).lower()
    aborted = run["aborted_at"]
    remarks = [
        run["experiment"] if several else "",
        "" if status == "finished" else status,
        "" if aborted is None else f"aborted at epoch {aborted}",
        "partial evidence" if run["evidence"] == "partial" else "",
    ]
    where = _mlflow(address(run["source"]), mlflow_url)
    return {
        "id": run["run_id"],
        "name": run["run_name"] or run["run_id"],
        "seed": MISSING if run["seed"] is None else run["seed"],
        "state": run["state"],
        "flags": (run["flags"] or "").replace(",", " "),
        "verdict": run["verdict"],
        "remarks": ", ".join(filter(None, remarks)),
        "accuracy": _number(run["accuracy"]),
        "measured": [
            (_known(run, letter, column), bool(run[f"fires_{letter}"]))
            for (letter, *_), column in zip(DIAGNOSTICS, MEASURED, strict=True)
        ],
        "url": None if where is None else f"{where}/#/runs/{id_in_store(run['run_id'])}",
    }


def _known(run: Row, letter: str, column: str) -> str:
    """A measurement of a run; where it is known as a bound or by proxy, with its mark."""
    inexact = json.loads(run["inexact"] or "{}").get(letter) if run[column] is None else None
    if inexact is None:
        return _number(run[column])
    return f"{MARKS[json.loads(run['kinds'])[letter]]}{short(inexact)}"


def _number(value: Any) -> str:
    return MISSING if value is None else theme.spelled(value) or short(value)


def _thresholds(rows: pd.DataFrame) -> list[str]:
    """Where each diagnostic fires, by the audits of these runs."""
    held = [(side, sorted(rows[column].dropna().unique())) for *_, column, side in DIAGNOSTICS]
    return [f"fires {side} {', '.join(map(short, values))}" if values else "" for side, values in held]


def _mlflow(source: str, given: str | None) -> str | None:
    """The address of MLflow's UI over the store ``source``, without a login; None: results without a store."""
    if given is None and not source.startswith(("http://", "https://")):
        return MLFLOW_URL if "://" in source else None
    parts = urlsplit(source if given is None else given)
    bare = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, bare, parts.path.rstrip("/"), "", ""))


def _stores(rows: pd.DataFrame, given: str | None) -> list[str]:
    """The stores whose runs are linked to where `mlflow ui` has to be started first."""
    if given is not None:
        return []
    return [
        re.sub(r"//[^/]*@", "//", source)
        for source in sorted({*map(address, rows["source"])})
        if _mlflow(source, None) == MLFLOW_URL
    ]


def _answered(query: Query, experiment: str, rows: pd.DataFrame) -> Answered:
    comments = takewhile(lambda line: line.startswith("--"), query.sql.splitlines())
    notes = " ".join(line[2:].strip() for line in comments if not re.match(r"-- (title|params|columns):", line))
    behind = [_count(len(rows), "row")]
    if "run_id" in rows:
        behind.append(_count(rows["run_id"].nunique(), "run"))
    if "n" in rows and rows["n"].notna().any():
        low, high = rows["n"].min(), rows["n"].max()
        behind.append(f"n = {low}" if low == high else f"n from {low} to {high}")
    sql = explain_query(query, {"experiment": experiment})
    return Answered(query.name, query.title, notes, sql, ", ".join(behind), len(rows) > FIRST_ROWS)


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _first_rows(rows: pd.DataFrame) -> dict[str, Any]:
    columns, values = [*rows.columns], rows.head(FIRST_ROWS).to_numpy().tolist()
    return {
        "columns": columns,
        "numeric": numeric_columns(columns, values),
        "rows": [
            ["" if v is None else _number(v) if isinstance(v, float) else short(v) for v in row] for row in values
        ],
    }


def _packed(data: Any) -> str:
    """JSON, compressed: rows of many runs and epochs say the same names over and over."""
    return base64.b64encode(gzip.compress(json.dumps(data, ensure_ascii=False).encode(), mtime=0)).decode()


@cache
def _templates() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("dashboards", "assets")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from vl-convert's own copy."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
