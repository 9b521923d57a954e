"""``replay``: where each diagnostic first fires in what runs logged, and what stopping there would have saved."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING

from fa_tracking import cells
from fa_tracking.auditor.control import Controls
from fa_tracking.auditor.evidence import logged_numbers
from fa_tracking.errors import FATrackError
from fa_tracking.protocol.diagnostics import catalogue, frozen_control
from fa_tracking.protocol.report import DiagnosticReport
from fa_tracking.protocol.table import Kind
from fa_tracking.protocol.thresholds import DiagnosticThresholds
from fa_tracking.tracking import names, store
from fa_tracking.tracking.abort import Abort, Patience

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STOPPING = ("n", "a", "b")
"""What a run is stopped for: (c) alone does not tell healthy runs from degenerate ones."""


Spread = tuple[float | None, float | None]
"""Mean and sample standard deviation; None without a value, the latter also with one."""


@dataclass(frozen=True)
class Fired:
    """Holds where a diagnostic or rule first fires.

    Attributes:
        epoch: None: never.
        kind: the evidence at that epoch; if it never fires, the weakest evidence at any epoch.
        accuracy: at that epoch, or the last one before it; None if none was logged by then.
        saved: the share of the logged epochs that a stop there saves; None without an epoch.
    """

    epoch: int | None
    kind: Kind
    accuracy: float | None = None
    saved: float | None = None


@dataclass(frozen=True)
class Replayed:
    """Holds one replayed run, or the reason why it could not be replayed.

    Attributes:
        diagnostics: by letter.
        stop: where the run would have been stopped; its kind is the best one among the flags that fire there.
        final_epoch, final_accuracy: the last logged epoch, which counts as the run's end for the savings.
        planned_epochs: the param; None if it is not a number.
        reached_its_end: whether the run is finished and was not aborted.
    """

    run_id: str
    run_name: str
    status: str
    params: dict[str, str]
    problem: str | None = None
    diagnostics: dict[str, Fired] = field(default_factory=dict)
    stop: Fired = Fired(None, Kind.NOT_MEASURED)
    final_epoch: int | None = None
    final_accuracy: float | None = None
    planned_epochs: int | None = None
    reached_its_end: bool = False

    @property
    def is_cut_short(self) -> bool:
        """Return whether the log ends before the planned epochs, for any reason."""
        return self.final_epoch is not None and self.final_epoch < (self.planned_epochs or 0)


@dataclass(frozen=True)
class Saving:
    """Holds the savings of one stopping rule in one cell, over its seeds; runs with the same seed are averaged first.

    Attributes:
        cell: the params that identify it (``fa_tracking/cells.py``).
        rule: one letter, or more joined by commas.
        n, n_fired: seeds with a run that finished and was not aborted, and those among them in which the rule fires.
        epochs: the earliest and the latest epoch at which it fires.
        saved: mean and sample standard deviation of the share of epochs saved, over ``n_fired`` seeds.
        change_pp: mean and sample standard deviation of the accuracy at the end minus the accuracy at the stop, over
            the ``n_change`` seeds that have both.
    """

    cell: dict[str, str]
    rule: str
    n: int
    n_fired: int
    epochs: tuple[int, int] | None
    saved: Spread
    n_change: int
    change_pp: Spread


@dataclass(frozen=True)
class Replay:
    """Holds the replayed runs of an experiment."""

    runs: tuple[Replayed, ...]
    abort_on: tuple[str, ...]

    @property
    def problems(self) -> list[Replayed]:
        return [r for r in self.runs if r.problem]

    @property
    def savings(self) -> list[Saving]:
        """By cell: of ``abort_on``, after every letter that fires in it and that a run can be stopped for."""
        by_cell: dict[frozenset[tuple[str, str]], list[Replayed]] = defaultdict(list)
        for run in self.runs:
            if run.reached_its_end:
                by_cell[frozenset(cells.apart(run.params).items())].append(run)
        return [
            _saving(rule, [(r, r.stop if rule == self.abort_on else r.diagnostics[rule[0]]) for r in runs])
            for runs in by_cell.values()
            for rule in [*((f,) for f in _stopping(runs) if (f,) != self.abort_on), self.abort_on]
        ]


def _stopping(runs: Sequence[Replayed]) -> list[str]:
    flags = [flag for flag in runs[0].diagnostics if flag != frozen_control.FLAG]
    return [flag for flag in flags if any(r.diagnostics[flag].epoch is not None for r in runs)]


def replay(
    experiment: str,
    tracking_uri: str | None = None,
    thresholds: DiagnosticThresholds | None = None,
    abort_on: Sequence[str] = STOPPING,
    patience: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Replay:
    """Compare every logged epoch of every run, finished or not, with the thresholds. Nothing is written.

    Epoch 0 counts like the others. (d) compares each epoch's accuracy with that of the finished control.

    Args:
        abort_on: the flags that would have stopped a run, as for ``fa-track train``.
        patience: the number of epochs in a row; it also applies to the single diagnostics, and counts the epochs at
            which they were measured.
        progress: called with (done, total) after each run.

    Raises:
        UsageError: there is no such experiment, or a flag or the patience makes no sense.
        FATrackError: the store does not answer.
    """
    Abort(abort_on, patience)
    client = store.reader(tracking_uri)
    found = store.trainings(client, [store.find_experiment(client, experiment).experiment_id])
    controls = Controls(client)
    results = []
    for done, run in enumerate(found, start=1):
        results.append(
            _replay_run(client, run, controls, thresholds or DiagnosticThresholds(), Abort(abort_on, patience))
        )
        if progress:
            progress(done, len(found))
    return Replay(tuple(results), tuple(abort_on))


def _replay_run(
    client: "MlflowClient", run: "Run", controls: Controls, thresholds: DiagnosticThresholds, abort: Abort
) -> Replayed:
    known = (run.info.run_id, run.info.run_name or "", run.info.status, dict(run.data.params))
    try:
        log = logged_numbers.read(client, run)
        control = controls.of(run)
        reports = {epoch: log.report(epoch, control, thresholds) for epoch in log.epochs}
    except FATrackError as error:
        return Replayed(*known, problem=str(error))
    if not reports:
        return Replayed(*known, problem="no diagnostics were logged: there is nothing to replay")
    planned = cells.count(run.data.params.get("epochs"))
    seen = _Seen(log, reports, max(log.values))
    diagnostics = {d.FLAG: seen.first(d, Patience(abort.patience)) for d in catalogue()}
    accuracy = log.accuracy(seen.final_epoch)
    ended = run.info.status == "FINISHED" and names.TAG_ABORTED_AT not in run.data.tags
    return Replayed(*known, None, diagnostics, seen.stop(abort), seen.final_epoch, accuracy, planned, ended)


@dataclass(frozen=True)
class _Seen:
    """The reports of a run by epoch, and what else is known of its course."""

    log: logged_numbers.Log
    reports: Mapping[int, DiagnosticReport]
    final_epoch: int

    def first(self, diagnostic: ModuleType, patience: Patience) -> Fired:
        fires = {epoch: f for epoch, r in self.reports.items() if (f := diagnostic.fires(r)) is not None}
        kinds = {epoch: self.reports[epoch].kinds.get(diagnostic.FLAG, Kind.EXACT) for epoch in fires}
        epoch = next((epoch for epoch, holds in fires.items() if patience(holds)), None)
        weakest = max(kinds.values(), key=list(Kind).index, default=Kind.NOT_MEASURED)
        return Fired(None, weakest) if epoch is None else self._fired(epoch, kinds[epoch])

    def stop(self, abort: Abort) -> Fired:
        epoch = next((epoch for epoch, report in self.reports.items() if abort(report)), None)
        if epoch is None:
            return Fired(None, Kind.NOT_MEASURED)
        report = self.reports[epoch]
        firing = set(report.flags) & set(abort.flags)
        return self._fired(epoch, min((report.kinds.get(f, Kind.EXACT) for f in firing), key=list(Kind).index))

    def _fired(self, epoch: int, kind: Kind) -> Fired:
        saved = 1 - epoch / self.final_epoch if self.final_epoch else None
        return Fired(epoch, kind, self.log.accuracy(epoch), saved)


def _saving(rule: tuple[str, ...], fired: Sequence[tuple[Replayed, Fired]]) -> Saving:
    stopped = [(run, at) for run, at in fired if at.epoch is not None]
    epochs = [at.epoch for _, at in stopped if at.epoch is not None]
    saved = _by_seed((run, at.saved) for run, at in stopped)
    change = _by_seed((run, _change_pp(run, at)) for run, at in stopped)
    return Saving(
        cell=cells.apart(fired[0][0].params),
        rule=",".join(rule),
        n=len({_seed(run) for run, _ in fired}),
        n_fired=len({_seed(run) for run, _ in stopped}),
        epochs=(min(epochs), max(epochs)) if epochs else None,
        saved=_spread(saved),
        n_change=len(change),
        change_pp=_spread(change),
    )


def _change_pp(run: Replayed, at: Fired) -> float | None:
    if run.final_accuracy is None or at.accuracy is None:
        return None
    change = 100 * (run.final_accuracy - at.accuracy)
    return change if math.isfinite(change) else None


def _seed(run: Replayed) -> str:
    """A run without a seed is a sample of its own."""
    return cells.sample(run.params, run.run_id)


def _by_seed(values: Iterable[tuple[Replayed, float | None]]) -> list[float]:
    by_seed: dict[str, list[float]] = defaultdict(list)
    for run, value in values:
        if value is not None:
            by_seed[_seed(run)].append(value)
    return [statistics.fmean(found) for found in by_seed.values()]


def _spread(values: Sequence[float]) -> Spread:
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None
