"""`fa-track query`: the catalogue of questions."""

import click

from fa_tracking.cli import _complete, _options
from fa_tracking.cli._show import field, say, say_next, show, width
from fa_tracking.publishing.tables import FORMATS

ORDER = 5


@click.command("query")
@click.argument("name", required=False, shell_complete=_complete.queries)
@_options.about()
@click.option("--explain", is_flag=True, help="Print the SQL for any DuckDB client; this needs no database.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@_options.database
def command(name: str | None, experiment: str | None, explain: bool, form: str, db: str) -> None:
    """Answer the question NAME from the catalogue; without NAME, list the catalogue.

    \b
    Example:
      fa-track query cross_seed --experiment dfa_penalty --format md
      fa-track query cross_seed --experiment dfa_penalty --explain
    """
    from fa_tracking.publishing.tables import render
    from fa_tracking.results.database import ask, connect, explain_query, find_query, queries, sql_errors

    if name is None:
        for query in queries().values():
            field(query.name, query.title, 22)
        say_next("query", "cross_seed", "--experiment", experiment or "NAME")
        return
    query = find_query(name)
    if explain:
        click.echo(explain_query(query, experiment), nl=False)
        say_next("query", name, why="its answer")
        return
    with connect(db) as connection, sql_errors():
        answer = ask(connection, query, experiment)
        show(render(answer, form, width()))
        if not len(answer):
            say(query.notes or query.title)
    say_next("table", name, why="prints the same for a paper")
