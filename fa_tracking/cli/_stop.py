"""How a command ends that Ctrl-C stops: it says what goes on from there."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click

from fa_tracking.cli._show import say

STOPPED = 130
"""Its exit code, as a shell has it: 128 and the number of the signal."""


@contextmanager
def noticed() -> Iterator[Callable[[], bool]]:
    """Yields whether Ctrl-C was pressed inside: a library may make another error of it, as DuckDB does."""
    pressed = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.default_int_handler(number, frame)

    is_ours = threading.current_thread() is threading.main_thread()
    is_ours = is_ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def going_on(next_command: Callable[[], str], where: Callable[[], str] = str) -> Iterator[None]:
    """On Ctrl-C inside, say ``stopped`` and ``where``, and the command that goes on; then the command ends."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"\nstopped {where()}".rstrip(" "))
        if command := next_command():
            say(f"next: {command}")
        raise click.exceptions.Exit(STOPPED) from None
