"""The command line: one file a command, each found by the folder's listing and importing what it needs when it runs."""

import sys
from typing import Any

import click

from fa_tracking import catalogue
from fa_tracking.errors import FATrackError


class CommandFolder(click.Group):
    """The commands are the files of this folder; a file offers ``command``, and ``ORDER`` in the listing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        here = sys.modules[__name__]
        return sorted(catalogue.names(here), key=lambda name: catalogue.load(here, name).ORDER)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        here = sys.modules[__name__]
        return catalogue.load(here, name).command if name in catalogue.names(here) else None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FATrackError as error:
            raise _OneLine(error) from error


class _OneLine(click.ClickException):
    def __init__(self, error: FATrackError) -> None:
        super().__init__(" ".join(str(error).split()))
        self.exit_code = error.exit_code  # type: ignore[misc]


@click.command(
    cls=CommandFolder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `fa-track demo`. Every command takes --help.",
)
@click.version_option(package_name="fa-track")
def main() -> None:
    """Track, audit and compare feedback-alignment runs: a verdict on every run, a database of all of them.

    Data goes to stdout, progress and messages to stderr. Exit codes: 0 done, 1 failure, 2 wrong usage, 3 an audit
    or gate found what it was told to fail on.
    """
