"""A gate for CI: whether every run has the verdict that is asked for, and every cell enough seeds. Reads tags alone."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fa_tracking import cells
from fa_tracking.auditor.control import Controls, is_frozen
from fa_tracking.checks.requirement import Requirement
from fa_tracking.checks.since import changed
from fa_tracking.protocol.verdicts import caveats
from fa_tracking.tracking.audited import read
from fa_tracking.tracking.store import find_experiment, reader, trainings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PASSES, FAILS, NO_VERDICT, LEFT_OUT = "passes", "fails", "no verdict", "left out"
"""What becomes of a run: ``NO_VERDICT`` is an offence too, ``LEFT_OUT`` is none."""


@dataclass(frozen=True)
class Judged:
    """What the gate says of one run.

    Attributes:
        outcome: ``PASSES``, ``FAILS``, ``NO_VERDICT`` or ``LEFT_OUT``.
        why: empty where it passes.
        caveats: what a reader of its verdict must know, a line each.
        unmeasured: letters of the diagnostics that its audit could not measure, such as d without a frozen control.
        seconds: from its start to its end; None: it has not ended.
    """

    run_id: str
    run_name: str
    seed: str | None
    verdict: str | None
    outcome: str
    why: str
    unmeasured: tuple[str, ...]
    seconds: float | None
    caveats: tuple[str, ...] = ()

    @property
    def offends(self) -> bool:
        return self.outcome in (FAILS, NO_VERDICT)


@dataclass(frozen=True)
class JudgedCell:
    """The runs that differ in their seed alone.

    Attributes:
        name: the method, and the params that set the cells of this gate apart.
        seeds: distinct seeds that pass; a run without a seed stands for its own.
        why: what is wrong with the number of seeds; empty where nothing is.
    """

    name: str
    params: dict[str, str]
    runs: tuple[Judged, ...]
    seeds: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Gate:
    """What a gate says of an experiment; ``problems``: methods, or an experiment, without a run to judge."""

    experiment: str
    requirement: Requirement
    cells: tuple[JudgedCell, ...]
    problems: tuple[str, ...]

    @property
    def runs(self) -> list[Judged]:
        return [run for cell in self.cells for run in cell.runs]

    @property
    def passed(self) -> bool:
        """Whether no run offends, every cell has its seeds, and there was something to judge."""
        return not (self.problems or any(c.why for c in self.cells) or any(r.offends for r in self.runs))


def gate(experiment: str, requirement: Requirement, tracking_uri: str | None = None) -> Gate:
    """Hold every run of an experiment, finished or not, against a requirement.

    Left out are frozen controls (unless they are asked for) and unfinished runs that a later finished run of the same
    params has replaced.

    Raises:
        UsageError: there is no such experiment.
        FATrackError: the store does not answer.
    """
    client = reader(tracking_uri)
    found = trainings(client, [find_experiment(client, experiment).experiment_id])
    asked = [r for r in found if not requirement.methods or _method(r) in requirement.methods]
    judge = _Judge(client, asked, requirement)
    by_cell: dict[tuple[tuple[str, str], ...], list[Run]] = defaultdict(list)
    for run in asked:
        by_cell[_cell(run)].append(run)
    varied = cells.varied(map(dict, by_cell), ["method"])
    ordered = sorted(by_cell.items(), key=lambda cell: cell[0])
    gated = tuple(_cell_of(dict(key), varied, map(judge, runs), requirement) for key, runs in ordered)
    return Gate(experiment, requirement, gated, _problems(found, gated, requirement))


class _Judge:
    """Judges one run after the other; knows the others of its gate, and the controls of the store."""

    def __init__(self, client: "MlflowClient", runs: "Sequence[Run]", requirement: Requirement) -> None:
        self._client, self._requirement = client, requirement
        self._controls = Controls(client) if runs else None
        self._last: dict[tuple[tuple[str, str], ...], Run] = {_key(r): r for r in runs if r.info.status == "FINISHED"}

    def __call__(self, run: "Run") -> Judged:
        stored = read(run.data.tags)
        verdict = stored.shown_verdict
        outcome, why = self._of(run, verdict)
        fired = self._requirement.fired(stored)
        ended = run.info.end_time
        seconds = (ended - run.info.start_time) / 1000 if ended and run.info.start_time else None
        return Judged(
            run_id=run.info.run_id,
            run_name=run.info.run_name or "",
            seed=cells.meaning(run.data.params, cells.SEED) or None,
            verdict=verdict,
            outcome=outcome,
            why=why,
            unmeasured=tuple(flag for flag, fires in fired.items() if fires is None),
            seconds=seconds,
            caveats=tuple(caveats([verdict] if verdict else [])),
        )

    def _of(self, run: "Run", verdict: str | None) -> tuple[str, str]:
        if is_frozen(run) and not self._requirement.controls:
            return LEFT_OUT, "frozen control"
        if run.info.status != "FINISHED":
            later = self._last.get(_key(run))
            if later and later.info.start_time >= run.info.start_time:
                return LEFT_OUT, f"{run.info.status}, replaced by the later run {later.info.run_id}"
            return NO_VERDICT, f"unfinished: {run.info.status}"
        if verdict is None:
            return NO_VERDICT, "not audited"
        assert self._controls is not None
        if why := changed(self._client, run, self._controls):
            return NO_VERDICT, f"audited before its last change: {why}; the verdict was: {verdict}"
        why = self._requirement.falls_short(run.data.tags, verdict)
        return (FAILS, why) if why else (PASSES, "")


def _cell_of(
    params: dict[str, str], varied: Collection[str], judged: Iterable[Judged], requirement: Requirement
) -> JudgedCell:
    runs = tuple(judged)
    seeds = tuple(sorted({r.seed or r.run_id for r in runs if r.outcome == PASSES}, key=lambda s: (len(s), s)))
    apart = [f"{key}={cells.meaning(params, key) or ''}" for key in sorted(varied)]
    why = ""
    if any(r.outcome != LEFT_OUT for r in runs) and len(seeds) < requirement.min_seeds > 1:
        listed = f": {', '.join(seeds)}" if seeds else ""
        why = f"{len(seeds)} of {requirement.min_seeds} seeds pass{listed}"
    return JudgedCell(" ".join([params.get("method", "no method"), *apart]), params, runs, seeds, why)


def _problems(found: "Sequence[Run]", gated: Sequence[JudgedCell], requirement: Requirement) -> tuple[str, ...]:
    judged = {c.params.get("method") for c in gated if any(r.outcome != LEFT_OUT for r in c.runs)}
    there = sorted({_method(r) for r in found})
    missing = [m for m in requirement.methods if m not in judged]
    if missing or judged:
        known = f"; it has runs of: {', '.join(there)}" if there else ""
        return tuple(f"no run of the method {m!r} to judge{known}" for m in missing)
    return ("no run to judge" + (": there are frozen controls and replaced runs alone" if found else ""),)


def _method(run: "Run") -> str:
    return str(run.data.params.get("method", "no method"))


def _cell(run: "Run") -> tuple[tuple[str, str], ...]:
    return tuple(sorted(cells.apart(run.data.params).items()))


def _key(run: "Run") -> tuple[tuple[str, str], ...]:
    return (*_cell(run), (cells.SEED, cells.meaning(run.data.params, cells.SEED) or ""))
