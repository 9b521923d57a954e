"""``audit``: a verdict on every finished run of an experiment, written beside the run."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fa_tracking.auditor import eval_data as eval_files
from fa_tracking.auditor import load, logged_model
from fa_tracking.auditor.control import Control, Controls
from fa_tracking.auditor.measure import Options, Subject, measure
from fa_tracking.auditor.write import withdraw, write
from fa_tracking.errors import CheckpointError, FATrackError, NoCheckpointError, UsageError
from fa_tracking.protocol.knockout import Knockout
from fa_tracking.protocol.report import DiagnosticReport, DiagnosticThresholds
from fa_tracking.tracking import names, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Progress = Callable[[int, int], None]
"""progress(done, total): called after each run."""


@dataclass(frozen=True)
class Audited:
    """What became of one run: a report, or the reason why there is none; ``removed``: the block knock-out likewise.

    ``epoch`` is that of the checkpoint.
    """

    run_id: str
    run_name: str
    params: dict[str, str]
    report: DiagnosticReport | None
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
    *,
    eval_data: Path | None = None,
    layers: Sequence[str] | None = None,
    trust_pickles: bool = False,
) -> Audit:
    """Measure the last checkpoint of every finished run, match its control, write tags, note and report artifacts.

    A run without one is measured by the last model that it logged with ``mlflow.pytorch.log_model``. Auditing again,
    with other thresholds or more controls, replaces what the last audit wrote. A run whose checkpoint is missing or
    damaged is reported as a problem and keeps no verdict of an earlier audit; one that cannot be measured for another
    reason (its data is not at hand, the store failed) keeps it. The others go on.

    Args:
        eval_data: a .safetensors or .npz file of ``inputs`` (N, …) and ``labels`` (N,), for logged models of runs that
            record no data of their own.
        layers: the modules of logged models taken as h_0 … h_L, where the models do not show them.
        trust_pickles: load logged models whose loading runs their author's code.

    Raises:
        UsageError: there is no such experiment, or ``data_dir`` or ``eval_data`` does not hold the data.
        FATrackError: the store does not answer.
    """
    given = eval_files.read(Path(eval_data)) if eval_data else None
    options = Options(data_dir, thresholds or DiagnosticThresholds(), given, layers, trust_pickles)
    client = store.client(tracking_uri)
    found = list(store.search_runs(client, [store.find_experiment(client, experiment).experiment_id]))
    finished = [run for run in found if run.info.status == "FINISHED"]
    others = [run.info.status for run in found if run.info.status != "FINISHED"]
    controls = Controls(client) if finished else None
    results = []
    for done, run in enumerate(finished, start=1):
        assert controls is not None
        results.append(_audit_run(client, run, controls, options))
        if progress:
            progress(done, len(finished))
    return Audit(tuple(results), {status: others.count(status) for status in sorted(set(others))})


def _audit_run(client: "MlflowClient", run: "Run", controls: Controls, options: Options) -> Audited:
    report, problem, found, epoch = None, None, None, None
    try:
        with tempfile.TemporaryDirectory(prefix="fa-track-") as scratch:
            subject = _subject(client, run, Path(scratch), options)
            epoch = subject.epoch
            report, removed = _measure(run, subject, controls.of(run), options)
        write(client, run, report, subject.epoch, subject.sha256, removed)
        found = {"not_measured": removed} if isinstance(removed, str) else removed.to_dict()
    except CheckpointError as error:
        report, problem = None, str(error)
        withdraw(client, run, problem)
    except UsageError as error:
        if options.data_dir:
            raise
        problem = str(error)
    except FATrackError as error:
        report, problem = None, str(error)
    return Audited(run.info.run_id, run.info.run_name or "", dict(run.data.params), report, problem, found, epoch)


def _subject(client: "MlflowClient", run: "Run", scratch: Path, options: Options) -> Subject:
    """Our checkpoint, else the model that MLflow logged."""
    try:
        return load.subject(client, run, scratch, options.data_dir)
    except NoCheckpointError:
        return logged_model.subject(client, run, scratch, options)


def _measure(
    run: "Run", subject: Subject, control: Control, options: Options
) -> tuple[DiagnosticReport, Knockout | str]:
    return measure(
        subject,
        frozen_baseline_acc=control.accuracy,
        method_name=run.data.params.get("method", ""),
        notes=_notes(run, subject),
        thresholds=options.thresholds,
        control_runs=control.runs,
        control_note=control.note,
    )


def _notes(run: "Run", subject: Subject) -> str:
    p = run.data.params
    parts = [p.get("architecture"), p.get("dataset"), f"epoch {subject.epoch}", f"seed {p.get('seed')}"]
    if {"depth", "width"} <= p.keys():
        parts.insert(1, f"{p['depth']} blocks, d = {p['width']}")
    if p.get("penalty", "0") not in ("0", "0.0"):
        parts.append(f"λ = {p['penalty']}")
    if p.get("frozen_blocks") == "True":
        parts.append("frozen blocks")
    if aborted := run.data.tags.get(names.TAG_ABORTED_AT):
        parts.append(f"aborted at epoch {aborted} of {p.get('epochs')}")
    return ", ".join(str(part) for part in [*parts, *subject.notes] if part)
