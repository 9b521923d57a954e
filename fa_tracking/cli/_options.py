"""Options that several commands share."""

import click

from fa_tracking.results.database import DEFAULT_DATABASE

tracking_uri = click.option(
    "--tracking-uri",
    metavar="URI",
    envvar="MLFLOW_TRACKING_URI",
    help="MLflow store  [default: MLFLOW_TRACKING_URI, else mlflow.db in this folder]",
)
database = click.option(
    "--db",
    type=click.Path(dir_okay=False),
    envvar="FA_TRACK_DB",
    default=DEFAULT_DATABASE,
    show_default=True,
    help="Results database (FA_TRACK_DB).",
)
data_dir = click.option(
    "--data-dir",
    metavar="DIR",
    envvar="FA_TRACK_DATA",
    help="Folder of the data set, or one that holds a folder of its name (FA_TRACK_DATA).",
)
experiment = click.option("--experiment", metavar="NAME", required=True, help="Experiment in MLflow.")
