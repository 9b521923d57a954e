"""`fa-track export`: from the MLflow store to the results database."""

import click

from fa_tracking.cli import _options
from fa_tracking.cli._show import progress, say

ORDER = 4


@click.command("export")
@click.option("--experiment", metavar="NAME", help="Only this one; the whole store by default.")
@_options.database
@_options.tracking_uri
def command(experiment: str | None, db: str, tracking_uri: str | None) -> None:
    """Write the store's runs, metrics and audits into a DuckDB database.

    \b
    Example:
      fa-track export --db fa_results.duckdb
    """
    from fa_tracking.results.export import export

    with progress("export") as update:
        done = export(db, tracking_uri, experiment, update)
    click.echo(f"{db}: {done.runs} runs, {done.metrics} metric points")
    say("next: fa-track query, which lists the questions it can answer")
