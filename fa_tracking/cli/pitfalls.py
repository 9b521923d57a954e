"""`fa-track pitfalls`: known ways to a wrong number, each shown, and looked for in a user's code."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from fa_tracking import catalogue, pitfalls
from fa_tracking.cli import _spelling
from fa_tracking.cli._show import field, progress, say, say_next, table
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.untrusted import one_line, printable

ORDER = 8

FOUND = 3


class Pitfalls(click.Group):
    """``check``, and a command for every pitfall of the catalogue."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *pitfalls.catalogue()]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in self.commands:
            return self.commands[name]
        pitfall = catalogue.load(pitfalls, name)

        @click.command(name, help=_HELP.format(title=pitfalls.title(pitfall), name=name))
        @_spelling.answer_format("table", "json")
        def show(form: str) -> None:
            _show_one(name, pitfall, form)

        return show


_HELP = """{title}.

\b
Example:
  fa-track pitfalls {name}
"""


@click.group("pitfalls", cls=Pitfalls, invoke_without_command=True, subcommand_metavar="[NAME | check PATH…]")
@_spelling.answer_format("table", "json")
@click.pass_context
def command(ctx: click.Context, form: str) -> None:
    """Reproduce known ways to a wrong number: the expected value, the code's value, and what FA-Track does instead.

    Every pitfall is computed on the spot. NAME explains one; check looks for them in your own code. Exit with 1 if
    one is not reproduced.

    \b
    Example:
      fa-track pitfalls
      fa-track pitfalls cosine_eps
      fa-track pitfalls check train.py analysis/
    """
    if ctx.invoked_subcommand is not None:
        return
    rows = _all_computed()
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
    else:
        columns = ("pitfall", "expected", "seen", "shown", "what FA-Track does", "s")
        cells = [
            (r["name"], _spell(r["expected"]), _spell(r["seen"]), r["reproduced"], r["cure"], f"{r['seconds']:.1f}")
            for r in rows
        ]
        click.echo(table(columns, cells), nl=False)
        say("next: fa-track pitfalls NAME explains one, fa-track pitfalls check PATH looks for them in your code")
    _exit_if_missed(rows)


def _all_computed() -> list[dict[str, Any]]:
    known = pitfalls.catalogue()
    rows: list[dict[str, Any]] = []
    with progress("pitfalls") as update:
        for name, pitfall in known.items():
            rows.append(_computed(name, pitfall))
            update(len(rows), len(known))
    return rows


def _show_one(name: str, pitfall: ModuleType, form: str) -> None:
    row = _computed(name, pitfall)
    if form == "json":
        click.echo(json.dumps(row, indent=2))
    else:
        click.echo(f"{row['title']}\n")
        field("why", row["why"])
        field("expected", _spell(row["expected"]))
        field("seen", _spell(row["seen"]))
        field("shown", "yes" if row["reproduced"] else "no: the numbers do not differ as said")
        field("seconds", f"{row['seconds']:.1f}")
        field("FA-Track", row["cure"])
        if row["fix"]:
            field("your code", row["fix"])
            say_next("pitfalls", "check", ".", why=f"looks for {name} in your code")
        else:
            say_next("pitfalls", why="computes all pitfalls")
    _exit_if_missed([row])


def _computed(name: str, pitfall: ModuleType) -> dict[str, Any]:
    from fa_tracking.spelled import plain

    with _one_thread():
        start = time.perf_counter()
        outcome = pitfall.reproduce()
        seconds = time.perf_counter() - start
    return {
        "name": name,
        "title": pitfalls.title(pitfall),
        "why": pitfalls.why(pitfall),
        "expected": {what: plain(value) for what, value in outcome.expected.items()},
        "seen": {what: plain(value) for what, value in outcome.seen.items()},
        "reproduced": outcome.reproduced,
        "seconds": round(seconds, 4),
        "cure": pitfall.CURE,
        "fix": getattr(pitfall, "FIX", None),
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads, and wait for them for seconds on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _start_torch()
        yield
    finally:
        torch.set_num_threads(threads)


@cache
def _start_torch() -> None:
    """Torch imports the rest of itself in a first training step, which is the time of no reproducer."""
    from fa_tracking.pitfalls import _tiny

    _tiny.trained(steps=1)


def _spell(values: dict[str, Any]) -> str:
    return ", ".join(f"{what} {f'{v:.3g}' if isinstance(v, float) else v}" for what, v in values.items())


def _exit_if_missed(rows: list[dict[str, Any]]) -> None:
    missed = [row["name"] for row in rows if not row["reproduced"]]
    if missed:
        raise FATrackError(f"not reproduced: {', '.join(missed)}")


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


@command.command("check")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…", type=click.Path(path_type=Path))
@_spelling.answer_format("table", "json")
def check(paths: tuple[Path, ...], form: str) -> None:
    """Point at lines with a pitfall in Python files, notebooks and folders; run nothing in them.

    Hidden folders, virtual environments and installed packages are left out. A comment `# fa-track: ignore` on a line
    silences it. Exit codes: 0 nothing found, 3 something found, 1 a file is missing or could not be read; the others
    are still checked.

    \b
    Example:
      fa-track pitfalls check train.py analysis/
      fa-track pitfalls check --format json . > findings.json
    """
    from fa_tracking.pitfalls._check import check as check_file
    from fa_tracking.pitfalls._check import files

    listed = list(dict.fromkeys(file for path in paths for file in files(path)))
    if not listed:
        raise UsageError(f"no Python file and no notebook in {', '.join(map(str, paths))}")
    found, failed = [], 0
    for file in listed:
        findings, problems = check_file(file)
        found += findings
        failed += bool(problems)
        for problem in problems:
            say(problem)
    if form == "json":
        click.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            click.echo(printable(f"{finding.where}: {finding.pitfall}: {finding.reason}"))
            click.echo(f"    {one_line(finding.code)}")
            click.echo(f"    instead: {finding.fix}")
    unread = f", {failed} that could not be read" if failed else ""
    say(f"{_count(len(found), 'finding')} in {_count(len(listed), 'file')}{unread}")
    if found:
        say("next: fa-track pitfalls NAME explains one; `# fa-track: ignore` on a line silences it")
    else:
        say_next("pitfalls", why="computes the known ones")
    if failed or found:
        raise click.exceptions.Exit(1 if failed else FOUND)
