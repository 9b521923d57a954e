"""`fa-track merge`: several exports in one database."""

import click

from fa_tracking.cli import _options
from fa_tracking.cli._show import say, say_next
from fa_tracking.untrusted import printable

ORDER = 4.5

WORDS = {
    "new": "{runs} runs, new",
    "newer": "{runs} runs, replacing its earlier export",
    "held": "{runs} runs, already there",
    "older": "{runs} runs, left out because a newer export is there",
}


@click.command("merge")
@click.argument("exports", nargs=-1, required=True, metavar="[NAME=]EXPORT…")
@click.option("--parquet", metavar="DIR", help="Also write the whole database as Parquet, one part per experiment.")
@_options.database
def command(exports: tuple[str, ...], parquet: str | None, db: str) -> None:
    """Bring the exports of several stores or laboratories into one database.

    An EXPORT is a database file or a folder from `fa-track export --parquet`. NAME is its laboratory, by default the
    file's name. NAME is part of each run's cell, so no cell mixes two laboratories; exports with the same NAME are
    pooled. If two stores use the same run id, the second run becomes ID@NAME. A store's newer export replaces its
    older rows.

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
