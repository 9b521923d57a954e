"""`fa-track resume`: goes on with a run whose process was killed."""

from typing import Any

import click

from fa_tracking.cli import _options
from fa_tracking.cli._show import progress, say, say_next
from fa_tracking.cli._train import Watched

ORDER = 2.8


@click.command("resume")
@click.argument("run_id")
@_options.data_dir
@_options.while_training
@_options.tracking_uri
def command(run_id: str, data_dir: str | None, tracking_uri: str | None, **while_training: Any) -> None:
    """Go on with the run RUN_ID of `fa-track train` or `fa-track study` whose process was killed.

    Training starts from the last saved state and gives the same numbers as a run that was never killed. Give options
    that only say what to save and when to stop (--abort-on, --checkpoint-every) again.

    \b
    Example:
      fa-track resume 0123456789abcdef0123456789abcdef --data-dir data
    """
    from fa_tracking.trainers.options import RunOptions
    from fa_tracking.trainers.tracked import resume

    watched = Watched()
    with progress(f"run {run_id}") as update, watched.stoppable():
        experiment = resume(
            run_id,
            tracking_uri,
            RunOptions(data_dir, **while_training),
            progress=watched.each_epoch(update),
            started=watched.start,
        )
    if watched.first is not None:
        say(f"went on from epoch {watched.first - 1}" if watched.first else "no training state was saved: began anew")
    watched.say_accuracy()
    say_next("audit", "--experiment", experiment)
