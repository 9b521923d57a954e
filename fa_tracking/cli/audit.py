"""`fa-track audit`: a verdict on every finished run of an experiment."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fa_tracking.cli import _complete, _diff, _options, _spelling
from fa_tracking.cli._show import MARKS_EXPLAINED, legend, marked, mlflow_ui, progress, say, table, typed
from fa_tracking.spelled import counted

if TYPE_CHECKING:
    from fa_tracking.auditor.run import Audit, Audited
    from fa_tracking.executors import Needs
    from fa_tracking.protocol.report import DiagnosticReport
    from fa_tracking.protocol.thresholds import DiagnosticThresholds

ORDER = 3
MOST_COMMANDS = 5
"""Cells without a frozen control, for each of which the command is said."""


@click.command("audit")
@click.option(
    "--experiment",
    metavar="NAME",
    help="Experiment in MLflow  [default: the only one that has runs; with --diff all of them]",
    shell_complete=_complete.experiments,
)
@click.option("--diff", is_flag=True, help="Write nothing; list the verdicts that would change, and why.")
@click.option(
    "--data-dir", metavar="DIR", help="Folder of the data  [default: FA_TRACK_DATA, else the folder used in training]"
)
@click.option(
    "--eval-data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help=".safetensors or .npz with `inputs` (N, …) and `labels` (N,): for logged models whose run records no data.",
)
@_spelling.repeated(
    "--layer",
    old="--layers",
    into="layers",
    metavar="NAME",
    help="Module of logged models that gives h_0, the next h_1, …; repeatable  [default: found]",
)
@click.option("--trust-pickles", is_flag=True, help="Also load logged models that run their author's code when loaded.")
@click.option(
    "--pictures/--no-pictures",
    default=True,
    show_default=True,
    help="Draw the norms and the training curve in the reports.",
)
@_options.thresholds
@_spelling.answer_format("table", "json")
@_options.executor(None, unset="this process, one run after the other")
@_options.tracking_uri
def command(
    experiment: str | None,
    diff: bool,
    data_dir: str | None,
    eval_data: Path | None,
    layers: tuple[str, ...],
    trust_pickles: bool,
    pictures: bool,
    thresholds: "DiagnosticThresholds",
    form: str,
    executor: str | None,
    needs: "Needs",
    tracking_uri: str | None,
) -> None:
    """Measure the last checkpoint of every finished run and write its verdict as tags, note and report.

    If a run has no checkpoint, its model logged with mlflow.pytorch.log_model is measured. If it has neither, the
    diagnostics that it logged are judged, and its evidence is partial. --diff measures everything and writes nothing:
    use it after an upgrade.

    \b
    Example:
      fa-track audit --experiment dfa_penalty
      fa-track audit --experiment mine --eval-data test.npz
      fa-track audit --experiment dfa_penalty --executor local --jobs 4 --no-pictures
      fa-track audit --diff
    """
    from fa_tracking.executors import local

    if executor == "local":
        local.start("fa_tracking.auditor.run")  # before what takes seconds to import here
    from fa_tracking.auditor.run import audit
    from fa_tracking.tracking.store import only_experiment

    if experiment is None and not diff:
        experiment = only_experiment(tracking_uri)
    with progress("audit") as update:
        result = audit(
            experiment,
            tracking_uri,
            data_dir,
            thresholds,
            update,
            eval_data=eval_data,
            layers=list(layers) or None,
            trust_pickles=trust_pickles,
            pictures=pictures,
            executor=executor,
            needs=needs,
            write=not diff,
        )
    said: dict[str, list[Audited]] = {}
    for audited in result.problems:
        said.setdefault(audited.problem or "", []).append(audited)
    for problem, runs in said.items():
        more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        say(f"{runs[0].run_id} ({runs[0].run_name}){more}: {problem}")
    if result.unfinished:
        counts = ", ".join(f"{n} {status}" for status, n in result.unfinished.items())
        say(f"not audited, because they have not finished: {counts}")
    if result.evaluated:
        say(f"unchanged, because MLflow's evaluator judged them: {result.evaluated} runs")
    if diff:
        from fa_tracking.auditor.differ import differences

        differing = differences(result)
        if form == "json":
            click.echo(json.dumps(_diff.as_json(result, differing), indent=2))
        _diff.conclude(result, differing, is_shown=form != "json")
    else:
        _conclude(result, form, experiment or "", tracking_uri)
    if result.problems:
        raise click.exceptions.Exit(1)


def _conclude(result: "Audit", form: str, experiment: str, tracking_uri: str | None) -> None:
    """Print the reports as JSON or as a table, and the command to type next."""
    if form == "json":
        click.echo(
            json.dumps(
                [
                    {
                        "run_id": a.run_id,
                        "run_name": a.run_name,
                        "params": a.params,
                        "epoch": a.epoch,
                        "problem": a.problem,
                    }
                    | {
                        "report": a.report.to_dict() if a.report else None,
                        "knockout": a.knockout.to_dict() if a.knockout else None,
                    }
                    for a in result.runs
                ],
                indent=2,
            )
        )
    else:
        click.echo(audit_table(result), nl=False)
        say_missing_controls(result)
    if not result.runs:
        say(f"the experiment {experiment!r} has no finished run: nothing was audited")
    say(f"next: {typed('export')}, then {typed('query', 'cross_seed')}; or {mlflow_ui(tracking_uri)}")


def say_missing_controls(result: "Audit") -> None:
    """For each cell that has no frozen control, the command that trains one."""
    from fa_tracking import cells

    alone: dict[str, list[Audited]] = {}
    for audited in result.runs:
        report = audited.report
        if report and report.frozen_baseline_acc is None and not cells.is_frozen(audited.params):
            apart = {key: value for key, value in cells.apart(audited.params).items() if key != "penalty"}
            alone.setdefault(cells.named(apart), []).append(audited)
    commands = {command: runs for runs in alone.values() if (command := _control_command(runs[0]))}
    for command, runs in list(commands.items())[:MOST_COMMANDS]:
        seeds = sorted({run.params.get("seed", "") for run in runs} - {runs[0].params.get("seed", "")})
        also = f"   # and with seed {', '.join(seeds)}" if seeds else ""
        say(f"(d) is not measured, because there is no frozen control; train one: {command}{also}")
    if len(commands) > MOST_COMMANDS:
        say(f"and {len(commands) - MOST_COMMANDS} more cells have no frozen control")
    if others := sum(len(runs) for runs in alone.values()) - sum(map(len, commands.values())):
        say(
            f"{counted(others, 'run')} with no frozen control, so (d) is not measured: train the same network with its "
            "blocks frozen, log it with frozen_blocks=True, and audit again"
        )


def _control_command(audited: "Audited") -> str | None:
    """The command that trains a run's frozen control; None where `fa-track train` did not begin the run."""
    from fa_tracking.cli.train import command as train
    from fa_tracking.tracking import names

    if names.TAG_CONFIG_SHA256 not in audited.before or audited.params.get("labels") == "random":
        return None
    words = ["train", audited.params["method"], "--experiment", audited.experiment]
    for option in train.params:
        name = option.name or ""
        value = audited.params.get(name)
        aside = name in ("method", "penalty", "trainable_blocks", "frozen_blocks")
        if value is not None and not aside and value != str(option.default):
            words += [option.opts[-1], value]
    data = audited.before.get(names.TAG_DATA_DIR)
    return typed(*words, "--frozen-blocks", *(["--data-dir", data] if data else []))


def audit_table(result: "Audit", room: int | None = None, whole: str = "--format json") -> str:
    """A row a run: what was measured, and the letters of what fired, spelled out below; controls are named so.

    Args:
        room: columns of text that it may take; None: as many as the terminal has.
        whole: what prints everything, named where something is shortened.
    """
    from fa_tracking import cells
    from fa_tracking.protocol.diagnostics import (
        catalogue,
        direction_stability,
        frozen_control,
        grad_norm,
        residual_norm,
    )
    from fa_tracking.protocol.report import TRUSTWORTHY
    from fa_tracking.protocol.table import Evidence, Reference

    rows = [
        (
            a.run_name,
            a.epoch,
            a.report.headline_acc,
            *(
                marked(d.value(a.report), a.report.kinds[d.FLAG])
                for d in (residual_norm, grad_norm, direction_stability, frozen_control)
            ),
            _verdict(a.report) + (" control" if cells.is_frozen(a.params) else ""),
        )
        for a in result.runs
        if a.report
    ]
    reports = [a.report for a in result.runs if a.report]
    fired = {flag for report in reports for flag in report.flags}
    lines = [f"⚑ needs walk-back   {d.FLAG}: {d.WORDING}" for d in catalogue() if d.FLAG in fired]
    lines += ["✓ trustworthy"] if any(report.verdict == TRUSTWORTHY for report in reports) else []
    if any(report.reference is Reference.NOT_BP for report in reports):
        lines += [f"(b) and (c) are empty if the reference gradient is {Reference.NOT_BP}"]
    if any(grad_norm.explained_by_small_error(report) for report in reports):
        lines += ["(b) does not fire if ‖g‖ is below the floor because the output error is small"]
    if any(residual_norm.of_the_class_token_alone(report) for report in reports):
        lines += ["(a) does not fire if only the class token grows: the report has the stream's growth"]
    if any(cells.is_frozen(a.params) for a in result.runs if a.report):
        lines += ["control: a run with its blocks frozen as they were drawn; (d) is the margin over it"]
    if any(report.evidence is Evidence.PARTIAL for report in reports):
        lines += [
            "partial: judged by its logged numbers; audit/report.txt says why no checkpoint was measured",
            MARKS_EXPLAINED,
        ]
    lines += dict.fromkeys(caveat for report in reports for caveat in report.caveats)
    columns = ("run", "epoch", "accuracy", "(a)_growth", "(b)_‖g‖", "(c)_cosine", "(d)_margin_pp", "verdict")
    return table(columns, rows, room, whole) + legend(lines, room)


def _verdict(report: "DiagnosticReport") -> str:
    from fa_tracking.protocol.report import TRUSTWORTHY
    from fa_tracking.protocol.table import Evidence
    from fa_tracking.protocol.thresholds import other_thresholds

    said = "✓" if report.verdict == TRUSTWORTHY else f"⚑ {' '.join(report.flags)}" if report.flags else "? inconclusive"
    said += " †" if other_thresholds(report.thresholds) else ""
    return f"{said} partial" if report.evidence is Evidence.PARTIAL else said
