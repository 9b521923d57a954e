"""The command line: one file a command, each found by the folder's listing and importing what it needs when it runs."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from fa_tracking import catalogue
from fa_tracking.cli._encoding import spell_out
from fa_tracking.cli._stop import STOPPED, noticed
from fa_tracking.cli._suggest import Suggesting
from fa_tracking.errors import FATrackError
from fa_tracking.untrusted import one_line


class CommandFolder(Suggesting):
    """The commands are the files of this folder; a file offers ``command``, and ``ORDER`` in the listing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        here = sys.modules[__name__]
        return sorted(catalogue.names(here), key=lambda name: catalogue.load(here, name).ORDER)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        here = sys.modules[__name__]
        return catalogue.load(here, name).command if name in catalogue.names(here) else None

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        spell_out()
        with _one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with noticed() as is_stopped, _one_line(is_stopped):
            return super().invoke(ctx)


@contextmanager
def _one_line(is_stopped: Callable[[], bool] = bool) -> Iterator[None]:
    """What is wrong as one line; click's own errors print the usage before it."""
    try:
        try:
            yield
        except Exception as error:
            if is_stopped() and not isinstance(error, click.exceptions.Exit):
                raise KeyboardInterrupt from error
            raise
    except FATrackError as error:
        raise _OneLine(str(error), error.exit_code) from error
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "fa-track"
        raise _OneLine(f"{error.format_message()} See {command} --help.", error.exit_code) from error
    except (KeyboardInterrupt, click.exceptions.Abort) as error:
        click.echo("stopped", err=True)
        raise click.exceptions.Exit(STOPPED) from error
    except Exception as error:
        if "duckdb" in sys.modules and isinstance(error, sys.modules["duckdb"].Error):  # such as a file cut short
            raise _OneLine(f"the database could not be read: {str(error).splitlines()[0]}", 1) from error
        raise


class _OneLine(click.ClickException):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(one_line(message))
        self.exit_code = exit_code  # type: ignore[misc]


@click.command(
    cls=CommandFolder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command takes --help. If something does not work, run fa-track doctor.",
)
@click.version_option(package_name="fa-track")
def main() -> None:
    """Track, audit and compare feedback-alignment runs: a verdict on every run, a database of all of them.

    Data goes to stdout, progress and messages to stderr. Exit codes: 0 done, 1 failure, 2 wrong usage, 3 a check
    did not pass (gate, verify, claims, pitfalls check), 130 stopped by Ctrl-C.

    \b
    Example:
      fa-track demo
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # ours say more, on a terminal alone
