"""``python -m tests.faults``: the whole set, and a table of what it found."""

import sys
import time
from importlib import import_module

import click

from fa_tracking import catalogue
from tests import faults
from tests.faults import _kill


@click.command("python -m tests.faults")
@click.argument("scenes", nargs=-1)
@click.option("--kills", type=click.IntRange(1), default=50, show_default=True, help="Of each command.")
@click.option("--seed", type=int, default=7, show_default=True, help="Of the moments.")
def main(scenes: tuple[str, ...], kills: int, seed: int) -> None:
    """Kill the commands SCENES, by default all, and look at what they left; exit code 1 where something broke."""
    _kill.warm()
    broken = False
    click.echo(f"{'command':<10} {'kills':>6} {'ended before':>13} {'broken':>7} {'undisturbed':>12} {'in all':>8}")
    for name in scenes or catalogue.names(faults):
        began = time.monotonic()
        count = _kill.kill(import_module(f"tests.faults.{name}"), kills, seed, lambda line: click.echo(line, err=True))
        row = f"{name:<10} {count.kills:>6} {count.ended:>13} {len(count.problems):>7} {count.seconds:>10.2f} s"
        click.echo(f"{row} {time.monotonic() - began:>6.0f} s")
        for problem in count.problems:
            click.echo(f"  {problem}")
        broken = broken or bool(count.problems)
    sys.exit(broken)


if __name__ == "__main__":
    main()
