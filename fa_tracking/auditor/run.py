"""``audit``: a verdict on every finished run of an experiment, written beside the run."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fa_tracking.auditor import load, logged
from fa_tracking.auditor.control import Control, Controls
from fa_tracking.auditor.write import withdraw, write
from fa_tracking.errors import CheckpointError, FATrackError, NoCheckpointError, UsageError
from fa_tracking.protocol.diagnose import diagnose
from fa_tracking.protocol.knockout import Knockout, knockout
from fa_tracking.protocol.partial import Report
from fa_tracking.protocol.report import DiagnosticReport, DiagnosticThresholds
from fa_tracking.tracking import checkpoint, names, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from torch import Tensor, nn

    from fa_tracking.tracking.checkpoint import Checkpoint

Batches = Sequence[tuple["Tensor", "Tensor"]]
Progress = Callable[[int, int], None]
"""progress(done, total): called after each run."""


@dataclass(frozen=True)
class Audited:
    """What became of one run: a report, or the reason why there is none; ``removed``: the block knock-out likewise.

    ``epoch`` is that of the checkpoint, or of the last numbers that were logged.
    """

    run_id: str
    run_name: str
    params: dict[str, str]
    report: Report | None
    problem: str | None
    removed: dict[str, Any] | None = None
    epoch: int | None = None


@dataclass(frozen=True)
class Audit:
    """What became of an experiment's finished runs, and how many others there were, by status."""

    runs: tuple[Audited, ...]
    unfinished: dict[str, int]

    @property
    def problems(self) -> list[Audited]:
        return [a for a in self.runs if a.problem]


def audit(
    experiment: str,
    tracking_uri: str | None = None,
    data_dir: str | None = None,
    thresholds: DiagnosticThresholds | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Measure the last checkpoint of every finished run, match its control, write tags, note and report artifacts.

    A run that never saved a checkpoint is judged by what it logged: a ``PartialReport`` of its last epoch.

    Auditing again, with other thresholds or more controls, replaces what the last audit wrote. A run whose checkpoint
    is damaged, or that has neither checkpoint nor logged diagnostics, is reported as a problem and keeps no verdict of
    an earlier audit; one that cannot be measured for another reason (its data is not at hand, the store failed) keeps
    it. The others go on.

    Raises:
        UsageError: there is no such experiment, or ``data_dir`` does not hold the data.
        FATrackError: the store does not answer.
    """
    client = store.client(tracking_uri)
    found = list(store.search_runs(client, [store.find_experiment(client, experiment).experiment_id]))
    finished = [run for run in found if run.info.status == "FINISHED"]
    others = [run.info.status for run in found if run.info.status != "FINISHED"]
    controls = Controls(client) if finished else None
    results = []
    for done, run in enumerate(finished, start=1):
        assert controls is not None
        results.append(_audit_run(client, run, controls, data_dir, thresholds or DiagnosticThresholds()))
        if progress:
            progress(done, len(finished))
    return Audit(tuple(results), {status: others.count(status) for status in sorted(set(others))})


class Judged(NamedTuple):
    """A report, the epoch that it is of, the checkpoint's SHA-256 and the block knock-out, or why there is none."""

    report: Report
    epoch: int
    sha256: str | None
    removed: Knockout | str


def _audit_run(
    client: "MlflowClient", run: "Run", controls: Controls, data_dir: str | None, thresholds: DiagnosticThresholds
) -> Audited:
    report, problem, found, epoch = None, None, None, None
    try:
        judged = _judge(client, run, controls.of(run), data_dir, thresholds)
        write(client, run, *judged)
        report, epoch, _, removed = judged
        found = {"not_measured": removed} if isinstance(removed, str) else removed.to_dict()
    except CheckpointError as error:
        problem = str(error)
        withdraw(client, run, problem)
    except UsageError as error:
        if data_dir:
            raise
        problem = str(error)
    except FATrackError as error:
        problem = str(error)
    return Audited(run.info.run_id, run.info.run_name or "", dict(run.data.params), report, problem, found, epoch)


def _judge(
    client: "MlflowClient", run: "Run", control: Control, data_dir: str | None, thresholds: DiagnosticThresholds
) -> Judged:
    """By the checkpoint; of a run that never saved one, by what it logged."""
    try:
        return _by_checkpoint(client, run, control, data_dir, thresholds)
    except NoCheckpointError as missing:
        log = logged.read(client, run)
        if not log.epochs:
            raise NoCheckpointError(f"{missing}, or log diagnostics with `run.log_epoch(…)`") from missing
        epoch = log.epochs[-1]
        report = log.report(epoch, control, thresholds, _notes(run, epoch))
        return Judged(report, epoch, None, "not measured: no checkpoint")


def _by_checkpoint(
    client: "MlflowClient", run: "Run", control: Control, data_dir: str | None, thresholds: DiagnosticThresholds
) -> Judged:
    with tempfile.TemporaryDirectory(prefix="fa-track-") as scratch:
        saved = load.last_checkpoint(client, run, Path(scratch))
        model = checkpoint.build_model(saved)
        batches = load.batches(saved.config.dataset, data_dir, run)
        report = _measure(client, run, saved, model, batches, control, thresholds)
        return Judged(report, saved.config.epoch, saved.sha256, _knockout(model, batches))


def _measure(
    client: "MlflowClient",
    run: "Run",
    saved: "Checkpoint",
    model: "nn.Module",
    batches: "Batches",
    control: Control,
    thresholds: DiagnosticThresholds,
) -> DiagnosticReport:
    try:
        return diagnose(
            model,
            batches,
            headline_acc=_headline(client, run, saved.config.epoch),
            frozen_baseline_acc=control.accuracy,
            method_name=run.data.params.get("method", ""),
            notes=_notes(run, saved.config.epoch),
            thresholds=thresholds,
            control_runs=control.runs,
            control_note=control.note,
        )
    except (ValueError, RuntimeError) as error:
        raise FATrackError(f"the model of checkpoint {saved.folder.name} cannot be measured: {error}") from error


def _knockout(model: "nn.Module", batches: "Batches") -> Knockout | str:
    """The knock-out, or why there is none."""
    try:
        return knockout(model, batches)
    except ValueError as error:
        return f"not measured: {error}"


def _headline(client: "MlflowClient", run: "Run", epoch: int) -> float | None:
    """The logged test accuracy of the checkpoint's epoch."""
    with store.store_errors():
        history = client.get_metric_history(run.info.run_id, names.ACCURACY_TEST)
    at_epoch = [m.value for m in history if m.step == epoch]
    return at_epoch[-1] if at_epoch else None


def _notes(run: "Run", epoch: int) -> str:
    p = run.data.params
    parts = [p.get("architecture"), p.get("dataset"), f"epoch {epoch}", f"seed {p.get('seed')}"]
    if {"depth", "width"} <= p.keys():
        parts.insert(1, f"{p['depth']} blocks, d = {p['width']}")
    if p.get("penalty", "0") not in ("0", "0.0"):
        parts.append(f"λ = {p['penalty']}")
    if p.get("frozen_blocks") == "True":
        parts.append("frozen blocks")
    if aborted := run.data.tags.get(names.TAG_ABORTED_AT):
        parts.append(f"aborted at epoch {aborted} of {p.get('epochs')}")
    return ", ".join(str(part) for part in parts if part)
