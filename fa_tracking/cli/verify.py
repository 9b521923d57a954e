"""`fa-track verify`: no stale number in a document."""

from pathlib import Path

import click

from fa_tracking.cli import _options
from fa_tracking.cli._show import say, say_next

ORDER = 5.4

STALE = 3
SHOWN = 5
"""Places that are named if there are more."""


@click.command("verify")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--write", is_flag=True, help="Update the stale values in the files.")
@click.option(
    "--left-out",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Expected number of markers in code, LaTeX verbatim or LaTeX comments, such as examples; not verified.",
)
@_options.about("Experiment for markers that name none  [default: the only one of the database]")
@_options.database
def command(files: tuple[Path, ...], write: bool, left_out: int, experiment: str | None, db: str) -> None:
    """Recompute every marked value in Markdown and LaTeX FILES; exit with 3 if one is stale or cannot be computed.

    It also exits with 3 if the number of markers in code or comments is not --left-out: their values are not checked.

    \b
    Markdown: <!-- fa: cross_seed[experiment=demo,method=bp].accuracy_mean .3f -->0.851<!-- /fa -->
    A table:  <!-- fa-table: cross_seed[experiment=demo] method,n --> … <!-- /fa-table -->
    LaTeX:    \\newcommand{\\fa}[3]{#3}
              \\fa{cross_seed[experiment=demo,method=bp].accuracy_mean}{.3f}{0.851}

    \b
    Example:
      fa-track verify README.md docs/*.md paper.tex
    """
    from fa_tracking.publishing.reference import Answers
    from fa_tracking.publishing.verify import read, verify
    from fa_tracking.results.database import connect, sql_errors
    from fa_tracking.results.files import write_whole
    from fa_tracking.untrusted import one_line

    texts = {path: read(path) for path in files}
    with connect(db) as connection, sql_errors():
        answers = Answers(connection, experiment)
        found = {path: verify(path, text, answers) for path, text in texts.items()}
    for path, verified in found.items():
        for finding in verified.findings:
            where = f"{path}:{finding.line}: {finding.reference}"
            if finding.problem:
                click.echo(one_line(f"{where}: {finding.problem}"))
            elif finding.stale:
                click.echo(one_line(f"{where}: {finding.old!r} is now {finding.new!r}"))
        for line, numbers in verified.unmarked:
            say(f"{path}:{line}: no marker on {', '.join(numbers)} in a table")
        if write and any(finding.stale for finding in verified.findings):
            write_whole(path, verified.text.encode())
    every = [finding for verified in found.values() for finding in verified.findings]
    stale, problems = sum(f.stale for f in every), sum(f.problem is not None for f in every)
    done = " and written" if write and stale else ""
    unseen = [(path, line) for path, verified in found.items() for line in verified.left_out]
    say(
        f"{len(every)} markers in {len(files)} files: {stale} stale{done}, {problems} that cannot be computed; "
        f"{len(unseen)} left out, in code or comments"
    )
    if len(unseen) != left_out:
        where = ", ".join(f"{path}:{line}" for path, line in unseen[:SHOWN]) + (" …" if len(unseen) > SHOWN else "")
        say(f"{left_out} left out were expected{f', and these are: {where}' if unseen else ''}")
        say_next("verify", "--left-out", str(len(unseen)), *map(str, files), why="where these are examples")
    elif problems:
        say_next("export", why="if runs are missing; then run this command again")
    elif stale and not write:
        say_next("verify", "--write", *map(str, files), why="updates them")
    else:
        say_next("pitfalls", "check", ".", why="looks for known ways to a wrong number in your code")
    if problems or len(unseen) != left_out or (stale and not write):
        raise click.exceptions.Exit(STALE)
