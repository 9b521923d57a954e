"""`fa-track report`: the reporting template, filled."""

from dataclasses import asdict
from pathlib import Path

import click

from fa_tracking.cli import _options
from fa_tracking.cli._show import say, say_next, show

ORDER = 5.15


@click.command("report")
@_options.about("Experiment to report on, one section per cell  [default: the only one of the database]")
@click.option(
    "--run", "runs", metavar="ID", multiple=True, help="Run to report on, by its id or the beginning of it; repeatable."
)
@click.option("--format", "form", type=click.Choice(("md", "latex", "html")), default="md", show_default=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File  [default: stdout]")
@_options.database
def command(experiment: str | None, runs: tuple[str, ...], form: str, output: Path | None, db: str) -> None:
    """Report on an experiment, or on single runs, for a paper's appendix: setup, measurements and deviations.

    A cell is a set of runs that differ only in their seed. Each cell has a section: its verdict, its accuracy with the
    spread, its params, the four diagnostics with their thresholds, every seed, Γ by layer beside its null, its frozen
    control's runs, and every deviation from plan and protocol. LaTeX output is a part to \\input; it needs the
    packages booktabs and longtable.

    \b
    Example:
      fa-track report --experiment dfa_penalty --format html -o report.html
      fa-track report --run 25132f40 --db docs/reference-results
    """
    from fa_tracking.protocol.thresholds import DiagnosticThresholds
    from fa_tracking.publishing.document import FORMATS
    from fa_tracking.publishing.report import report
    from fa_tracking.results.database import connect, sql_errors
    from fa_tracking.results.files import write_whole

    if experiment and runs:
        raise click.UsageError("--experiment and --run contradict each other: give one of them.")
    if not runs:
        experiment = _options.the_only(experiment, db)
    with connect(db) as connection, sql_errors():
        text = FORMATS[form](report(connection, experiment, runs, asdict(DiagnosticThresholds())))
    if output is None:
        show(text)
    else:
        write_whole(output, text.encode())
        say(f"written: {output}")
    say_next("gate", "--experiment", experiment or "NAME", why="for CI: fails if a run lacks the verdict")
