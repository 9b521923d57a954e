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
    """Print the script that makes SHELL complete the commands, their options, and the names that they take.

    Those are queries, charts, studies, methods, architectures, data sets, and the experiments of the database or store
    in this folder.

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
