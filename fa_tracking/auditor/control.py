"""Finds the frozen control of a run: a control is made of runs, not a constant."""

import math
import statistics
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fa_tracking import cells
from fa_tracking.errors import InvalidError
from fa_tracking.protocol.diagnostics import finite
from fa_tracking.tracking import names
from fa_tracking.tracking._mlflow_compat import last_points
from fa_tracking.tracking.possible import refuse_impossible
from fa_tracking.tracking.store import all_experiments, history, is_training, search_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

LOGGED = ("method", "architecture", "width", "depth", "dataset", "epochs", "batch_size")
"""What a control shares with its run by the protocol, and a run without it has none."""
MATCHED = (*LOGGED, *cells.DEFINITIONS, "expansion", "alpha", "labels")
"""What it shares: of another definition, and on other labels, it would be the control of another experiment."""
FREE = (names.TRAINABLE_BLOCKS, "penalty")
"""In what it may differ: the penalty cannot act on frozen blocks."""
LARGEST = 1.79e308
"""What MLflow's SQL stores make of infinity, or so."""


@dataclass(frozen=True)
class Control:
    """The mean accuracy of the matched frozen runs, or why there is none."""

    accuracy: float | None
    runs: tuple[str, ...]
    note: str


class Controls:
    """The frozen runs of a whole store, read once an audit."""

    def __init__(self, client: "MlflowClient") -> None:
        experiments = [e.experiment_id for e in all_experiments(client)]
        found: dict[str, Run] = {}
        for wanted in cells.FROZEN_SEARCHES:  # MLflow knows no `or`
            runs = search_runs(client, experiments, f"{wanted} and attributes.status = 'FINISHED'")
            found |= {run.info.run_id: run for run in runs if is_frozen(run)}
        if found:
            nested = search_runs(client, experiments, f"tags.`{names.TAG_PARENT}` != ''")
            parents = {(run.info.experiment_id, run.data.tags[names.TAG_PARENT]) for run in nested}
            held = [
                r for r in found.values() if (r.info.experiment_id, r.info.run_id) in parents and not is_training(r)
            ]
            for run in held:
                del found[run.info.run_id]
        self._client = client
        self._runs = sorted(found.values(), key=lambda run: (run.info.start_time, run.info.run_id))
        self._unfit: dict[str, str] = {}

    def of(self, run: "Run") -> Control:
        """The control of ``run``: the cell of frozen runs that agrees with it in all that defines its training.

        Where none does, the one that differs in the fewest params, which the note names; never runs of two cells. Of
        those that agree alike, one of the run's own experiment, without a penalty, of the most seeds.
        """
        if is_frozen(run):
            return Control(None, (), "this run is itself a frozen control")
        if aborted := run.data.tags.get(names.TAG_ABORTED_AT):
            return Control(None, (), f"the run was aborted at epoch {aborted}, and a control is trained to its end")
        params = run.data.params
        if unknown := [k for k in LOGGED if k not in params]:
            return Control(None, (), f"the run logs no {', '.join(unknown)}, so no control can be matched")
        matched = [c for c in self._runs if all(_is_same(c, run, k) for k in MATCHED)]
        fit = [c for c in matched if not self._why_unfit(c)]
        left_out = [f"{c.info.run_id} {self._why_unfit(c)}" for c in matched if self._why_unfit(c)]
        notes = [f"left out: {', '.join(left_out)}"] if left_out else []
        if not fit:
            told = {*cells.DEFINITIONS, *cells.apart(params)}
            wanted = " ".join(f"{k}={cells.meaning(params, k)}" for k in MATCHED if k in told)
            none = f"no finished run with trainable_blocks=0 matches {wanted}"
            return Control(None, (), "; ".join(["no control is whole" if left_out else none, *notes]))
        by_cell: dict[tuple[str, str], list[Run]] = defaultdict(list)
        for control in fit:
            by_cell[control.info.experiment_id, cells.named(_of_training(control.data.params))].append(control)
        chosen = min(by_cell.values(), key=lambda controls: _distance(controls, run))
        return _average(chosen, [*_differences(chosen, run), *notes])

    def _why_unfit(self, run: "Run") -> str:
        """Why a frozen run is nobody's control; empty where it may be one."""
        if run.info.run_id not in self._unfit:
            self._unfit[run.info.run_id] = _why_unfit(self._client, run)
        return self._unfit[run.info.run_id]


def is_frozen(run: "Run") -> bool:
    """Whether a run is itself a frozen control."""
    return cells.is_frozen(run.data.params)


def _why_unfit(client: "MlflowClient", run: "Run") -> str:
    if epoch := run.data.tags.get(names.TAG_ABORTED_AT):
        return f"was aborted at epoch {epoch}"
    if names.ACCURACY_TEST not in run.data.metrics:
        return f"logs no {names.ACCURACY_TEST}"
    points = history(client, run, names.ACCURACY_TEST)
    last = max(point.step for point in points)
    accuracy = [point.value for point in points if point.step == last][-1]
    if (
        not _is_finite(accuracy)
        or finite.FLAG in run.data.tags.get(names.TAG_FLAGS, "").split(",")
        or not all(map(_is_finite, _norms(run)))
    ):
        return "diverged"
    try:
        refuse_impossible({names.ACCURACY_TEST: accuracy})
    except InvalidError:
        return f"has an accuracy of {accuracy:g}, not in [0, 1]"
    planned, ended = cells.count(run.data.params.get("epochs")), max(last, _ended(run))
    if planned is not None and ended < (planned - 1 if _counts_from_0(run, points) else planned):
        return f"ended at epoch {ended} of {planned}"
    return ""


def _ended(run: "Run") -> int:
    """The last epoch of which an audit reads a number: some test less often than they measure."""
    return max(
        m.step for m in last_points(run) if m.key == names.ACCURACY_TEST or m.key.startswith(names.OF_DIAGNOSTICS)
    )


def _counts_from_0(run: "Run", points: "Sequence[Metric]") -> bool:
    """Whether a run's first epoch is 0: in one that FA-Track has begun, 0 is the network before training."""
    begun_here = {names.TAG_PROCESS, names.TAG_CONFIG_SHA256} & run.data.tags.keys()
    return not begun_here and min(point.step for point in points) <= 0


def _norms(run: "Run") -> list[float]:
    """The last values of what diagnostic (n) looks at, and the accuracy."""
    looked_at = (names.ACCURACY_TEST, "residual_norm/", "grad_norm/", "diagnostics/max_block_growth")
    return [value for name, value in run.data.metrics.items() if name.startswith(looked_at)]


def _is_finite(value: float) -> bool:
    return math.isfinite(value) and abs(value) < LARGEST


def _is_same(control: "Run", run: "Run", key: str) -> bool:
    return cells.meaning(control.data.params, key) == cells.meaning(run.data.params, key)


def _of_training(params: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in params.items() if not cells.is_aside(key)}


def _apart(controls: Sequence["Run"], run: "Run") -> list[str]:
    """The params in which a cell of controls and a run differ that they should share."""
    keys = cells.differing(_of_training(controls[0].data.params), _of_training(run.data.params))
    return [key for key in keys if key not in FREE]


def _distance(controls: Sequence["Run"], run: "Run") -> tuple[int, bool, bool, bool, int]:
    """How far a cell of controls is from a run; of equal ones, the earliest is taken."""
    penalty = cells.meaning(controls[0].data.params, "penalty")
    return (
        len(_apart(controls, run)),
        controls[0].info.experiment_id != run.info.experiment_id,
        penalty not in (None, "0"),
        penalty != cells.meaning(run.data.params, "penalty"),
        -len({_sample(c) for c in controls}),
    )


def _differences(controls: Sequence["Run"], run: "Run") -> list[str]:
    """What a reader of the margin must know of its control."""
    mine, theirs = run.data.params, controls[0].data.params
    apart = [
        f"{key} ({cells.meaning(theirs, key) or 'not logged'} for {cells.meaning(mine, key) or 'not logged'})"
        for key in _apart(controls, run)
    ]
    notes = [] if controls[0].info.experiment_id == run.info.experiment_id else ["its runs stand in another experiment"]
    tested = [(c, m.step) for c in controls for m in last_points(c) if m.key == names.ACCURACY_TEST]
    earlier = [
        f"the accuracy of {c.info.run_id} is of step {step}, the last before {_ended(c)}"
        for c, step in tested
        if step < _ended(c)
    ]
    return [*notes, *([f"it differs in {', '.join(apart)}"] if apart else []), *earlier]


def _average(runs: Collection["Run"], notes: Sequence[str]) -> Control:
    """Mean over seeds of the mean within each seed."""
    by_seed: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        by_seed[_sample(run)].append(run.data.metrics[names.ACCURACY_TEST])
    mean = statistics.fmean(statistics.fmean(values) for values in by_seed.values())
    return Control(mean, tuple(run.info.run_id for run in runs), "; ".join(notes))


def _sample(run: "Run") -> str:
    """What runs of one seed are one sample of; a run without a seed is its own."""
    return cells.sample(run.data.params, run.info.run_id)
