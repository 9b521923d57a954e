"""How a command ends that Ctrl-C stops: it says what goes on from there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

STOPPED = 130
"""Its exit code, as a shell has it: 128 and the number of the signal."""


@contextmanager
def going_on(next_command: Callable[[], str], where: Callable[[], str] = str) -> Iterator[None]:
    """On Ctrl-C inside, say ``stopped`` and ``where``, and the command that goes on; then the command ends."""
    from fa_tracking.cli._show import say

    try:
        yield
    except KeyboardInterrupt:
        say(f"\nstopped {where()}".rstrip(" "))
        if command := next_command():
            say(f"next: {command}")
        raise click.exceptions.Exit(STOPPED) from None
