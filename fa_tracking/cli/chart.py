"""`fa-track chart`: one chart of the catalogue, as a figure."""

from pathlib import Path

import click

from fa_tracking.cli import _options
from fa_tracking.cli._show import say

ORDER = 7.1


@click.command("chart")
@click.argument("name", required=False)
@click.option("--experiment", metavar="NAME", help="Experiment that the chart is about, or a pattern: 'repro*'.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="FILE.html, .png, .svg, .pdf or .json (its Vega-Lite)  [default: NAME.png]",
)
@_options.database
def command(name: str | None, experiment: str | None, output: Path | None, db: str) -> None:
    """Draw the chart NAME of the catalogue; without NAME, list the catalogue.

    A chart fits a paper of two columns: a PDF is at most 7 inches wide, a PNG has 300 dots to the inch there.

    \b
    Example:
      fa-track chart audit_panels --experiment dfa_penalty -o audit.pdf
    """
    from dashboards import charts, draw
    from fa_tracking import catalogue

    if name is None:
        for each in catalogue.names(charts):
            click.echo(f"{each:<24} {catalogue.load(charts, each).TITLE}")
        say("next: fa-track chart NAME --experiment NAME -o FILE.pdf")
        return
    catalogue.load(charts, name)
    if experiment is None:
        raise click.UsageError("Missing option '--experiment'.")
    out = output or Path(f"{name}.png")
    with draw.answers(experiment, db) as answer:
        drawn = draw.draw(name, experiment, answer)
    draw.write(drawn, out)
    click.echo(out)
    say(drawn.description)
    say(f"next: fa-track query {drawn.query.name} --experiment {experiment}   # its {len(drawn.rows)} rows")
