"""Options that several commands share."""

from typing import TYPE_CHECKING

import click

from fa_tracking.results.database import DEFAULT_DATABASE

if TYPE_CHECKING:
    from pydantic import ValidationError


def as_usage(error: "ValidationError") -> click.BadParameter:
    """What is wrong with a value, as wrong usage of its option."""
    first = error.errors()[0]
    return click.BadParameter(f"{first['msg']}, got {first['input']!r}", param_hint=f"{first['loc'][0]}")


tracking_uri = click.option(
    "--tracking-uri",
    metavar="URI",
    envvar="MLFLOW_TRACKING_URI",
    help="MLflow store  [default: MLFLOW_TRACKING_URI, else mlflow.db in this folder]",
)
database = click.option(
    "--db",
    type=click.Path(),
    envvar="FA_TRACK_DB",
    default=DEFAULT_DATABASE,
    show_default=True,
    help="Results database, or to read from a folder of its tables as Parquet (FA_TRACK_DB).",
)
data_dir = click.option(
    "--data-dir",
    metavar="DIR",
    envvar="FA_TRACK_DATA",
    help="Folder of the data set, or one that holds a folder of its name (FA_TRACK_DATA).",
)
experiment = click.option("--experiment", metavar="NAME", required=True, help="Experiment in MLflow.")
