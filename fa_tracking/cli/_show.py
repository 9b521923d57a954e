"""What a person sees: messages and progress bars on stderr, tables on stdout, and the command to type next."""

import math
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fa_tracking.protocol.table import Kind
from fa_tracking.publishing.tables import WIDTH, text_table
from fa_tracking.spelled import short
from fa_tracking.untrusted import one_line, printable_lines

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

MARKS = {Kind.EXACT: "", Kind.PROXY: "~", Kind.BOUND: "≥", Kind.NOT_MEASURED: ""}
MARKS_EXPLAINED = "≥ a lower bound: it can show that (a) fires, not that it does not   ~ from a proxy layer"

CARRIED = ("experiment", "experiment_glob", "db", "tracking_uri")
"""What the next command takes over from the one before it."""


def say(message: str) -> None:
    """A message for the person at the terminal, never part of the data."""
    click.echo(printable_lines(message), err=True)


def show(text: str) -> None:
    """An answer on stdout: a terminal gets nothing that it would act on, a pipe or a file every character."""
    shown = printable_lines(text) if sys.stdout.isatty() else text
    click.echo(shown, nl=False, color=True)  # without it, click takes what looks like a colour out of data in a pipe


def say_next(*words: str, why: str = "") -> None:
    """The command to type next, ``why`` behind it."""
    say(f"next: {typed(*words)}{f'   # {why}' if why else ''}")


def typed(*words: str) -> str:
    """``fa-track WORDS`` as a shell takes it, with the experiment, database and store that were given to this command.

    Each only where the next command takes it, and ``words`` do not name it already. What stands in the environment is
    there for the next command as well.
    """
    from fa_tracking.tracking.address import without_password

    context = click.get_current_context()
    line = ["fa-track", *_asked(words)]
    for option in _command(words).params:
        name = option.name or ""
        given = name in CARRIED and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and option.opts[-1] not in line:
            line += [option.opts[-1], without_password(str(context.params[name]))]
    return shlex.join(line)


def resume_words(run_id: str) -> list[str]:
    """``resume RUN_ID`` with the options of this command that `resume` takes and that were given."""
    return ["resume", run_id, *_given({option.name for option in _command(["resume"]).params} - {*CARRIED})]


def same_again() -> str:
    """This command with all that was given to it; passwords left out."""
    context = click.get_current_context()
    words = context.command_path.split()[1:]
    arguments = [context.params[p.name or ""] for p in context.command.params if isinstance(p, click.Argument)]
    return typed(*words, *(str(each) for each in arguments if each is not None), *_given())


def _given(known: Collection[str | None] | None = None) -> list[str]:
    """The options of this command that were given by hand, of those that are ``known``; else all but ``CARRIED``."""
    context, words = click.get_current_context(), list[str]()
    for option in context.command.params:
        name = option.name or ""
        is_by_hand = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if not isinstance(option, click.Option) or not option.expose_value or not is_by_hand:
            continue
        if name in CARRIED if known is None else name not in known:
            continue
        values = context.params[name] if option.multiple else [context.params[name]]
        words += [option.opts[-1]] if option.is_flag else [w for v in values for w in (option.opts[-1], str(v))]
    return words


def _asked(words: Sequence[str]) -> list[str]:
    """A pattern of experiments is given by an option of its own."""
    line = [*words]
    for i, value in enumerate(words[1:], start=1):
        if line[i - 1] == "--experiment" and value.startswith("~"):
            line[i - 1 : i + 1] = ["--experiment-glob", value[1:]]
    return line


def _command(words: Sequence[str]) -> click.Command:
    """The command, or subcommand, of the program that runs that ``words`` begin with."""
    found = click.get_current_context().find_root().command
    for word in words:
        inner = found.get_command(click.Context(found), word) if isinstance(found, click.Group) else None
        if inner is None:
            break
        found = inner
    return found


def mlflow_ui(tracking_uri: str | None) -> str:
    """How to see a store's runs: the command, or the address where a server shows them already."""
    from fa_tracking.tracking.address import is_server, without_password

    if tracking_uri and is_server(tracking_uri):
        return f"open {without_password(tracking_uri)} in a browser"
    return shlex.join(
        ["mlflow", "ui", *(["--backend-store-uri", without_password(tracking_uri)] if tracking_uri else [])]
    )


def width() -> int:
    """How wide a table may be: as the terminal is; 100 columns at most where the output goes elsewhere."""
    columns = shutil.get_terminal_size((WIDTH, 0)).columns
    return columns if sys.stdout.isatty() else min(columns, WIDTH)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], room: int | None = None, whole: str = "--format json"
) -> str:
    """A table in ``room`` columns of text or the terminal's; ``whole`` is what prints everything."""
    return text_table(columns, rows, room or width(), whole)


def field(name: str, text: str, room: int = 12) -> None:
    """A line of data with its name before it in ``room`` columns, wrapped to the width of a table."""
    click.echo(wrapped(f"{name:<{room}} {one_line(text)}", room + 1))


def legend(lines: Sequence[str], room: int | None = None) -> str:
    """What explains a table, below an empty line; nothing where there is nothing to explain."""
    return "".join(f"{wrapped(line, 2, room) if line else line}\n" for line in ["", *lines] if lines)


def wrapped(line: str, indent: int = 0, room: int | None = None) -> str:
    """A line over as many as ``room`` columns of text ask for, or the width of a table; those below are indented."""
    return textwrap.fill(line, room or min(width(), WIDTH), subsequent_indent=" " * indent, break_on_hyphens=False)


def marked(value: float | None, kind: Kind) -> float | str | None:
    """A number of a table with the mark of how far it is known."""
    is_plain = not MARKS[kind] or value is None or math.isnan(value)
    return value if is_plain else f"{MARKS[kind]}{short(value)}"


def bar_is_drawn() -> bool:
    """Whether ``progress`` shows anything here."""
    from rich.console import Console

    console = Console(stderr=True)
    return sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal


@contextmanager
def progress(label: str) -> Iterator[Callable[[float, int], None]]:
    """A bar with the time left, drawn only on a terminal; yields ``update(done, total)``.

    While the total is not known, the time that has passed stands in the place of the time left. rich heeds NO_COLOR;
    FORCE_COLOR makes no terminal of a file.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console, drawn = Console(stderr=True), bar_is_drawn()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), _time_left())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, disable=not drawn) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def _time_left() -> "ProgressColumn":
    from rich.progress import Task, TimeElapsedColumn, TimeRemainingColumn
    from rich.text import Text

    class TimeLeft(TimeRemainingColumn):
        def render(self, task: Task) -> Text:
            return TimeElapsedColumn().render(task) if task.total is None else super().render(task).append(" left")

    return TimeLeft()
