"""`fa-track demo`: the whole path on data that comes with scikit-learn."""

import os
import time
from dataclasses import replace
from pathlib import Path

import click

from fa_tracking.cli import _options
from fa_tracking.cli._show import mlflow_ui, progress, same_again, say, typed, wrapped
from fa_tracking.cli._stop import going_on

ORDER = 1

STUDY = "demo"
ROOM = 80
"""Columns of text that it takes at most, however wide the terminal is."""
STACK = 3
"""Runs of one shape that train as one program: those of one cell, or as many."""
MOST_JOBS = 4
SEEDS = "select seed, verdict from runs join audits using (run_id)"


def _jobs() -> int:
    """As many processes as this one may use cores, up to ``MOST_JOBS``: there are no more stacks that take long."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_JOBS)


@click.command("demo")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=_jobs,
    help=f"Processes at a time  [default: one per core, {MOST_JOBS} at most]",
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("dfa_penalty.html"))
@_options.database
@_options.tracking_uri
def command(jobs: int, output: Path, db: str, tracking_uri: str | None) -> None:
    """Train 15 small runs, audit them, export them and draw the dashboard: one to three minutes on two cores.

    It trains BP, DFA, both with frozen blocks, and DFA with the residual penalty, three seeds each, on pairs of
    handwritten digits. At the end it says in two sentences what it found. If you run it again, it trains only the
    missing runs.

    \b
    Example:
      fa-track demo && mlflow ui
    """
    with going_on(lambda: f"{same_again()}   # trains only the missing runs"):
        _demo(jobs, output, db, tracking_uri)


def _demo(jobs: int, output: Path, db: str, tracking_uri: str | None) -> None:
    from fa_tracking.executors import local

    local.start(
        "fa_tracking.trainers.study.worker", "fa_tracking.auditor.run"
    )  # before what takes seconds to import here
    from fa_tracking.auditor.run import audit
    from fa_tracking.cli import _found
    from fa_tracking.cli.audit import audit_table
    from fa_tracking.cli.study import run_study
    from fa_tracking.dashboards.page import write_html
    from fa_tracking.executors import Needs
    from fa_tracking.publishing.summary import log_summary
    from fa_tracking.results.database import connect
    from fa_tracking.results.export.export import export
    from fa_tracking.tracking import address, names
    from fa_tracking.trainers.options import RunOptions, Stacking
    from fa_tracking.trainers.study import grid

    began = time.monotonic()
    chosen, needs = grid.load(STUDY), Needs(jobs=jobs)
    short = grid.told_apart(chosen.configs())
    say(wrapped(f"[1/4] train: {chosen.title}", 6, ROOM))
    if not run_study(chosen, needs, RunOptions(), tracking_uri, "local", Stacking(STACK)):
        raise click.ClickException("some runs failed; run `fa-track demo` again to train only those")
    say("[2/4] audit: a verdict on every run")
    with progress("audit") as update:
        audited = audit(chosen.experiment, tracking_uri, progress=update, executor="local", needs=needs)
    digests = [a.before.get(names.TAG_CONFIG_SHA256, "") for a in audited.runs]
    runs = [replace(a, run_name=short.get(of, a.run_name)) for a, of in zip(audited.runs, digests, strict=True)]
    runs.sort(key=lambda run: run.run_name)
    click.echo(audit_table(replace(audited, runs=tuple(runs)), ROOM, "fa-track query audit_table"))
    say(f"[3/4] export to {db}")
    with progress("export") as update:
        export(db, tracking_uri, progress=update)
    say(f"[4/4] dashboard: {output}")
    with progress("dashboard") as update:
        write_html(chosen.experiment, output, db, progress=update)
        log_summary(chosen.experiment, output, db, tracking_uri)
    with connect(db) as connection:
        found = _found.cells(connection, chosen.experiment, short)
    click.echo(f"each cell over its seeds:\n\n{_found.table(found, ROOM)}")
    for sentence in _found.sentences(found):
        click.echo(wrapped(sentence, room=ROOM))
    say(f"\ndone in {time.monotonic() - began:.0f} s; next, to type:")
    opened = "" if tracking_uri and address.is_server(tracking_uri) else f", at {address.UI}"
    experiment = ("--experiment", chosen.experiment)
    for command_line, why in (
        (mlflow_ui(tracking_uri), f"every run with its verdict{opened}"),
        (typed("query", "first_flag", *experiment), "when each diagnostic first fired"),
        (
            typed("audit", "--diff", *experiment, "--margin-pp", "5"),
            "the verdicts that another threshold would change; writes nothing",
        ),
        (typed("sql", SEEDS), "any question about the results"),
        (f"open {output} in a browser", "the dashboard"),
    ):
        say(f"  {command_line}\n      # {why}")
