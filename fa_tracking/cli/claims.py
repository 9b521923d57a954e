"""`fa-track claims`: sentences that the database can walk back."""

import json
from pathlib import Path

import click

from fa_tracking.cli import _options, _spelling
from fa_tracking.cli._show import field, progress, say, say_next
from fa_tracking.errors import UsageError

ORDER = 5.7

NOT_HELD = 3


@click.group("claims")
def command() -> None:
    """Check a paper's sentences against the database.

    \b
    Example:
      fa-track claims check claims.yaml -o evidence.md
    """


@command.command("check")
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), default="claims.yaml", required=False
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a summary of the evidence, in Markdown.",
)
@click.option("--record", "recording", is_flag=True, help="Record beside FILE which claims hold today.")
@_spelling.answer_format("table", "json")
@_options.database
def check_claims(file: Path, output: Path | None, recording: bool, form: str, db: str) -> None:
    """Judge every claim in FILE: holds, walked back, mixed or no evidence; exit with 3 if one does not hold.

    FILE is claims.yaml by default. It holds a list `claims`. Each claim has a `sentence`, a `query` (a name from the
    catalogue, or SQL), an `experiment`, `where` (which rows) and `holds` (a condition that every such row meets).

    \b
    Example:
      fa-track claims check claims.yaml --record -o evidence.md
    """
    from fa_tracking.publishing.claim_check import check
    from fa_tracking.publishing.claim_history import history_path, read_history, record
    from fa_tracking.publishing.claim_summary import summary
    from fa_tracking.publishing.claims import HOLDS, load
    from fa_tracking.results.database import connect, queries
    from fa_tracking.results.files import write_whole

    made, kept = load(file), history_path(file)
    if output and output.resolve() in (file.resolve(), kept.resolve()):
        raise UsageError(f"{output} is the file of claims or their record: give another file with -o")
    with connect(db) as connection, progress("claims") as update:
        checked = check(connection, made, read_history(kept), update)
    if recording:
        checked = record(kept, checked)
    if output:
        write_whole(output, summary(made.title, checked).encode())
        say(f"written: {output}")
    if form == "json":
        click.echo(json.dumps([c.to_dict() for c in checked], indent=2))
    for c in () if form == "json" else checked:
        runs = "not given by the query" if c.runs is None else " ".join(run[:8] for run in c.runs) or "none"
        held = f"{c.last_held.date}, n = {c.last_held.n}" if c.last_held else "no record"
        field(c.verdict, c.claim.sentence)
        field("", f"{c.counted}; last held: {held}; runs: {runs}")
    missed = next((c.claim for c in checked if c.verdict != HOLDS), None)
    if missed and missed.experiment and missed.query in queries():
        say_next(
            "query", missed.query, "--experiment", missed.experiment, why="shows what the first failed claim rests on"
        )
    elif not recording:
        say_next("claims", "check", str(file), "--record", why="records what holds today")
    else:
        say_next("pitfalls", "check", ".", why="looks for known ways to a wrong number in your code")
    if missed:
        raise click.exceptions.Exit(NOT_HELD)
