from collections.abc import Iterator

import click

from fa_tracking.cli import main

INTRODUCTION = """# Commands

Each stands here as `--help` prints it.
"""


def page() -> str:
    return INTRODUCTION + "".join(
        f"\n## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n" for name, command, context in _walk(main)
    )


def _walk(
    command: click.Command, name: str = "fa-track", parent: click.Context | None = None
) -> Iterator[tuple[str, click.Command, click.Context]]:
    context = click.Context(command, parent, name.rpartition(" ")[2], terminal_width=100, max_content_width=100)
    context.help_option_names = main.context_settings["help_option_names"]
    yield name, command, context
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            found = command.get_command(context, sub)
            assert found is not None
            yield from _walk(found, f"{name} {sub}", context)
