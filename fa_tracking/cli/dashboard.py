"""`fa-track dashboard`: an experiment as one page."""

from pathlib import Path

import click

from fa_tracking.cli import _options
from fa_tracking.cli._show import say

ORDER = 7


@click.command("dashboard")
@_options.experiment
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("dashboard.html"), show_default=True
)
@click.option("--png", is_flag=True, help="Write the charts as pictures too, beside the page.")
@click.option(
    "--mlflow-url", metavar="URL", help="MLflow's UI, that runs are linked to  [default: the exported server's]"
)
@_options.database
def command(experiment: str, output: Path, png: bool, mlflow_url: str | None, db: str) -> None:
    """Write one self-contained HTML page with the experiment's charts.

    \b
    Example:
      fa-track dashboard --experiment dfa_penalty -o dfa_penalty.html --png
    """
    from dashboards.page import write_html, write_png

    write_html(experiment, output, db, mlflow_url)
    click.echo(output)
    for picture in write_png(experiment, output, db) if png else ():
        click.echo(picture)
    say(f"next: open {output} in a browser")
