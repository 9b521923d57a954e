"""A gate for CI: whether every run has the verdict that is asked for, and every cell enough seeds. Reads tags alone."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fa_tracking import cells, untrusted
from fa_tracking.auditor.control import Controls, is_frozen
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.protocol.diagnostics import catalogue
from fa_tracking.protocol.table import Kind
from fa_tracking.protocol.verdicts import caveats, head, marked
from fa_tracking.tracking import names
from fa_tracking.tracking.store import LARGEST, find_experiment, reader, store_errors, trainings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

VERDICTS = ("trustworthy", "walk-back", "inconclusive")
"""What a gate can ask for: the heads of the verdicts."""

PASSES, FAILS, NO_VERDICT, LEFT_OUT = "passes", "fails", "no verdict", "left out"
"""What becomes of a run: ``NO_VERDICT`` is an offence too, ``LEFT_OUT`` is none."""

EVALUATED = {
    names.ACCURACY_TEST: "headline_accuracy",
    names.MAX_BLOCK_GROWTH: "max_block_growth",
    names.GRAD_GAIN: "grad_gain",
    names.STABILITY: "stability",
}
"""What of an evaluator's measurements MLflow logs as it was measured, by its name among them."""

NOT_FINITE = "n"
FULL_EVIDENCE = "full"


@dataclass(frozen=True)
class Requirement:
    """What a gate asks for.

    Attributes:
        verdicts: those of ``VERDICTS`` that pass; empty: any.
        forbidden: letters of diagnostics that must have been measured and must not fire. With any of them, ``n`` too.
        methods: only these; empty: all. Each must have a run.
        min_seeds: distinct seeds that must pass in every cell; with 1, the runs say it all.
        allow_partial: whether a verdict on partial evidence can pass; then what is known by a bound or a proxy, and did
            not fire, counts as measured.
        controls: whether frozen controls are judged, too.
    """

    verdicts: tuple[str, ...] = ("trustworthy",)
    forbidden: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    min_seeds: int = 1
    allow_partial: bool = False
    controls: bool = False

    def __post_init__(self) -> None:
        known = [d.FLAG for d in catalogue()]
        if unknown := [flag for flag in self.forbidden if flag not in known]:
            raise UsageError(f"no flag {', '.join(map(repr, unknown))}: choose among {', '.join(known)}")

    def __str__(self) -> str:
        asked = " or ".join(self.verdicts)
        flags = f"without the flags {', '.join(self.flags)}" if self.flags else ""
        return " ".join(part for part in (asked, flags) if part)

    @property
    def flags(self) -> tuple[str, ...]:
        """``forbidden``, and ``n`` with them: of a run that diverged no other flag means anything."""
        return tuple(dict.fromkeys((NOT_FINITE, *self.forbidden))) if self.forbidden else ()


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
class Cell:
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
    cells: tuple[Cell, ...]
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
    store = reader(tracking_uri)
    found = trainings(store, [find_experiment(store, experiment).experiment_id])
    asked = [r for r in found if not requirement.methods or _method(r) in requirement.methods]
    judge = _Judge(store, asked, requirement)
    by_cell: dict[tuple[tuple[str, str], ...], list[Run]] = defaultdict(list)
    for run in asked:
        by_cell[_cell(run)].append(run)
    varied = cells.varied(map(dict, by_cell), ["method"])
    ordered = sorted(by_cell.items(), key=lambda cell: cell[0])
    gated = tuple(_cell_of(dict(key), varied, map(judge, runs), requirement) for key, runs in ordered)
    return Gate(experiment, requirement, gated, _problems(found, gated, requirement))


class _Judge:
    """Judges one run after the other; knows the others of its gate, and the controls of the store."""

    def __init__(self, store: "MlflowClient", runs: "Sequence[Run]", requirement: Requirement) -> None:
        self._store, self._requirement = store, requirement
        self._controls = Controls(store) if runs else None
        self._last: dict[tuple[tuple[str, str], ...], Run] = {_key(r): r for r in runs if r.info.status == "FINISHED"}

    def __call__(self, run: "Run") -> Judged:
        verdict = shown_verdict(run.data.tags)
        outcome, why = self._of(run, verdict)
        fired = _fired(run.data.tags, self._requirement.allow_partial)
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
        if changed := self._changed(run):
            return NO_VERDICT, f"audited before its last change: {changed}; the verdict was: {verdict}"
        why = _falls_short(run.data.tags, verdict, self._requirement)
        return (FAILS, why) if why else (PASSES, "")

    def _changed(self, run: "Run") -> str:
        """What came after the audit of a run: its own epochs, or another frozen control; empty where nothing did."""
        assert self._controls is not None
        tags = run.data.tags
        try:
            audited = _milliseconds(tags[names.TAG_AUDITED_AT])
        except (KeyError, ValueError, OverflowError):
            return "it does not say when it was audited"
        measured = _measured(tags)
        if _has_logged_since(run, audited, measured):
            return "it has logged an epoch since"
        return self._changed_control(run, audited, measured)

    def _changed_control(self, run: "Run", audited: int, measured: Mapping[str, Any]) -> str:
        assert self._controls is not None
        known = list(filter(None, run.data.tags.get(names.TAG_CONTROL_RUNS, "").split(",")))
        control = self._controls.of(run)
        if gone := [c for c in known if c not in control.runs and len(c) == 32]:
            return f"its frozen control {', '.join(gone)} is none any more"
        unseen = [c for c in control.runs if c not in known]
        with store_errors():
            late = [c for c in unseen if (self._store.get_run(c).info.end_time or 0) > audited]
        if late:
            return f"its frozen control {', '.join(late)} has ended since"
        now, then = control.accuracy, measured.get("control_accuracy", control.accuracy)
        then = then if isinstance(then, int | float) else None
        is_by_hand = then is not None and not known
        if is_by_hand and (now is None or names.TAG_EVALUATED in run.data.tags):
            return ""
        if (now is None) == (then is None) and math.isclose(now or 0, then or 0, rel_tol=1e-12):
            return ""  # but for the order in which a mean was added up
        said = ["none" if a is None else f"{a:.4g}" for a in (then, now)]
        return f"the accuracy of its frozen control was {said[0]}, and is {said[1]}"


def _has_logged_since(run: "Run", audited: int, measured: Mapping[str, Any]) -> bool:
    """Whether a run has logged something of which an audit now would make more."""
    tags, epoch = run.data.tags, _epoch(measured)
    read = [m for m in run.data.to_proto().metrics if _is_read_by_an_audit(m.key)]
    late = [m for m in read if m.timestamp > audited]
    beyond = [m for m in read if epoch is not None and m.step > epoch]
    if names.TAG_EVALUATED in tags:  # MLflow logs what its evaluator has measured after the verdict
        own = _logged_by_evaluator(measured)
        return any(m in beyond or (m.key in own and not _same(m.value, own[m.key])) for m in late)
    # a time before the run's own says nothing of when it was logged
    late += [m for m in beyond if m.timestamp < (run.info.start_time or 0) and _is_of_the_network(m.key)]
    if tags.get(names.TAG_EVIDENCE) != FULL_EVIDENCE:  # of what the last epoch logged, whatever time that gives itself
        late += [m for m in beyond if _is_of_the_network(m.key)]
    return bool(late)


def shown_verdict(tags: Mapping[str, str]) -> str | None:
    """A run's verdict with the mark of other thresholds than the protocol's; None where it has none."""
    if names.TAG_VERDICT not in tags:
        return None
    try:
        used = dict(untrusted.parse_json(tags[names.TAG_THRESHOLDS]))
    except (KeyError, TypeError, ValueError):
        used = {}
    return marked(tags[names.TAG_VERDICT], used)


def _is_read_by_an_audit(key: str) -> bool:
    """Whether a later point of a metric means that there is more to judge."""
    return key == names.ACCURACY_TEST or key.startswith(names.OF_DIAGNOSTICS)


def _is_of_the_network(key: str) -> bool:
    """Whether a metric is more than an accuracy, so that a verdict of logs would be of its epoch."""
    from fa_tracking.auditor.evidence import (
        logged_numbers as logged,  # not sooner: `fa-track --help` needs none of what it imports
    )

    try:
        return key != names.ACCURACY_TEST and logged.is_read(key)
    except FATrackError:
        return True  # a layer that no audit reads: there is none any more


def _epoch(measured: Mapping[str, Any]) -> int | None:
    """The epoch that a verdict is of; None where it does not say."""
    try:
        return int(measured["epoch"])
    except (KeyError, TypeError, ValueError):
        return None


def _milliseconds(audited_at: str) -> int:
    """When an audit was, as MLflow counts; the end of its second where it says whole ones, as of version 0.1."""
    found = datetime.fromisoformat(audited_at)
    return int(found.timestamp() * 1000) + (0 if "." in audited_at else 999)


def _measured(tags: Mapping[str, str]) -> dict[str, Any]:
    """What an audit measured; empty where its tag cannot be read."""
    try:
        return dict(untrusted.parse_json(tags[names.TAG_MEASURED]))
    except (KeyError, TypeError, ValueError):
        return {}


def _logged_by_evaluator(measured: Mapping[str, Any]) -> dict[str, float]:
    """What an evaluator measured, by the names under which MLflow logs it afterwards; empty where it cannot be read."""
    told = {key: measured.get(field) for key, field in EVALUATED.items()}
    try:
        return {key: float(value) for key, value in told.items() if value is not None}
    except (TypeError, ValueError):
        return {}


def _same(logged: float, measured: float) -> bool:
    if abs(logged) >= LARGEST:
        logged = math.copysign(math.inf, logged)
    return logged == measured or (math.isnan(logged) and math.isnan(measured))


def _falls_short(tags: Mapping[str, str], verdict: str, requirement: Requirement) -> str:
    """Why a verdict does not meet the requirement; empty where it does."""
    evidence = tags.get(names.TAG_EVIDENCE)
    if evidence != FULL_EVIDENCE and not requirement.allow_partial:
        return f"{evidence or 'no word on its'} evidence: {verdict}"
    if requirement.verdicts and _head(verdict) not in requirement.verdicts:
        return verdict
    fired = _fired(tags, requirement.allow_partial)
    if unmeasured := [flag for flag in requirement.flags if fired.get(flag) is None]:
        return f"not measured: {', '.join(unmeasured)}; {verdict}"
    return verdict if any(fired[flag] for flag in requirement.flags) else ""


def _head(verdict: str) -> str:
    """The one of ``VERDICTS`` that a verdict is; trustworthy has no more words, the others have."""
    said = head(verdict)
    return "" if (":" in verdict) == (said == VERDICTS[0]) else said.removeprefix("needs ")


def _fired(tags: Mapping[str, str], allow_inexact: bool) -> dict[str, bool | None]:
    """Whether each diagnostic fired, by its letter, as the audit wrote it; empty where that cannot be read.

    The audit writes None of a bound or a proxy that did not fire; with ``allow_inexact`` that is False.
    """
    try:
        measured = untrusted.parse_json(tags[names.TAG_MEASURED])
        fired, kinds = dict(measured["fired"]), dict(measured.get("kinds", {}))
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
    inexact = {flag for flag, kind in kinds.items() if kind in (Kind.BOUND, Kind.PROXY)} if allow_inexact else set()
    return {flag: False if fires is None and flag in inexact else fires for flag, fires in fired.items()}


def _cell_of(
    params: dict[str, str], varied: Collection[str], judged: Iterable[Judged], requirement: Requirement
) -> Cell:
    runs = tuple(judged)
    seeds = tuple(sorted({r.seed or r.run_id for r in runs if r.outcome == PASSES}, key=lambda s: (len(s), s)))
    apart = [f"{key}={cells.meaning(params, key) or ''}" for key in sorted(varied)]
    why = ""
    if any(r.outcome != LEFT_OUT for r in runs) and len(seeds) < requirement.min_seeds > 1:
        listed = f": {', '.join(seeds)}" if seeds else ""
        why = f"{len(seeds)} of {requirement.min_seeds} seeds pass{listed}"
    return Cell(" ".join([params.get("method", "no method"), *apart]), params, runs, seeds, why)


def _problems(found: "Sequence[Run]", gated: Sequence[Cell], requirement: Requirement) -> tuple[str, ...]:
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
