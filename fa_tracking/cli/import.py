"""`fa-track import`: old logs become runs."""  # noqa: N999 - the command's name is the file's

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path, PurePath
from textwrap import indent
from typing import TYPE_CHECKING

import click

from fa_tracking.cli import _options, _spelling
from fa_tracking.cli._show import progress, say, table, typed
from fa_tracking.cli._suggest import Suggesting
from fa_tracking.untrusted import one_line

if TYPE_CHECKING:
    from fa_tracking.importers import Imported

ORDER = 2.7


class Formats(Suggesting):
    """The subcommands are the files of `fa_tracking/importers/`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from fa_tracking.importers import formats

        return list(formats())

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        from fa_tracking.importers import formats

        return _command(name, formats()[name].TITLE) if name in formats() else None


@click.command("import", cls=Formats)
def command() -> None:
    """Turn old logs into MLflow runs that can be audited.

    \b
    Example:
      fa-track import json logs --experiment old --h0-norm 8.7 --control-accuracy 0.349
      fa-track import tensorboard 'runs/dfa_*' --experiment old --param method=dfa --dry-run
    """


def _command(source: str, title: str) -> click.Command:
    @click.command(source, help=_HELP.format(title=title, source=source))
    @click.argument("paths", nargs=-1, required=True, metavar="PATH…")
    @_options.into_experiment
    @click.option(
        "--map", "map_file", type=click.Path(dir_okay=False), help="TOML file that says which field is which."
    )
    @click.option("--h0-norm", type=float, metavar="X", help="‖h_0‖, if the logs lack it.")
    @click.option("--control-accuracy", type=float, metavar="Y", help="Accuracy of the frozen control, in [0, 1].")
    @click.option(
        "--grad-batch",
        type=int,
        metavar="B",
        help="Batch size B: gradients are of a loss averaged over B samples.  [default: 128]",
    )
    @click.option("--param", "params", metavar="KEY=VALUE", multiple=True, help="Param that the logs lack; repeatable.")
    @click.option(
        "--replace",
        is_flag=True,
        help="Import again the logs that the experiment already holds, and delete the earlier runs.",
    )
    @click.option("--dry-run", is_flag=True, help="Show the runs that would be imported; write nothing.")
    @_spelling.answer_format("table", "json")
    @_options.tracking_uri
    def run(
        paths: tuple[str, ...],
        experiment: str,
        map_file: str | None,
        h0_norm: float | None,
        control_accuracy: float | None,
        grad_batch: int | None,
        params: tuple[str, ...],
        replace: bool,
        dry_run: bool,
        form: str,
        tracking_uri: str | None,
    ) -> None:
        from fa_tracking import importers

        given = _pairs(params)
        with progress("import") as update:
            found = importers.import_logs(
                source,
                paths,
                experiment,
                tracking_uri,
                map_file,
                h0_norm,
                control_accuracy,
                grad_batch,
                given,
                replace,
                dry_run,
                update,
            )
        _say_notes(found)
        if form == "json":
            click.echo(json.dumps([asdict(each) for each in found], indent=2))
        else:
            click.echo(_table(found), nl=False)
        _say_end(found)
        if any(each.problem for each in found):
            raise click.exceptions.Exit(1)

    return run


_HELP = """{title}

A PATH is a file, a folder with everything below it, or a glob in quotes. You can give a log's missing numbers by
hand; the tag fa.given records them. A log that the experiment already holds is skipped.

\b
Example:
  fa-track import {source} logs --experiment old --dry-run
  fa-track import {source} logs --experiment old --map fields.toml --param architecture=resmlp
"""


def _pairs(params: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in params:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--param")
        if key in found:
            raise click.BadParameter(f"{key!r} is given twice", param_hint="--param")
        found[key] = value
    return found


def _say_notes(found: "Sequence[Imported]") -> None:
    """Every note once, with the logs that it is about; then every problem."""
    sources: dict[str, list[str]] = {}
    for each in found:
        for note in each.notes:
            sources.setdefault(note, []).append(each.source)
    for note, about in sources.items():
        more = f" and {len(about) - 1} more" if len(about) > 1 else ""
        say(f"{one_line(about[0])}{more}: {note}")
    for each in found:
        if each.problem:
            say(f"{one_line(each.source)}: {one_line(each.problem)}")
    for example in dict.fromkeys(each.example for each in found if each.example):
        say(f"this code writes a log that can be read:\n\n{indent(example, '    ')}\n")


def _table(found: "Sequence[Imported]") -> str:
    names = _told_apart([each.source for each in found])
    rows = [
        (
            names[each.source],
            (each.params or {}).get("method"),
            (each.params or {}).get("seed"),
            each.epochs,
            _families(each.metrics),
            each.state,
        )
        for each in found
        if not each.problem
    ]
    return table(("log", "method", "seed", "epochs", "metrics", "state"), rows) if rows else ""


_LAYER = re.compile(r"\w+_norm/([hg])(\d+)")


def _told_apart(sources: Sequence[str]) -> dict[str, str]:
    """Each log by its path below the folder that holds all of them; by its name where it stands alone."""
    folders = {PurePath(source).parent for source in sources}
    above = Path(os.path.commonpath(folders)) if len({f.is_absolute() for f in folders}) == 1 else Path()
    return {s: os.path.relpath(s, above) if len(folders) > 1 else PurePath(s).name for s in sources}


def _families(metrics: Sequence[str]) -> str:
    """The names of metrics in little room: ``h4`` is ‖h_4‖, ``g ×5`` the gradient's norm at five layers."""
    families: dict[str, list[str]] = {}
    for name in metrics:
        layer = _LAYER.fullmatch(name)
        families.setdefault(layer[1] if layer else name, []).append(layer[1] + layer[2] if layer else name)
    short = [names[0] if len(names) == 1 else f"{family} ×{len(names)}" for family, names in families.items()]
    return ", ".join(short[:4]) + (f", +{len(short) - 4}" if len(short) > 4 else "")


def _say_end(found: "Sequence[Imported]") -> None:
    states = [each.state for each in found]
    say(", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)))
    if {"imported", "skipped"} & set(states):
        is_judged = any(_LAYER.fullmatch(name) for each in found for name in each.metrics)
        if not is_judged:
            say("no log holds a norm ‖h_l‖ or ‖g_l‖, so an audit has nothing to judge: give their names with --map")
        say(f"next: {typed('audit')}; {typed('replay')}" if is_judged else f"next: {typed('export')}")
    elif "found" in states:
        say("nothing was written; next: the same command without --dry-run")
