"""`fa-track dashboard`: an experiment as one page."""

from pathlib import Path

import click

from fa_tracking.cli import _options
from fa_tracking.cli._show import progress, say
from fa_tracking.tracking import names

ORDER = 7


@click.command("dashboard")
@_options.about()
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("dashboard.html"), show_default=True
)
@click.option("--png", is_flag=True, help="Also write the charts as pictures beside the page.")
@click.option("--log", is_flag=True, help="Also log the page to MLflow, in the experiment's summary run.")
@click.option(
    "--mlflow-url", metavar="URL", help="Address of the MLflow UI for links to runs  [default: the exported server's]"
)
@_options.database
@_options.any_tracking_uri
def command(
    experiment: str | None,
    output: Path,
    png: bool,
    log: bool,
    mlflow_url: str | None,
    db: str,
    tracking_uri: str | None,
) -> None:
    """Write one self-contained HTML page with the experiment's charts.

    \b
    Example:
      fa-track dashboard --experiment dfa_penalty -o dfa_penalty.html --png
    """
    from fa_tracking.dashboards.names import Glyphs, said
    from fa_tracking.dashboards.page import write_html, write_png
    from fa_tracking.publishing.summary import find_home, log_summary
    from fa_tracking.results.files import together

    about = _options.the_only(experiment, db)
    if log:
        find_home(about, tracking_uri)  # before minutes of drawing
    glyphs = Glyphs()
    with together(output.parent) as folder:
        page = folder / output.name
        with progress("charts") as update:
            write_html(about, page, db, mlflow_url, update)
        with progress("pictures") as update:
            pictures = write_png(about, page, db, update, glyphs) if png else []
        run_id = log_summary(about, page, db, tracking_uri) if log else None
    for written in (output, *(output.with_name(picture.name) for picture in pictures)):
        click.echo(written)
    if glyphs.lacking:
        say(said(glyphs.lacking))
    if run_id:
        say(f"logged: {names.DASHBOARD} in the run {run_id}; mlflow ui shows it")
    say(f"next: open {output} in a browser")
