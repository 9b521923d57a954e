"""`fa-track demo`: the whole path on data that comes with scikit-learn."""

import os
import time
from pathlib import Path

import click

from fa_tracking.cli import _options
from fa_tracking.cli._show import mlflow_ui, progress, say, typed, width

ORDER = 1

GROWTH = "select method, avg(max_block_growth) from runs join audits using (run_id) group by all"


@click.command("demo")
@click.option("--jobs", type=click.IntRange(1), default=lambda: min(os.cpu_count() or 1, 4), help="Runs at a time.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("dfa_penalty.html"))
@_options.database
@_options.tracking_uri
def command(jobs: int, output: Path, db: str, tracking_uri: str | None) -> None:
    """Train 15 small runs, audit them, export them and draw the dashboard: some minutes on two cores.

    BP, DFA, both with frozen blocks, and DFA with the residual penalty, three seeds each, on pairs of handwritten
    digits. Run again, it trains only what is missing.

    \b
    Example:
      fa-track demo && mlflow ui
    """
    from fa_tracking.executors import local

    local.start("trainers.schedule")  # before what takes seconds to import here
    from dashboards.page import write_html
    from fa_tracking.auditor.run import audit
    from fa_tracking.cli.audit import audit_table
    from fa_tracking.cli.study import run_study
    from fa_tracking.executors import Needs
    from fa_tracking.results.database import ask, connect, find_query
    from fa_tracking.results.export import export
    from fa_tracking.results.summary import log_summary
    from fa_tracking.results.tables import render
    from trainers import study

    began = time.monotonic()
    chosen = study.load("demo")
    say(f"[1/4] train: {chosen.title}")
    if not run_study(chosen, Needs(jobs=jobs), None, tracking_uri):
        raise click.ClickException("some runs failed; `fa-track demo` again trains only those")
    say("[2/4] audit: a verdict on every run")
    with progress("audit") as update:
        audited = audit(chosen.experiment, tracking_uri, progress=update)
    click.echo(audit_table(audited))
    say(f"[3/4] export to {db}")
    with progress("export") as update:
        export(db, tracking_uri, progress=update)
    with connect(db) as connection:
        answer = ask(connection, find_query("cross_seed"), {"experiment": chosen.experiment})
        click.echo(render(answer, width=width()))
    say(f"[4/4] dashboard: {output}")
    with progress("dashboard") as update:
        write_html(chosen.experiment, output, db, progress=update)
        log_summary(chosen.experiment, output, db, tracking_uri)
    say(f"done in {time.monotonic() - began:.0f} s")
    say("\nnext, to type:")
    experiment = ("--experiment", chosen.experiment)
    opened = "" if mlflow_ui(tracking_uri).startswith("open ") else ", at http://127.0.0.1:5000"
    say(f"  {mlflow_ui(tracking_uri)}   # every run with its verdict{opened}")
    say(f"  {typed('query', 'first_flag', *experiment)}   # when each diagnostic first fired")
    say(f"  {typed('audit', *experiment, '--margin-pp', '5')}   # the verdicts under another threshold")
    say(f"  {typed('sql', GROWTH)}")
    say(f"  open {output} in a browser   # the dashboard")
