"""`fa-track completion`: what makes a shell complete commands, options and names."""

import sys

import click
from click.shell_completion import get_completion_class

from fa_tracking.cli._show import say

ORDER = 9.5

SETUP = {
    "bash": 'put into ~/.bashrc: eval "$(fa-track completion bash)"',
    "zsh": 'put into ~/.zshrc, behind compinit: eval "$(fa-track completion zsh)"',
    "fish": "fa-track completion fish > ~/.config/fish/completions/fa-track.fish",
}


@click.command("completion")
@click.argument("shell", type=click.Choice(tuple(SETUP)))
def command(shell: str) -> None:
    """Print the script that lets SHELL complete commands, their options and names.

    Names are those of queries, charts, studies, methods, architectures and data sets, and the experiments in this
    folder's database or store.

    \b
    Example:
      eval "$(fa-track completion bash)"
      fa-track completion fish > ~/.config/fish/completions/fa-track.fish
    """
    from fa_tracking.cli import main

    completion = get_completion_class(shell)
    assert completion is not None
    click.echo(completion(main, {}, "fa-track", "_FA_TRACK_COMPLETE").source())
    if sys.stdout.isatty():  # else it is being set up, at every start of the shell
        say(f"next: {SETUP[shell]}")
