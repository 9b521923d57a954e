"""`fa-track chart`: one chart of the catalogue, as a figure."""

from pathlib import Path

import click

from fa_tracking.cli import _complete, _options
from fa_tracking.cli._show import field, say, say_next

ORDER = 7.1


@click.command("chart")
@click.argument("name", required=False, shell_complete=_complete.charts)
@_options.about()
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="FILE.html, .png, .svg, .pdf or .json (its Vega-Lite)  [default: NAME.png]",
)
@_options.database
def command(name: str | None, experiment: str | None, output: Path | None, db: str) -> None:
    """Draw the chart NAME from the catalogue; without NAME, list the catalogue.

    A chart fits a two-column paper: a PDF is at most 7 inches wide, and a PNG has 300 dots per inch at that width.

    \b
    Example:
      fa-track chart audit_panels --experiment dfa_penalty -o audit.pdf
    """
    from fa_tracking import catalogue
    from fa_tracking.dashboards import charts, draw, names

    if name is None:
        for each in draw.names():
            field(each, catalogue.load(charts, each).TITLE, 24)
        say_next("chart", "audit_panels", "--experiment", experiment or "NAME", "-o", "audit.pdf")
        return
    catalogue.load(charts, name)
    about = _options.the_only(experiment, db)
    out = output or Path(f"{name}.png")
    glyphs = names.Glyphs() if draw.format_of(out) in draw.STILL else None
    with draw.answers(about, db, glyphs) as answer:
        drawn = draw.draw(name, about, answer)
    draw.write(drawn, out)
    click.echo(out)
    if glyphs and glyphs.lacking:
        say(names.said(glyphs.lacking))
    say(drawn.description)
    say_next("query", drawn.query.name, why=f"its {len(drawn.rows)} rows")
