"""The verdict board of a page: each cell of an experiment in words, and its runs with what was measured of them."""

import json
import shlex
from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import pandas as pd

from fa_tracking.dashboards import theme
from fa_tracking.protocol.verdicts import OTHER_THRESHOLDS, head
from fa_tracking.publishing.cell_tables import DIAGNOSTICS, MARKS
from fa_tracking.publishing.publication import MISSING, mean_and_sd
from fa_tracking.results.export.source import id_in_store, store_of
from fa_tracking.spelled import counted, short
from fa_tracking.tracking import address
from fa_tracking.untrusted import one_line

QUERY = "board"
"""Whose rows they are."""

STATES = {"trustworthy": "✓", "flagged": "⚑", "inconclusive": "?", "not audited": "–"}
MEASURED = {"growth": "growth", "grad_norm": "‖g_L‖", "stability": "stability", "margin_pp": "margin, pp"}
"""The columns of the four diagnostics in the board, in the order of their letters, and their short headings."""

Row = Mapping[str, Any]


def state(verdict: str) -> str:
    """A verdict without its reasons."""
    said = head(verdict)
    return {"needs walk-back": "flagged"}.get(said, said)


def cells(rows: pd.DataFrame, runs: list[dict[str, Any]], mlflow_url: str | None) -> list[dict[str, Any]]:
    """The board: each cell in words, and its runs."""
    several = rows["experiment"].nunique() > 1
    labels = dict(zip(rows["cell"], theme.cell_labels(rows), strict=True))
    return [
        _cell(labels[cell], [*members], several, mlflow_url)
        for cell, members in groupby(runs, key=lambda run: run["cell"])
    ]


def _cell(label: str, runs: list[dict[str, Any]], several: bool, mlflow_url: str | None) -> dict[str, Any]:
    first = runs[0]
    states_of = {"n_diverged": "diverged", "n_aborted": "aborted", "n_unaudited": "not audited"}
    unfinished = sum(run["status"] != "FINISHED" for run in runs)
    behind = [counted(first["n_runs"] or 0, "finished run")]
    behind += [f"{first[column]} {said}" for column, said in states_of.items() if first[column]]
    behind += [f"{unfinished} unfinished"] if unfinished else []
    states = Counter(run["state"] for run in runs if run["aborted_at"] is None and run["status"] == "FINISHED")
    return _printable(
        label=label,
        also=" ".join(w for w in (first["also"] or "").split() if not w.startswith(theme.NAMED)),
        accuracy=mean_and_sd(first["accuracy_mean"], first["accuracy_sd"]),
        n=first["n"] or 0,
        behind=", ".join(behind),
        flags=first["cell_flags"] or "",
        verdict=first["cell_verdict"] or "no run ended as planned",
        states=[(state, states[state]) for state in STATES if states[state]],
        runs=[_run(run, several, mlflow_url) for run in runs],
    )


def _run(run: Row, several: bool, mlflow_url: str | None) -> dict[str, Any]:
    status = str(run["status"]).lower()
    aborted = run["aborted_at"]
    remarks = [
        run["experiment"] if several else "",
        "" if status == "finished" else status,
        "" if aborted is None else f"aborted at epoch {aborted}",
        "partial evidence" if run["evidence"] == "partial" else "",
    ]
    where = _mlflow(store_of(run["source"]), mlflow_url)
    return _printable(
        id=run["run_id"],
        name=run["run_name"] or run["run_id"],
        seed=MISSING if run["seed"] is None else run["seed"],
        state=run["state"],
        flags=(run["flags"] or "").replace(",", " "),
        verdict=run["verdict"],
        is_under_others=OTHER_THRESHOLDS in run["verdict"],
        remarks=", ".join(filter(None, remarks)),
        accuracy=number(run["accuracy"]),
        measured=[
            (_known(run, letter, column), bool(run[f"fires_{letter}"]))
            for (letter, *_), column in zip(DIAGNOSTICS, MEASURED, strict=True)
        ],
        url=None if where is None else f"{where}/#/runs/{id_in_store(run['run_id'])}",
    )


def _printable(**shown: Any) -> dict[str, Any]:
    """What a page shows, its texts on one line and without what cannot be printed."""
    return {name: one_line(value) if isinstance(value, str) else value for name, value in shown.items()}


def _known(run: Row, letter: str, column: str) -> str:
    """A measurement of a run; where it is known as a bound or by proxy, with its mark."""
    inexact = json.loads(run["inexact"] or "{}").get(letter) if run[column] is None else None
    if inexact is None:
        return number(run[column])
    return f"{MARKS[json.loads(run['kinds'])[letter]]}{short(inexact)}"


def number(value: Any) -> str:
    return MISSING if value is None else theme.spelled(value) or short(value)


def thresholds(rows: pd.DataFrame) -> list[str]:
    """Where each diagnostic fires, by the audits of these runs."""
    held = [(side, sorted(rows[column].dropna().unique())) for *_, column, side in DIAGNOSTICS]
    return [f"fires {side} {', '.join(map(short, values))}" if values else "" for side, values in held]


def _mlflow(source: str, given: str | None) -> str | None:
    """The address of MLflow's UI over the store ``source``, without a login; None: results without a store."""
    return address.ui(source) if given is None else address.bare(given)


def stores(rows: pd.DataFrame, given: str | None) -> list[str]:
    """The stores whose runs are linked to where `mlflow ui` has to be started first."""
    if given is not None:
        return []
    return [
        shlex.quote(address.without_login(source))
        for source in sorted({*map(store_of, rows["source"])})
        if _mlflow(source, None) == address.UI
    ]
