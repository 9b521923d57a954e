"""An audit of runs that an earlier audit has judged by other thresholds."""

from collections.abc import Callable, Iterator
from pathlib import Path

from fa_tracking.tracking import names
from tests.faults._kill import Left
from tests.faults._store import Run, runs, small_store

COMMAND = ["audit", "--experiment", "small", "--explosion-ratio", "0.1"]
REPORT = f"{names.AUDIT}/report.json"


def prepare(folder: Path, fa_track: Callable[..., None]) -> None:
    small_store(fa_track, "dfa", "bp")
    fa_track("audit", "--experiment", "small")


def held(folder: Path) -> dict[str, Run]:
    return runs(folder)


def broken(before: dict[str, Run], left: Left, after: dict[str, Run]) -> Iterator[str]:
    for run, found in left.held.items():
        if found["tags"] not in (before[run]["tags"], after[run]["tags"]):
            yield f"run {run} has tags of two audits, or half of one"
        if found["tags"] == after[run]["tags"] and found["artifacts"] != after[run]["artifacts"]:
            yield f"run {run} has the new verdict and not its report"
        if any(found[kind] != before[run][kind] for kind in ("status", "params", "metrics")):
            yield f"run {run} has lost what it logged"


def unlike(left: Left, again: dict[str, Run], after: dict[str, Run]) -> Iterator[str]:
    if again != after:
        yield "the verdicts differ from those of an undisturbed audit"
