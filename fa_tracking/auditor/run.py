"""``audit``: a verdict on every finished run of an experiment, written beside the run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fa_tracking import cells, executors
from fa_tracking.auditor.control import Control, Controls
from fa_tracking.auditor.evidence import eval_data as eval_files
from fa_tracking.auditor.evidence.load import load
from fa_tracking.auditor.evidence.logged_numbers import Logged
from fa_tracking.auditor.evidence.options import Options
from fa_tracking.auditor.measure import measure
from fa_tracking.auditor.write import Finding, is_audited, withdraw, write
from fa_tracking.errors import CheckpointError, FATrackError, UsageError
from fa_tracking.executors import Needs, Problem
from fa_tracking.protocol.knockout import Knockout
from fa_tracking.protocol.report import DiagnosticReport
from fa_tracking.protocol.thresholds import DiagnosticThresholds
from fa_tracking.scratch import scratch
from fa_tracking.tracking import address, names, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Progress = Callable[[int, int], None]
"""progress(done, total): called after each run."""


@dataclass(frozen=True)
class Audited:
    """Holds one run's result: a report and the block knock-out, or the reason why there is none.

    ``epoch`` is the checkpoint's, or the last with logged numbers. ``before``: the run's tags before the audit;
    ``withdrawn``: whether the problem removes an earlier verdict.
    """

    run_id: str
    run_name: str
    params: dict[str, str]
    report: DiagnosticReport | None
    problem: str | None
    knockout: Knockout | None = None
    epoch: int | None = None
    experiment: str = ""
    before: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    withdrawn: bool = False


@dataclass(frozen=True)
class Audit:
    """Holds the result for each finished run in an experiment, and the number of other runs by status.

    ``evaluated`` counts runs that MLflow's evaluator judged on data that is not available here: they stay unchanged.
    """

    runs: tuple[Audited, ...]
    unfinished: dict[str, int]
    evaluated: int = 0

    @property
    def problems(self) -> list[Audited]:
        return [a for a in self.runs if a.problem]


def audit(
    experiment: str | None,
    tracking_uri: str | None = None,
    data_dir: str | None = None,
    thresholds: DiagnosticThresholds | None = None,
    progress: Progress | None = None,
    *,
    eval_data: Path | None = None,
    layers: Sequence[str] | None = None,
    trust_pickles: bool = False,
    pictures: bool = True,
    executor: str | None = None,
    needs: Needs | None = None,
    write: bool = True,
) -> Audit:
    """Measure the last checkpoint of every finished run, match its control, write tags, note and report artifacts.

    A run without a checkpoint, or with one saved without ``factory``, is measured by the last model that it logged with
    ``mlflow.pytorch.log_model``. A run without either is judged by the numbers logged in its last epoch; its evidence
    is partial.

    A new audit, with other thresholds or more controls, replaces what the last audit wrote. If a run's checkpoint is
    damaged, or it has neither a model nor logged diagnostics, it is reported as a problem and loses its earlier
    verdict. If it cannot be measured for another reason (missing data, a pickled model, a network with another
    definition in this version, a failed store), it keeps its earlier verdict. The other runs go on.

    Args:
        experiment: None: every experiment in the store; only with ``write=False``.
        eval_data: a .safetensors or .npz file of ``inputs`` (N, …) and ``labels`` (N,), for logged models whose run
            records no data.
        layers: the modules of logged models that give h_0 … h_L, if the models do not show them.
        trust_pickles: also load logged models that run their author's code when loaded.
        pictures: draw each run's norms and training curve in its report; for a small network this takes longer than the
            measurement.
        executor: one of ``fa_tracking.executors``, which measures several runs at a time; None: one after the other in
            this process. The reports are the same, except for the last bits if the number of threads differs.
        needs: of the executor.
        write: False: only measure; tags, notes, reports and verdicts stay as they are.

    Raises:
        UsageError: there is no such experiment, or ``data_dir`` or ``eval_data`` does not hold the data.
        FATrackError: the store does not answer.
    """
    if write and experiment is None:
        raise UsageError("an audit that writes is of one experiment")
    given = eval_files.read(Path(eval_data)) if eval_data else None
    options = Options(data_dir, thresholds or DiagnosticThresholds(), given, layers, trust_pickles, pictures, write)
    client = store.reader(tracking_uri)
    uri = address.absolute(client.tracking_uri) if executor else tracking_uri
    asked = [store.find_experiment(client, experiment)] if experiment is not None else store.all_experiments(client)
    named = {e.experiment_id: e.name for e in asked}
    found = store.trainings(client, list(named))
    finished = [run for run in found if run.info.status == "FINISHED"]
    others = [run.info.status for run in found if run.info.status != "FINISHED"]
    evaluated = [run for run in finished if names.TAG_EVALUATED in run.data.tags]
    finished = [run for run in finished if run not in evaluated]
    controls = Controls(client) if finished else None
    jobs = [(run, controls.of(run)) for run in finished] if controls else []
    outcomes = _elsewhere(executor, uri, jobs, options, needs) if executor else _here(client, jobs, options)
    results: dict[int, Audited] = {}
    for index, audited in outcomes:
        run = jobs[index][0]
        results[index] = replace(audited, experiment=named[run.info.experiment_id], before=dict(run.data.tags))
        if progress:
            progress(len(results), len(jobs))
    unfinished = {status: others.count(status) for status in sorted(set(others))}
    return Audit(tuple(results[i] for i in range(len(jobs))), unfinished, len(evaluated))


Job = tuple["Run", Control]


def _here(client: "MlflowClient", jobs: list[Job], options: Options) -> Iterator[tuple[int, Audited]]:
    for index, (run, control) in enumerate(jobs):
        yield index, _audit_run(client, run, control, options)


def _elsewhere(
    executor: str, uri: str | None, jobs: list[Job], options: Options, needs: Needs | None
) -> Iterator[tuple[int, Audited]]:
    """Each run by a process of an executor; one that is lost is a problem of its own run alone."""
    work = partial(_audit_job, uri, options, (needs or Needs()).cpus_per_run)
    with closing(executors.run(executor, work, jobs, needs)) as outcomes:
        for index, outcome in outcomes:
            if isinstance(outcome, UsageError):
                raise outcome
            lost = isinstance(outcome, Problem)
            yield index, _without_report(jobs[index][0], outcome.text) if lost else outcome


def _audit_job(uri: str | None, options: Options, threads: int, job: Job) -> Audited | UsageError:
    """In a process of an executor: where several share the cores, threads that are more than these only wait."""
    torch.set_num_threads(threads)
    run, control = job
    try:
        store.must_be_here(uri or "")
        return _audit_run(store.client(uri), run, control, options)
    except UsageError as error:
        return error
    except FATrackError as error:
        return _without_report(run, str(error))


def _without_report(run: "Run", problem: str | None) -> Audited:
    return Audited(run.info.run_id, run.info.run_name or "", dict(run.data.params), None, problem)


def _audit_run(client: "MlflowClient", run: "Run", control: Control, options: Options) -> Audited:
    none = _without_report(run, None)
    try:
        found = _judge(client, run, control, options)
        if options.write:
            write(client, run, found, options.pictures)
        return replace(none, report=found.report, knockout=found.knockout, epoch=found.epoch)
    except CheckpointError as error:
        if options.write:
            withdraw(client, run, str(error))
        return replace(none, problem=str(error), withdrawn=is_audited(run))
    except UsageError as error:
        if options.data_dir:
            raise
        return replace(none, problem=str(error))
    except FATrackError as error:
        return replace(none, problem=str(error))


def _judge(client: "MlflowClient", run: "Run", control: Control, options: Options) -> Finding:
    with scratch() as folder:
        evidence = load(client, run, folder, options)
        notes = _notes(run, evidence.epoch)
        if isinstance(evidence, Logged):
            log, why = evidence.log, evidence.no_network
            partial_report = log.report(evidence.epoch, control, options.thresholds, f"{notes}, {why}")
            return Finding(partial_report, evidence.epoch, None, Knockout(problem=why), log)
        notes = ", ".join([notes, *evidence.notes])
        report, knockout = measure(evidence, control, options.thresholds, run.data.params.get("method", ""), notes)
    return Finding(report, evidence.epoch, evidence.sha256, knockout)


def _notes(run: "Run", epoch: int) -> str:
    p = run.data.params
    parts = [p.get("architecture"), p.get("dataset"), f"epoch {epoch}", f"seed {p['seed']}" if "seed" in p else None]
    if {"depth", "width"} <= p.keys():
        parts.insert(1, f"{p['depth']} blocks, d = {p['width']}")
    if (penalty := cells.meaning(p, "penalty") or "0") != "0":
        parts.append(f"λ = {penalty}")
    parts += [*cells.in_words(p), cells.contradiction(p)]
    if aborted := run.data.tags.get(names.TAG_ABORTED_AT):
        parts.append(f"aborted at epoch {aborted} of {p.get('epochs')}")
    return ", ".join(str(part) for part in parts if part)
