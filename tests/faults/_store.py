"""What a store of a folder holds, as one compares it: without times, and without what is drawn anew in each run."""

import hashlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fa_tracking.tracking import names

TINY = ("--width", "8", "--depth", "2", "--dataset", "digits", "--lr", "0.01")
PASSING = {names.TAG_AUDITED_AT, names.TAG_PROCESS}
Run = dict[str, Any]


def small_store(fa_track: Callable[..., None], *methods: str) -> None:
    """A run of each method with two seeds, and the frozen control of the first."""
    for method in methods:
        fa_track("train", method, "--experiment", "small", "--epochs", "2", *TINY)
    fa_track("train", methods[0], "--experiment", "small", "--epochs", "2", *TINY, "--frozen-blocks")


def runs(folder: Path) -> dict[str, Run]:
    """Every run by its id: experiment, status, end, params, tags, metric points and artifacts."""
    if not (folder / "mlflow.db").is_file():
        return {}
    with sqlite3.connect(f"file:{folder / 'mlflow.db'}?mode=rw", uri=True, timeout=60) as store:
        found = store.execute(
            "select run_uuid, e.name, status, end_time, r.artifact_uri "
            "from runs r join experiments e using (experiment_id)"
        ).fetchall()
        return {run: _run(store, run, *rest) for run, *rest in found}


def _run(store: sqlite3.Connection, run: str, experiment: str, status: str, end: int | None, artifacts: str) -> Run:
    def rows(what: str) -> list[tuple[Any, ...]]:
        return store.execute(f"select {what} where run_uuid = ? order by 1, 2, 3", (run,)).fetchall()

    return {
        "experiment": experiment,
        "status": status,
        "end": end,
        "params": rows("key, value, 0 from params"),
        "tags": {key: value for key, value, _ in rows("key, value, 0 from tags") if key not in PASSING},
        "metrics": [
            (key, step, value, nan)
            for key, step, value, nan in rows("key, step, value, is_nan from metrics")
            if not key.startswith("time/")
        ],
        "where": artifacts.removeprefix("file://"),
        "artifacts": _artifacts(Path(artifacts.removeprefix("file://"))),
    }


def learned(run: Run) -> Run:
    """What two runs of one configuration have in common."""
    saved = {path: digest for path, digest in run["artifacts"].items() if path.startswith(names.CHECKPOINTS)}
    return {"params": run["params"], "metrics": run["metrics"], "saved": saved}


def _artifacts(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
