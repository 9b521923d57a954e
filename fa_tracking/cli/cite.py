"""`fa-track cite`: one value with what it rests on."""

import json

import click

from fa_tracking.cli import _complete, _options, _spelling
from fa_tracking.cli._show import field, say, say_next

ORDER = 5.2

_NUMBER = "fa_tracking.number"


class _Form(click.Choice):
    """A form of the answer; until version 0.2 ``--format`` was the number's."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str | None:
        if value in self.choices or not ctx or value.isalpha():
            return str(super().convert(value, param, ctx))
        _spelling.say_new(f"--format {value}", f"--number {value}")
        ctx.meta[_NUMBER] = value
        return None


def _as_before(context: click.Context, option: click.Parameter, value: str) -> str:
    return value or context.meta.get(_NUMBER, "")


NEXT = "checks whether the marked values of FILE still hold"


@click.command("cite")
@click.argument("reference", shell_complete=_complete.queries)
@_options.about("Experiment, if REFERENCE names none  [default: the only one of the database]")
@click.option(
    "--number",
    metavar="SPEC",
    default="",
    callback=_as_before,
    help="Number format, such as .3f, .2e or .1%  [default: four digits]",
)
@_spelling.answer_format("table", "json", choice=_Form, text="Value and provenance as lines or as JSON.")
@_options.database
def command(reference: str, experiment: str | None, number: str, form: str, db: str) -> None:
    """Print the value that REFERENCE names, with its query, its runs and the database's state.

    REFERENCE is QUERY[key=value,…].COLUMN for the value in the one row with these values, or
    QUERY[key=value,…].max(COLUMN) (or min, avg, count) over the selected rows.

    \b
    Example:
      fa-track cite 'cross_seed[method=dfa,penalty=0.01].accuracy_mean' \\
        --experiment dfa_penalty --number .3f
    """
    from fa_tracking.publishing.markers import marker
    from fa_tracking.publishing.provenance import cite
    from fa_tracking.results.database import connect, sql_errors
    from fa_tracking.spelled import plain
    from fa_tracking.untrusted import one_line

    with connect(db) as connection, sql_errors():
        cited = cite(connection, reference, number, experiment)
    if form == "json":
        click.echo(json.dumps(cited.to_dict() | {"value": plain(cited.value), "database": str(db)}, indent=2))
        say_next("verify", "FILE", why=NEXT)
        return
    click.echo(one_line(cited.text))
    runs = "the query does not say" if cited.runs is None else f"{len(cited.runs)}: {', '.join(cited.runs)}"
    lines = {
        "query": f"{cited.query}: {cited.title}",
        "experiment": cited.experiment or "all",
        "selection": ", ".join(f"{key}={value}" for key, value in cited.selection.items()) or "every row",
        "rows": f"{cited.rows}, measured in {cited.measured}",
        "runs": runs,
        "database": f"{db}, digest {cited.digest} of {cited.experiment or 'all experiments'}",
    }
    for name, text in lines.items():
        field(name, text)
    say(f"in Markdown: {marker(cited, number)}")
    say_next("verify", "FILE", why=NEXT)
