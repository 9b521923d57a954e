"""``python -m tests.faults``: the whole set, and a table of what it found."""

import os
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import click

from fa_tracking import catalogue
from tests import faults
from tests.faults import _kill


@click.command("python -m tests.faults")
@click.argument("trials", nargs=-1)
@click.option("--kills", type=click.IntRange(1), default=50, show_default=True, help="Of each command.")
@click.option("--seed", type=int, default=7, show_default=True, help="Of the moments.")
@click.option("--small", is_flag=True, help="What is no kill: fewer epochs, shorter times.")
def main(trials: tuple[str, ...], kills: int, seed: int, small: bool) -> None:
    """Do the TRIALS, all of them by default: kill commands, and look at what they left.

    Exit code 1 where something was broken.
    """
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # each trial has a store of its own
    _kill.warm()
    broken = False
    for name in trials or catalogue.names(faults):
        began = time.monotonic()
        trial = import_module(f"tests.faults.{name}")
        if hasattr(trial, "COMMAND"):
            count = _kill.kill(trial, kills, seed, lambda line: click.echo(line, err=True))
            done, problems = str(count), count.problems
        else:
            with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
                done, problems = trial.tried(Path(folder), small)
        click.echo(f"{name:<8} {len(problems)} broken; {done}; {time.monotonic() - began:.0f} s in all")
        for problem in problems:
            click.echo(f"  {problem}")
        broken = broken or bool(problems)
    sys.exit(broken)


if __name__ == "__main__":
    main()
