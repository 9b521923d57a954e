"""`fa-track merge`: several exports in one database."""

import click

from fa_tracking.cli import _options
from fa_tracking.cli._show import say, say_next
from fa_tracking.untrusted import printable

ORDER = 4.5

WORDS = {
    "new": "{runs} runs, new",
    "newer": "{runs} runs, in the place of its earlier export",
    "held": "{runs} runs, held already",
    "older": "{runs} runs, older than what is held: left",
}


@click.command("merge")
@click.argument("exports", nargs=-1, required=True, metavar="[NAME=]EXPORT…")
@click.option("--parquet", metavar="DIR", help="Also write the whole database as Parquet, a part an experiment.")
@_options.database
def command(exports: tuple[str, ...], parquet: str | None, db: str) -> None:
    """Bring the exports of several stores or laboratories into one database.

    An EXPORT is a database file or a folder of `fa-track export --parquet`. NAME is its laboratory, by default the
    name of the file: a part of each run's cell, so that no cell mixes two; exports of one NAME are pooled. A run
    whose id another store's run has already becomes ID@NAME. A newer export of a store replaces its older rows.

    \b
    Example:
      fa-track merge lab_a.duckdb theirs=results/ --db all.duckdb
    """
    from fa_tracking.results.export.merge import merge, refuse_own_sources
    from fa_tracking.results.export.parquet import refuse_other_folders, write_parquet

    if parquet:
        refuse_other_folders(parquet)
        refuse_own_sources(exports, parquet)
    for one in merge(exports, db, say):
        click.echo(printable(f"{one.label or db}: {WORDS[one.what].format(runs=one.runs)}; of {one.uri}"))
    if parquet:
        click.echo(f"{parquet}: {write_parquet(db, parquet)} files")
    say_next("query", why="lists the questions it can answer")
