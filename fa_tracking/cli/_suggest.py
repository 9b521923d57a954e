"""Groups of commands that are found, not registered: a misspelt name is answered with the one that is near."""

from typing import Any

import click

from fa_tracking.errors import meant


class Suggesting(click.Group):
    """A group whose subclass lists its commands itself, so that click does not know them."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0]
        if not name.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            ctx.fail(f"No such command {name!r}{meant(name, self.list_commands(ctx))}.")
        return super().resolve_command(ctx, args)
