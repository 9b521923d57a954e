"""`fa-track table`: a query's answer as a publication has it."""

from pathlib import Path

import click

from fa_tracking.cli import _complete, _options, _spelling
from fa_tracking.cli._show import say, say_next, show
from fa_tracking.publishing.publication import FORMATS

ORDER = 5.1


@click.command("table")
@click.argument("name", shell_complete=_complete.queries)
@_options.about()
@click.option("--format", "form", type=click.Choice(FORMATS), default="md", show_default=True)
@_spelling.repeated(
    "--column", old="--columns", into="columns", metavar="NAME", help="Only this column; repeatable, in this order."
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File  [default: stdout]")
@_options.database
def command(
    name: str, experiment: str | None, form: str, columns: tuple[str, ...], output: Path | None, db: str
) -> None:
    """Print the answer of the query NAME as a table for a paper, its n, units and provenance in the caption.

    NAME may choose rows: QUERY[key=value,…]. A mean stands beside its standard deviation, which sets its digits. CSV
    and JSON hold every column with all digits. LaTeX needs the package booktabs.

    \b
    Example:
      fa-track table cross_seed --experiment dfa_penalty --format latex -o cells.tex
      fa-track table 'cross_seed[method=dfa]' --column n --column accuracy_mean
    """
    from fa_tracking.publishing.publication import left_out, publish
    from fa_tracking.publishing.reference import Answers, parse
    from fa_tracking.results.database import connect, sql_errors
    from fa_tracking.results.files import write_whole

    chosen = list(columns) or None
    with connect(db) as connection, sql_errors():
        answers, reference = Answers(connection, experiment), parse(name)
        text = publish(answers, reference, form, chosen)
        untold = left_out(answers.rows(reference), chosen) if chosen else []
    if output is None:
        show(text)
    else:
        write_whole(output, text.encode())
        say(f"written: {output}")
    if untold:
        say(
            f"some rows look alike: what tells them apart, {', '.join(untold)}, has no --column; "
            f"add it, or choose rows as in '{reference.query}[{untold[0]}=…]'"
        )
    say_next("cite", f"{name}.COLUMN", why="prints one value of it, for a sentence")
