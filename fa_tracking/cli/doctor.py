"""`fa-track doctor`: what is installed, reachable and at hand, and what to do about what is not."""

import json
import textwrap
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from fa_tracking.cli import _options, _spelling
from fa_tracking.cli._checks import OK, PROBLEM, WARNING, Check, checks
from fa_tracking.cli._show import say, typed, width
from fa_tracking.publishing.tables import WIDTH
from fa_tracking.spelled import counted
from fa_tracking.untrusted import printable

ORDER = 9

MARKS = {OK: "✓", WARNING: "!", PROBLEM: "✗"}


@click.command("doctor")
@_spelling.answer_format("table", "json")
@_options.data_dir
@_options.database
@_options.any_tracking_uri
def command(form: str, data_dir: str | None, db: str, tracking_uri: str | None) -> None:
    """Check versions, MLflow store, plugins, results database, data and disk; say how to mend each problem.

    ✓ means in order, ! a warning, ✗ a problem. With a problem the exit code is 1. The command creates nothing and does
    not wait for a silent server.

    \b
    Example:
      fa-track doctor
      fa-track doctor --tracking-uri http://127.0.0.1:5000 --format json
    """
    found: list[Check] = []
    for check in checks(tracking_uri, db, data_dir):
        found.append(check)
        if form != "json":
            click.echo(_lines(check))
    if form == "json":
        click.echo(json.dumps([asdict(check) for check in found], indent=2))
    counts = Counter(check.state for check in found)
    say(f"{counts[OK]} in order, {counted(counts[WARNING], WARNING)}, {counted(counts[PROBLEM], PROBLEM)}")
    say(f"next: {_next(found, Path(db))}")
    if counts[PROBLEM]:
        raise click.exceptions.Exit(1)


def _lines(check: Check) -> str:
    across, indent = min(width(), WIDTH), " " * 12
    advice = f"{check.command}   # {check.advice}" if check.command else check.advice
    found = f"{MARKS[check.state]} {check.name:<9} {check.found}"
    texts = [(found, indent), *([(f"{indent}→ {advice}", f"{indent}  ")] if advice else [])]
    texts = [(printable(text), after) for text, after in texts]
    return "\n".join(textwrap.fill(t, across, subsequent_indent=i, break_on_hyphens=False) for t, i in texts)


def _next(found: list[Check], database: Path) -> str:
    """The command of the first problem that has one, else of the first warning; else the first question to ask."""
    if database.is_dir() and not any(c.state == PROBLEM for c in found):  # somebody's export, which needs no store
        return typed("query")
    mending = [c.command for state in (PROBLEM, WARNING) for c in found if c.state == state and c.command]
    unmended = any(c.state == PROBLEM for c in found)
    return mending[0] if mending else "mend the problem, then run fa-track doctor again" if unmended else typed("query")
