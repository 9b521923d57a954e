"""`fa-track study`: grids of runs."""

import json
import time
from collections import Counter
from dataclasses import asdict
from threading import Lock
from typing import TYPE_CHECKING

import click

from fa_tracking.cli import _complete, _options, _spelling
from fa_tracking.cli._show import bar_is_drawn, field, progress, same_again, say, say_next
from fa_tracking.cli._stop import going_on
from fa_tracking.untrusted import printable

if TYPE_CHECKING:
    from fa_tracking.executors import Needs
    from fa_tracking.tracking.abort import Abort
    from fa_tracking.trainers.options import Most, RunOptions, Stacking
    from fa_tracking.trainers.study.grid import RunConfig, Study
    from fa_tracking.trainers.study.schedule import StudyRun

ORDER = 2.5


class _Stacking(click.ParamType):
    """``auto``, ``off`` or a number of runs."""

    name = "auto|off|N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> "Most":
        if str(value).lower() in ("auto", "off"):
            return "auto" if str(value).lower() == "auto" else "off"
        if str(value).isdecimal() and int(str(value)) > 1:
            return int(str(value))
        return self.fail(f"{value!r} is neither auto nor off nor a number of runs, two or more", param, ctx)


reduced = click.option("--reduced", is_flag=True, help="The study's small form, in an experiment of its own.")


@click.group("study")
def command() -> None:
    """Run a grid of training runs that can be stopped and continued.

    \b
    Example:
      fa-track study run dfa_penalty --jobs 2
    """


@command.command("list")
@click.argument("name", required=False, shell_complete=_complete.studies)
@reduced
@_spelling.answer_format("table", "json")
@_options.tracking_uri
def list_cells(name: str | None, reduced: bool, form: str, tracking_uri: str | None) -> None:
    """List every run of the study NAME: done, aborted, running, killed, failed or missing; without NAME, the studies.

    \b
    Example:
      fa-track study list
      fa-track study list dfa_penalty --reduced
    """
    from fa_tracking.trainers.study import grid, schedule

    if name is None:
        for each in grid.studies():
            field(each, grid.load(each).title, 20)
        say_next("study", "list", "NAME", why="its runs")
        return
    chosen = _study(name, reduced)
    found = schedule.runs(chosen, tracking_uri)
    if form == "json":
        rows = [{**asdict(c.held), "params": asdict(c.config)} for c in found]
        click.echo(json.dumps(rows, indent=2))
    for run in () if form == "json" else found:
        elsewhere = f" (in {run.held.experiment})" if run.held.experiment != chosen.experiment else ""
        click.echo(printable(f"{run.held.state:<8} {grid.describe(run.config)}{elsewhere}"))
    say(f"{_counts(found)}; experiment {chosen.experiment}")
    _say_next(found, name, reduced)


@command.command("status")
@click.argument("name", shell_complete=_complete.studies)
@reduced
@_options.tracking_uri
def status(name: str, reduced: bool, tracking_uri: str | None) -> None:
    """Count the runs of the study NAME that are done, aborted, running, killed, failed or missing.

    \b
    Example:
      fa-track study status dfa_penalty
    """
    from fa_tracking.trainers.study import schedule

    found = schedule.runs(_study(name, reduced), tracking_uri)
    click.echo(_counts(found))
    _say_next(found, name, reduced)


@command.command("run")
@click.argument("name", shell_complete=_complete.studies)
@reduced
@_options.executor("local", unset="local: processes on this machine")
@click.option(
    "--stack",
    type=_Stacking(),
    default="off",
    show_default=True,
    help="Train runs of one shape as one program: auto (if it pays), off, or at most so many.",
)
@click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="Compile each stack with torch.compile: up to a minute per shape, then faster.",
)
@_options.aborting
@_options.functional
@_options.device
@_options.data_dir
@_options.tracking_uri
def run(
    name: str,
    reduced: bool,
    executor: str,
    needs: "Needs",
    stack: "Most",
    compiled: bool,
    abort: "Abort | None",
    functional: bool,
    device: str,
    data_dir: str | None,
    tracking_uri: str | None,
) -> None:
    """Train the runs of the study NAME that no experiment in the store holds yet.

    \b
    Example:
      fa-track study run dfa_penalty --reduced --jobs 2 --data-dir data
      fa-track study run rates.yaml --stack auto
      fa-track study run rates.yaml --stack 32 --compile
      fa-track study run rates.yaml --stack auto --abort-on n --abort-on a --patience 2
      RAY_ADDRESS=auto fa-track study run dfa_penalty --executor ray
      fa-track study run dfa_penalty --executor slurm --cells-per-job 8 --set partition=cpu
    """
    if compiled and stack == "off":
        raise click.UsageError("--compile works only on stacks: give --stack too")
    from fa_tracking.trainers.options import RunOptions, Stacking

    chosen, options = _study(name, reduced), RunOptions(data_dir, device=device, abort=abort, functional=functional)
    with going_on(lambda: f"{same_again()}   # trains the missing runs"):
        whole = run_study(chosen, needs, options, tracking_uri, executor, Stacking(stack, compiled))
    from fa_tracking.trainers.study import schedule  # not sooner: `run_study` has something to start before it

    _say_audits(schedule.runs(chosen, tracking_uri))
    if not whole:
        raise click.exceptions.Exit(1)


def run_study(
    chosen: "Study",
    needs: "Needs",
    options: "RunOptions",
    tracking_uri: str | None,
    executor: str,
    stacking: "Stacking",
) -> bool:
    """Run a study with a progress bar; whether every run is done."""
    from fa_tracking.executors import local

    if executor == "local" and (needs.jobs or 1) > 1:
        local.start("fa_tracking.trainers.study.worker")  # before what takes seconds to import here
    from fa_tracking.trainers.study import grid, held, schedule

    before = schedule.runs(chosen, tracking_uri)
    name = grid.told_apart([run.config for run in before])
    say(f"{chosen.experiment}: {_counts(before)}")
    if stacking.compiled:
        say("--compile: torch.compile is tried once before the first run; this takes some seconds")
    began = time.monotonic()
    with progress(chosen.experiment) as update:
        bar, one_at_a_time = 0.0, Lock()

        def trained(runs: float, total: int) -> None:
            nonlocal bar
            with one_at_a_time:
                bar = max(bar, runs)
                update(bar, total)

        def finished(config: "RunConfig", outcome: str, done: int, total: int) -> None:
            trained(done, total)
            left = (time.monotonic() - began) * (total - done) / max(done, needs.jobs or 1)
            said = "ended" if options.abort and outcome == held.DONE else outcome  # whether a flag did, the store knows
            state = said if outcome in (held.DONE, held.SKIPPED) else f"failed: {outcome}"
            remaining = f"; about {max(1, round(left / 60))} min left" if done < total else ""
            say(f"{done} of {total}: {name[config.digest]}: {state}{remaining}")

        problems = schedule.run(
            chosen,
            tracking_uri,
            options,
            needs,
            executor,
            stacking,
            finished,
            trained if bar_is_drawn() else None,
        )
    say(f"{chosen.experiment}: {_counts(schedule.runs(chosen, tracking_uri))}")
    return not problems


def _study(name: str, reduced: bool) -> "Study":
    from fa_tracking.trainers.study import grid

    chosen = grid.load(name)
    if not reduced:
        return chosen
    smaller = chosen.smaller()
    say(f"reduced: {chosen.reduced.says}" if chosen.reduced else "")
    return smaller


def _say_next(found: "list[StudyRun]", name: str, reduced: bool) -> None:
    from fa_tracking.trainers.study.held import ABORTED, DONE

    if all(run.held.state in (DONE, ABORTED) for run in found):
        _say_audits(found)
    else:
        say_next("study", "run", name, *(["--reduced"] if reduced else []), why="trains the missing runs")


def _say_audits(found: "list[StudyRun]") -> None:
    for experiment in sorted({run.held.experiment for run in found if run.held.run_id}):
        say_next("audit", "--experiment", experiment)


def _counts(runs: "list[StudyRun]") -> str:
    counts = Counter(run.held.state for run in runs)
    return ", ".join(f"{n} {state}" for state, n in counts.items())
