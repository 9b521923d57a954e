"""`fa-track export`: from the MLflow store to the results database."""

import click

from fa_tracking.cli import _complete, _options
from fa_tracking.cli._show import progress, say, say_next

ORDER = 4


@click.command("export")
@click.option(
    "--experiment",
    metavar="NAME",
    help="Only this experiment  [default: the whole store]",
    shell_complete=_complete.experiments,
)
@click.option("--full", is_flag=True, help="Read all metrics again, not only those of new or changed runs.")
@click.option("--parquet", metavar="DIR", help="Also write the whole database as Parquet, one part per experiment.")
@_options.database
@_options.tracking_uri
def command(experiment: str | None, full: bool, parquet: str | None, db: str, tracking_uri: str | None) -> None:
    """Write the store's runs, metrics and audits into a DuckDB database.

    \b
    Example:
      fa-track export --db fa_results.duckdb --parquet results
    """
    from fa_tracking.results.export.export import export
    from fa_tracking.results.export.parquet import refuse_other_folders, write_parquet

    if parquet:
        refuse_other_folders(parquet)
    with progress("export") as update:
        done = export(db, tracking_uri, experiment, update, say, full)
    gone = f", {done.removed} removed" if done.removed else ""
    click.echo(
        f"{db}: {done.runs} runs, {done.changed} of them new or changed{gone}; {done.metrics} metric points read"
    )
    if parquet:
        click.echo(f"{parquet}: {write_parquet(db, parquet)} files")
    if experiment:
        say_next("query", "cross_seed", why="each cell over its seeds")
    else:
        say_next("query", why="lists the questions it can answer")
    if done.unreadable:
        raise click.exceptions.Exit(1)
