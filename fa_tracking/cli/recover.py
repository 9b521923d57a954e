"""`fa-track recover`: what killed processes have left on this machine goes to its store."""

import json
from dataclasses import asdict

import click

from fa_tracking.cli import _spelling
from fa_tracking.cli._show import say, say_next

ORDER = 2.7


@click.command("recover")
@_spelling.answer_format("table", "json")
def command(form: str) -> None:
    """Deliver the waiting logs of killed trainings to MLflow.

    Each training first writes to a folder on this machine (FA_TRACK_SPOOL, else ~/.local/state/fa-track/spool). A run
    that was killed gets the state KILLED, and `fa-track resume` goes on with it.

    \b
    Example:
      fa-track recover
    """
    from fa_tracking.tracking.address import without_password
    from fa_tracking.tracking.spool.journal import spool
    from fa_tracking.tracking.spool.recover import recover

    found = []
    for one in recover():
        found.append(one)
        store = f" in {without_password(one.tracking_uri)}" if one.tracking_uri else ""  # a damaged journal names none
        where = f"run {one.run_id}{store}"
        say(f"{where}: {one.delivered} entries" + (f"; {one.waiting} wait: {one.problem}" if one.problem else ""))
    if form == "json":
        click.echo(json.dumps([asdict(one) for one in found], indent=2))
    if not found:
        say(f"nothing waits in {spool()}")
    if any(one.problem for one in found):
        raise click.exceptions.Exit(1)
    if found:
        say_next("resume", found[-1].run_id, why="goes on with its training")
