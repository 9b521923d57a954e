"""`fa-track gate`: CI fails where a run does not have the verdict that is asked for."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fa_tracking.checks.requirement import VERDICTS
from fa_tracking.cli import _options, _spelling
from fa_tracking.cli._show import say, say_next, typed
from fa_tracking.untrusted import one_line

if TYPE_CHECKING:
    from fa_tracking.checks.gate import Gate

ORDER = 3.8

NOT_MET = 3


@click.command("gate")
@_options.experiment
@click.option(
    "--require",
    "verdicts",
    type=click.Choice(VERDICTS),
    multiple=True,
    help="Verdict that passes; repeatable.  [default: trustworthy, or with --forbid any]",
)
@_spelling.repeated(
    "--forbid",
    into="flags",
    metavar="FLAG",
    help="Fail on this flag, and then also on n, 'not finite'; repeatable.",
)
@click.option("--method", "methods", metavar="NAME", multiple=True, help="Only runs with this method; repeatable.")
@click.option(
    "--min-seeds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Least number of passing seeds in every cell.",
)
@click.option(
    "--allow-partial",
    is_flag=True,
    help="Also pass verdicts on partial evidence; for --forbid, a silent bound or proxy counts as measured.",
)
@click.option("--controls", is_flag=True, help="Also judge the frozen controls.")
@click.option(
    "--junit",
    "junit_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the result as JUnit XML.",
)
@_spelling.answer_format("table", "json", "github", text="Lines, everything as JSON, or annotations for GitHub.")
@_options.tracking_uri
def command(
    experiment: str,
    verdicts: tuple[str, ...],
    flags: tuple[str, ...],
    methods: tuple[str, ...],
    min_seeds: int,
    allow_partial: bool,
    controls: bool,
    junit_file: Path | None,
    form: str,
    tracking_uri: str | None,
) -> None:
    """Exit with 3 if a run in the experiment lacks the required verdict; print a line for each such run.

    A run lacks it if it has not finished, was not audited, was audited before its last epoch or before its frozen
    control ended, or was judged on partial evidence. An experiment or a method without a run fails. Frozen controls
    are left out, and so are unfinished runs that a later run with the same params replaced. A cell is a set of runs
    that differ only in their seed.

    \b
    Example:
      fa-track gate --experiment dfa_penalty --require trustworthy --method bp --min-seeds 3
      fa-track gate --experiment dfa_penalty --forbid a --forbid b --junit gate.xml
    """
    from fa_tracking.checks.gate import gate
    from fa_tracking.checks.junit import junit
    from fa_tracking.checks.requirement import Requirement
    from fa_tracking.results.files import write_whole

    asked = verdicts or (() if flags else VERDICTS[:1])
    requirement = Requirement(tuple(dict.fromkeys(asked)), flags, methods, min_seeds, allow_partial, controls)
    found = gate(experiment, requirement, tracking_uri)
    if junit_file:
        write_whole(junit_file, junit(found))
        say(f"written: {junit_file}")
    if form == "json":
        click.echo(json.dumps(asdict(found) | {"passed": found.passed}, indent=2))
    for title, why in () if form == "json" else _offences(found):
        click.echo(_annotation(title, why) if form == "github" else f"{title}: {why}")
    _summarise(found)
    if not found.passed:
        raise click.exceptions.Exit(NOT_MET)


def _offences(found: "Gate") -> list[tuple[str, str]]:
    """What offends, and why, each on one line."""
    lines = [(f"{r.run_id} ({r.run_name})", r.why) for r in found.runs if r.offends]
    lines += [(f"cell {c.name}", c.why) for c in found.cells if c.why]
    lines += [(f"experiment {found.experiment}", problem) for problem in found.problems]
    return [(one_line(title), one_line(why)) for title, why in lines]


def _summarise(found: "Gate") -> None:
    from fa_tracking.checks.gate import LEFT_OUT, NO_VERDICT, PASSES

    judged = [r for r in found.runs if r.outcome != LEFT_OUT]
    passing = sum(r.outcome == PASSES for r in judged)
    left_out = [r.why.partition(",")[0] for r in found.runs if r.outcome == LEFT_OUT]
    counts = ", ".join(f"{left_out.count(why)} {why}" for why in sorted(set(left_out)))
    say(
        f"gate {'passed' if found.passed else 'failed'}: {passing} of {len(judged)} runs pass ({found.requirement})"
        + (f"; left out: {counts}" if left_out else "")
    )
    for caveat in dict.fromkeys(caveat for r in judged for caveat in r.caveats):
        about = sum(caveat in r.caveats for r in judged)
        say(f"{about} of {len(judged)} runs: {caveat}")
    unmeasured = Counter(flag for r in judged if r.outcome == PASSES for flag in r.unmeasured)
    for flag, runs in sorted(unmeasured.items()):
        say(f"not measured in {runs} of the {passing} that pass: {flag}; with --forbid {flag} they would not")
    if any(r.outcome == NO_VERDICT for r in judged):
        say_next("audit")
    elif judged:
        say(f"next: {typed('export')}, then {typed('report')}")
    else:
        say_next("train", "METHOD", why="a run to judge")


def _annotation(title: str, why: str) -> str:
    """An error as GitHub's log reads it."""
    return f"::error title={_property(f'fa-track gate: {title}')}::{_data(why)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
