"""What a person sees: messages and progress bars on stderr, tables on stdout."""

import math
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from fa_tracking.protocol.diagnostics import Kind
from fa_tracking.results.tables import WIDTH, short

MARKS = {Kind.EXACT: "", Kind.PROXY: "~", Kind.BOUND: "≥", Kind.NOT_MEASURED: ""}
MARKS_EXPLAINED = "≥ a lower bound: it can show that (a) fires, not that it does not   ~ of a proxy layer"


def say(message: str) -> None:
    """A message for the person at the terminal, never part of the data."""
    click.echo(message, err=True)


def field(name: str, text: str) -> None:
    """A line of data with its name before it, wrapped to the width of a table."""
    click.echo(textwrap.fill(f"{name:<12} {text}", WIDTH, subsequent_indent=" " * 13, break_on_hyphens=False))


def marked(value: float | None, kind: Kind) -> float | str | None:
    """A number of a table with the mark of how far it is known."""
    is_plain = not MARKS[kind] or value is None or math.isnan(value)
    return value if is_plain else f"{MARKS[kind]}{short(value)}"


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left, drawn only on a terminal; yields ``update(done, total)``."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
