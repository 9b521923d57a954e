"""What a reader of a cell's numbers must know: where its runs, audits and controls depart from plan and protocol."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isclose
from statistics import fmean

from fa_tracking import cells
from fa_tracking.protocol.diagnostics import stored
from fa_tracking.protocol.table import Reference
from fa_tracking.results.cells import FINISHED, Cell, Row, seed_of
from fa_tracking.spelled import short
from fa_tracking.tracking import names

THRESHOLDS = tuple(d.THRESHOLD.name for d in stored())
"""The columns of audits that hold the thresholds of (a), (b), (c) and (d)."""


def deviations(cell: Cell, protocol: Mapping[str, float]) -> list[str]:
    """A line each; ``protocol``: its thresholds, by their columns."""
    return [line for check in CHECKS for line in check(cell)] + list(_thresholds(cell, protocol))


def _seeds(cell: Cell) -> Iterator[str]:
    n = len({run["sample"] for run in cell.measured})
    if n < 2:
        yield f"n = {n}: there is no spread over seeds"
    repeated = {s: k for s, k in Counter(run["sample"] for run in cell.measured).items() if k > 1}
    for seed, times in repeated.items():
        yield f"seed {seed} has {times} runs, which are averaged before the seeds are"
    unseeded = [run for run in cell.runs if seed_of(run) is None]
    if unseeded:
        yield f"no seed is logged, so each run counts as its own: {_ids(unseeded)}"
    if cell.others:
        yield f"{cell.others} more runs of this cell were not asked for, and are in no number"


def _ends(cell: Cell) -> Iterator[str]:
    for run in cell.runs:
        if run["status"] != FINISHED:
            yield f"{_id(run)} is {run['status']}, and is in no number"
        elif run["aborted_at"] is not None:
            why = run["tags"].get(names.TAG_ABORTED_FOR)
            fired = f" for {why}" if why else ""
            planned = f" of {run['epochs']}" if run["epochs"] is not None else ""
            yield f"{_id(run)} was aborted at epoch {run['aborted_at']}{planned}{fired}, and is in no number"
        elif run["is_audited"] and None not in (run["epoch"], run["epochs"]) and run["epoch"] != run["epochs"]:
            yield f"{_id(run)} was planned for {run['epochs']} epochs and is measured at epoch {run['epoch']}"
        if run["tags"].get(names.TAG_GIT_COMMIT, "").endswith("-dirty"):
            yield f"{_id(run)} was trained from a checkout with changes that no commit holds"
        if wrong := cells.contradiction(run["params"]):
            yield f"of the params of {_id(run)}, {wrong}"
        if run["is_diverged"]:
            yield f"{_id(run)} diverged: a measurement is not finite, and it is in no mean"


def _audits(cell: Cell) -> Iterator[str]:
    audited = [run for run in cell.finished if run["is_audited"]]
    for run in cell.finished:
        if not run["is_audited"]:
            yield f"{_id(run)} was not audited, and is in no number"
    for run in audited:
        if run["evidence"] != "full":
            yield f"{_id(run)} was judged on {run['evidence'] or 'unknown'} evidence"
        if run["reference"] == Reference.NOT_BP:
            yield f"the reference gradient of {_id(run)} is {Reference.NOT_BP}: (b) and (c) were not measured"
        if given := run["tags"].get(names.TAG_GIVEN):
            yield f"{_id(run)} rests on numbers given by hand: {_given(given)}"
        if run["logged_at"] and run["audited_at"] and run["logged_at"].replace(microsecond=0) > run["audited_at"]:
            yield f"{_id(run)} has logged an epoch since its audit"
    versions = sorted({str(run["protocol_version"]) for run in audited})
    if len(versions) > 1:
        yield f"the audits are of different versions of the protocol: {', '.join(versions)}"


def _alignment(cell: Cell) -> Iterator[str]:
    ids = {run["run_id"] for run in cell.measured}
    rows = [row for row in cell.layers if row["run_id"] in ids]
    logged = {row["run_id"] for row in rows if row["alignment"] is not None}
    without = [run for run in cell.measured if run["run_id"] not in logged]
    uncredited = [run for run in without if not run["has_credit"]]
    if uncredited:
        yield f"Γ is missing in {_ids(uncredited)}: no local credit was logged"
    if below := [run for run in without if run["has_credit"]]:
        yield f"Γ is missing in {_ids(below)}: at the audited epoch the gradient is below the floor at every layer"
    gaps = Counter(row["layer"] for row in rows if row["run_id"] in logged and row["alignment"] is None)
    for layer, number in sorted(gaps.items()):
        yield f"Γ is missing at layer {layer} in {number} of {len(logged)} runs: the gradient is below the floor there"
    if logged and not any(row["alignment_null_mean"] is not None for row in rows):
        yield "Γ has no null: no fresh draws of the feedback were logged"


def _controls(cell: Cell) -> Iterator[str]:
    alone = [run for run in cell.finished if run["is_audited"] and not run["control_runs"]]
    given = [run for run in alone if run["control_accuracy"] is not None]
    without = [run for run in alone if run["control_accuracy"] is None]
    if without and not cell.is_frozen:
        yield f"there was no frozen control at the audit of {_ids(without)}: (d) was not measured"
    if given:
        yield f"the control accuracy of {_ids(given)} is of no run of the store"
    missing = [control for control in cell.control_ids if control not in cell.controls]
    if missing:
        yield f"the database does not hold the control runs {', '.join(missing)}"
    controls = [cell.controls[i] for i in cell.control_ids if i in cell.controls]
    away = sorted({c["experiment"] for c in controls} - {run["experiment"] for run in cell.runs})
    if away:
        yield f"control runs stand in another experiment: {', '.join(away)}"
    differing: dict[str, list[Row]] = defaultdict(list)
    for control in controls:
        if said := _difference(control["params"], cell.first["params"]):
            differing[said].append(control)
    for said, found in differing.items():
        yield f"the control {_ids(found)} differs in {said}"
    seeds = [_seeds_of(runs) for runs in (controls, cell.finished)]
    if controls and seeds[0] != seeds[1]:
        yield f"the control is of the seeds {', '.join(seeds[0])}; the runs are of {', '.join(seeds[1])}"
    used = {run["control_accuracy"] for run in cell.finished} - {None}
    if cell.control_values and not missing and any(not isclose(u, fmean(cell.control_values)) for u in used):
        at_audit = ", ".join(map(short, sorted(used)))
        yield f"the control has an accuracy of {short(fmean(cell.control_values))}; at the audits it was {at_audit}"
    if len({tuple(run["control_runs"] or ()) for run in cell.finished if run["is_audited"]}) > 1:
        yield "the audits rest on different control runs"


def _thresholds(cell: Cell, protocol: Mapping[str, float]) -> Iterator[str]:
    for column in THRESHOLDS:
        other = [run for run in cell.finished if run["is_audited"] and run[column] != protocol[column]]
        for value in dict.fromkeys(run[column] for run in other):
            said = f"{short(value)}, not the protocol's {short(protocol[column])}" if value is not None else "not known"
            yield f"the threshold {column} is {said}: {_ids([run for run in other if run[column] == value])}"


CHECKS: tuple[Callable[[Cell], Iterator[str]], ...] = (_seeds, _ends, _audits, _alignment, _controls)


def _difference(control: Mapping[str, str], run: Mapping[str, str]) -> str:
    """The params of a control that are not its run's; its blocks are frozen and its seed is its own by intent."""
    by_intent = (names.FROZEN_BLOCKS, names.TRAINABLE_BLOCKS)
    apart = [key for key in cells.differing(control, run) if key not in by_intent]
    said = [[cells.meaning(params, key) or "none" for params in (control, run)] for key in apart]
    return ", ".join(f"{key} ({there}, not {here})" for key, (there, here) in zip(apart, said, strict=True))


def _seeds_of(runs: Sequence[Row]) -> list[str]:
    ordered = sorted(runs, key=lambda run: (run["seed"] is None, run["seed"] or 0, run["sample"]))
    return list(dict.fromkeys(run["sample"] for run in ordered))


def _given(tag: str) -> str:
    try:
        return ", ".join(f"{key} = {value}" for key, value in json.loads(tag).items())
    except (ValueError, AttributeError):
        return tag


def _id(run: Row) -> str:
    return f"run {run['run_id'][:8]} (seed {seed_of(run) or '–'})"


def _ids(runs: Sequence[Row]) -> str:
    return ", ".join(run["run_id"][:8] for run in runs)
