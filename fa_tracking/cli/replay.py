"""`fa-track replay`: the thresholds over the logged epochs, without any checkpoint."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fa_tracking.cli import _options, _spelling
from fa_tracking.cli._show import legend, progress, say, say_next, table
from fa_tracking.protocol.table import Kind

if TYPE_CHECKING:
    from fa_tracking.checks.replay import Fired, Replay, Saving
    from fa_tracking.protocol.thresholds import DiagnosticThresholds

ORDER = 3.5

EPOCH_MARKS = {Kind.EXACT: "", Kind.BOUND: "≤", Kind.PROXY: "~"}
NEVER = {Kind.EXACT: "–", Kind.BOUND: "?", Kind.PROXY: "~–", Kind.NOT_MEASURED: ""}
LEGEND = {
    "≤": "at this epoch at the latest: the growth is a lower bound",
    "~": "from a proxy layer",
    "–": "never",
    "?": "not known: a lower bound of the growth shows no more",
}

CUT_SHORT = "in {cut} of {n} runs the log ends before the planned epochs: savings count logged epochs"


@click.command("replay")
@_options.experiment
@_options.thresholds
@_spelling.repeated(
    "--abort-on", metavar="FLAG", default=("n", "a", "b"), show_default=True, help="Flag that stops a run; repeatable."
)
@click.option(
    "--patience",
    type=click.IntRange(1),
    metavar="N",
    default=1,
    show_default=True,
    help="Stop only after N epochs in a row with a flag.",
)
@_spelling.answer_format("table", "json")
@_options.tracking_uri
def command(
    experiment: str,
    thresholds: "DiagnosticThresholds",
    abort_on: tuple[str, ...],
    patience: int,
    form: str,
    tracking_uri: str | None,
) -> None:
    """Show at which logged epoch each diagnostic first fires in every run, and what a stop there would have saved.

    The command compares the logged numbers of finished and unfinished runs with the thresholds. It needs no
    checkpoint, trains nothing and writes nothing. `stop` is the epoch at which `fa-track train --abort-on FLAG` would
    have ended a run. (d) compares each epoch with the finished control, so it also fires in early epochs of good runs.

    \b
    Example:
      fa-track replay --experiment dfa_penalty
      fa-track replay --experiment dfa_penalty --explosion-ratio 20 --abort-on a --patience 2
    """
    from fa_tracking.checks.replay import replay
    from fa_tracking.protocol.thresholds import other_thresholds

    with progress("replay") as update:
        result = replay(experiment, tracking_uri, thresholds, abort_on, patience, update)
    for run in result.problems:
        say(f"{run.run_id} ({run.run_name}): {run.problem}")
    if form == "json":
        found = {"runs": [asdict(r) for r in result.runs], "savings": [asdict(s) for s in result.savings]}
        click.echo(json.dumps(_plain(found), indent=2))
    else:
        click.echo(replay_tables(result) + legend(other_thresholds(thresholds)), nl=False)
    if not result.runs:
        say(f"the experiment {experiment!r} has no run: nothing was replayed")
    say_next("audit", why="the verdicts")
    if result.problems:
        raise click.exceptions.Exit(1)


def replay_tables(result: "Replay") -> str:
    """A row a run, and below it a row a cell and rule."""
    runs = [r for r in result.runs if not r.problem]
    flags = list(runs[0].diagnostics) if runs else []
    rows = [
        (
            r.run_name,
            f"{r.final_epoch} of {r.planned_epochs}" if r.is_cut_short else r.final_epoch,
            r.final_accuracy,
            *(_epoch(fired) for fired in r.diagnostics.values()),
            _epoch(r.stop),
            r.stop.accuracy,
            r.stop.saved,
        )
        for r in runs
    ]
    columns = ("run", "last_epoch", "accuracy", *(f"({f})" for f in flags), "stop", "accuracy_there", "share_saved")
    shown = "".join(str(cell) for row in rows for cell in row[3:-2])
    cut = sum(r.is_cut_short for r in runs)
    lines = [CUT_SHORT.format(cut=cut, n=len(runs))] if cut else []
    lines += [f"{mark} {text}" for mark, text in LEGEND.items() if mark in shown]
    tables = table(columns, rows) + legend(lines)
    return tables + ("\n" + _savings_table(result.savings) if result.savings else "")


def _savings_table(savings: "list[Saving]") -> str:
    every = [s.cell.items() for s in savings]
    varied = {key for cell in every for key, value in cell if any((key, value) not in other for other in every)}
    rows = [
        (
            " ".join([s.cell.get("method", ""), *(f"{k}={v}" for k, v in s.cell.items() if k in varied - {"method"})]),
            s.rule,
            f"{s.n_fired} of {s.n}",
            " – ".join(map(str, sorted(set(s.epochs or ())))),
            _spread(s.saved, "z.3f"),
            _spread(s.change_pp, "+z.2f") + ("" if s.n_change == s.n_fired else f" (n = {s.n_change})"),
        )
        for s in savings
    ]
    columns = ("cell", "stopped_for", "fired_in", "at_epoch", "share_saved", "accuracy after_stop, pp")
    return table(columns, rows)


def _epoch(fired: "Fired") -> str:
    return NEVER[fired.kind] if fired.epoch is None else f"{EPOCH_MARKS[fired.kind]}{fired.epoch}"


def _spread(spread: tuple[float | None, float | None], form: str) -> str:
    mean, sd = spread
    if mean is None:
        return ""
    return f"{mean:{form}}" if sd is None else f"{mean:{form}} ± {sd:{form.removeprefix('+')}}"


def _plain(value: Any) -> Any:
    """Plain JSON values all the way down."""
    from fa_tracking.spelled import plain

    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else plain(value)
