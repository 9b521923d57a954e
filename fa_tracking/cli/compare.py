"""`fa-track compare`: two cells, in a sentence that a paper could use."""

import json

import click

from fa_tracking.cli import _options, _spelling
from fa_tracking.cli._show import say_next

ORDER = 5.5


@click.command("compare")
@click.option(
    "--metric", default="accuracy/test", show_default=True, help="Metric to compare, at the last logged epoch."
)
@click.option(
    "--a", "a", metavar="SELECTION", required=True, help="Params of one cell, such as method=dfa,penalty=0.01."
)
@click.option("--b", "others", metavar="SELECTION", required=True, multiple=True, help="The other cell, or cells.")
@_options.about("Only this experiment  [default: all of the database]")
@click.option(
    "--threshold", type=float, default=0.0, show_default=True, help="Value that the difference should exceed."
)
@_spelling.answer_format("table", "json")
@_options.database
def command(
    metric: str, a: str, others: tuple[str, ...], experiment: str | None, threshold: float, form: str, db: str
) -> None:
    """Compare two cells over their seeds: by a paired t test if they share seeds, else by Welch's.

    With several --b, A is compared with each, and Holm's method adjusts p for all of them.

    \b
    Example:
      fa-track compare --experiment dfa_penalty --a method=dfa,frozen_blocks=false,penalty=0 \\
        --b method=bp,frozen_blocks=false
    """
    from fa_tracking.results.compare import compare_family
    from fa_tracking.results.database import connect, sql_errors
    from fa_tracking.untrusted import one_line

    with connect(db) as connection, sql_errors():
        found = compare_family(connection, metric, a, others, experiment, threshold)
    if form == "json":
        click.echo(json.dumps([comparison.to_dict() for comparison in found], indent=2))
    else:
        click.echo("\n".join(one_line(comparison.sentence()) for comparison in found))
    say_next("query", "cross_seed", "--experiment", experiment or "NAME", why="every cell with its mean, spread and n")
