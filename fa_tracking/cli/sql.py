"""`fa-track sql`: any question, read-only."""

import click

from fa_tracking.cli import _options
from fa_tracking.cli._show import say_next, show, width
from fa_tracking.publishing.tables import FORMATS

ORDER = 6


@click.command("sql")
@click.argument("statement")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@_options.database
def command(statement: str, form: str, db: str) -> None:
    """Run one SQL STATEMENT on the results database. It can read the database's tables and nothing else.

    \b
    Example:
      fa-track sql "select method, count(*) from runs group by method"
    """
    from fa_tracking.publishing.tables import render
    from fa_tracking.results.database import connect, run_sql, sql_errors

    with connect(db) as connection, sql_errors():
        show(render(run_sql(connection, statement), form, width()))
    say_next("query", why="lists the questions that already have an SQL file")
