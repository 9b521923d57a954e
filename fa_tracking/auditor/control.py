"""Finds the frozen control of a run: a control is made of runs, not a constant."""

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fa_tracking.tracking import frozen, identity, names
from fa_tracking.tracking.store import all_experiments, search_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

LOGGED = ("method", "architecture", "width", "depth", "dataset", "epochs", "batch_size")
"""What a control shares with its run by the protocol, and a run without it has none."""
MATCHED = (*LOGGED, *identity.DEFINITIONS, "expansion", "alpha", "labels")
"""What it shares: of another definition, and on other labels, it would be the control of another experiment."""

PREFERRED = (
    "optimizer", "lr", "lr_schedule", "lr_warmup", "momentum", "weight_decay", "clip_norm", "credit_normalisation",
    "credit_index", "augmentation",
)  # fmt: skip
"""What it shares too where such controls exist; else the difference is said."""


@dataclass(frozen=True)
class Control:
    """The mean accuracy of the matched frozen runs, or why there is none."""

    accuracy: float | None
    runs: tuple[str, ...]
    note: str


class Controls:
    """The frozen runs of a whole store, read once an audit."""

    def __init__(self, store: "MlflowClient") -> None:
        experiments = [e.experiment_id for e in all_experiments(store)]
        found: dict[str, Run] = {}
        for wanted in frozen.SEARCHES:  # MLflow knows no `or`
            runs = search_runs(store, experiments, f"{wanted} and attributes.status = 'FINISHED'")
            found |= {run.info.run_id: run for run in runs if is_frozen(run)}
        planned = [run for run in found.values() if names.TAG_ABORTED_AT not in run.data.tags]
        self._runs = sorted(planned, key=lambda run: (run.info.start_time, run.info.run_id))

    def of(self, run: "Run") -> Control:
        """The control of ``run``: from its own experiment where there is one, else from the others of the store."""
        if is_frozen(run):
            return Control(None, (), "this run is itself a frozen control")
        unknown = [k for k in LOGGED if k not in run.data.params]
        if unknown:
            return Control(None, (), f"the run logs no {', '.join(unknown)}, so no control can be matched")
        matched = [c for c in self._runs if _same(c, run, MATCHED)]
        matched = [c for c in matched if not _penalty(c)] or [c for c in matched if _penalty(c) == _penalty(run)]
        at_home = [c for c in matched if c.info.experiment_id == run.info.experiment_id]
        matched = at_home or matched
        if not matched:
            named = {*identity.DEFINITIONS, *identity.apart(run.data.params)}
            wanted = " ".join(f"{k}={identity.meaning(run.data.params, k)}" for k in MATCHED if k in named)
            return Control(None, (), f"no finished run with trainable_blocks=0 matches {wanted}")
        notes = [] if at_home else ["the control runs stand in another experiment"]
        alike = [c for c in matched if _same(c, run, PREFERRED)]
        if not alike:
            apart = {k for c in matched for k in identity.differing(c.data.params, run.data.params)}
            notes.append(f"the control differs in {', '.join(k for k in PREFERRED if k in apart)}")
        return _average(alike or matched, notes)


def is_frozen(run: "Run") -> bool:
    """Whether a run is itself a frozen control."""
    return frozen.is_frozen(run.data.params)


def _penalty(run: "Run") -> float:
    try:
        return float(run.data.params.get("penalty", 0))
    except ValueError:
        return math.nan


def _same(control: "Run", run: "Run", keys: tuple[str, ...]) -> bool:
    return all(identity.meaning(control.data.params, k) == identity.meaning(run.data.params, k) for k in keys)


def _average(runs: list["Run"], notes: list[str]) -> Control:
    """Mean over seeds of the mean within each seed; a run without a finite accuracy is named and left out."""
    by_seed: dict[str, list[float]] = defaultdict(list)
    used, left_out = [], []
    for run in runs:
        accuracy = run.data.metrics.get(names.ACCURACY_TEST, math.nan)
        if math.isfinite(accuracy):
            by_seed[run.data.params.get("seed", "")].append(accuracy)
            used.append(run.info.run_id)
        else:
            left_out.append(run.info.run_id)
    if left_out:
        notes = [*notes, f"left out for an accuracy that is not finite: {', '.join(left_out)}"]
    if not used:
        return Control(None, (), "; ".join(["no control run has a finite accuracy", *notes]))
    mean = statistics.fmean(statistics.fmean(values) for values in by_seed.values())
    return Control(mean, tuple(used), "; ".join(notes))
