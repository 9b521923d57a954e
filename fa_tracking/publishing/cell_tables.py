"""The tables of a cell in a report: its params and runs, the four diagnostics, Γ by layer, its controls."""

from math import isfinite
from typing import Any

from fa_tracking.protocol.diagnostics import stored
from fa_tracking.protocol.table import Kind
from fa_tracking.publishing.document import Block
from fa_tracking.publishing.publication import MISSING, Table, mean_and_sd
from fa_tracking.results.cells import Cell, Row, described, seed_of
from fa_tracking.results.statistics import Summary, summarise
from fa_tracking.spelled import short
from fa_tracking.tracking import names
from fa_tracking.tracking.audited import number
from fa_tracking.tracking.audited import read as stored_in

DIAGNOSTICS = tuple(
    (d.FLAG, d.QUANTITY, d.COLUMN, d.THRESHOLD.name, {"above": ">", "below": "<"}[d.THRESHOLD.fires]) for d in stored()
)
"""Letter, quantity, its column and that of its threshold, and the side on which it fires."""
MARKS: dict[str, str] = {Kind.BOUND: "≥", Kind.PROXY: "~"}
"""By the kinds that an audit writes of numbers that are not known exactly."""

NULL = ("alignment_null_mean", "alignment_null_sd")
ENVIRONMENT = (names.TAG_VERSION, names.TAG_TORCH, names.TAG_DEVICE, names.TAG_DETERMINISTIC, names.TAG_GIT_COMMIT)


def configuration_table(cell: Cell) -> Table:
    """The cell's params, its seeds, and what ran where."""
    params = cell.params
    known = [key for key in names.PARAMS if key in params]
    rows = [[key.replace("_", " "), params[key]] for key in [*known, *sorted(params.keys() - {*names.PARAMS})]]
    rows.append(["seeds", joined(map(seed_of, cell.runs))])
    rows.append(["protocol version", joined(run["protocol_version"] for run in cell.runs if run["is_audited"])])
    for tag in ENVIRONMENT:
        if any(tag in run["tags"] for run in cell.runs):
            rows.append([tag, joined(run["tags"].get(tag) for run in cell.runs)])
    return Table("Params of the runs, and what they ran on.", ["param", "value"], rows, [False, False])


def runs_table(cell: Cell) -> Table:
    """Of any status, with their whole ids."""
    headings = {"seed": "seed", "run_id": "run", "run_name": "name", "status": "status"}
    if len({run["experiment"] for run in cell.runs}) > 1:
        headings["experiment"] = "experiment"
    headings["audited_at"] = "audited at (UTC)"
    rows = [[_cell(run[column]) for column in headings] for run in cell.runs]
    return Table("The runs.", list(headings.values()), rows, [True, *[False] * (len(headings) - 1)])


def diagnostics_table(cell: Cell) -> Table:
    rows = []
    for letter, quantity, column, threshold, side in DIAGNOSTICS:
        used = dict.fromkeys(run[threshold] for run in cell.finished if run["is_audited"])
        fires = " or ".join(f"{side} {_cell(value)}" for value in used) or MISSING
        measured = [fired for run in cell.planned if (fired := run[f"fires_{letter}"]) is not None]
        flagged = f"{sum(measured)} of {len(measured)}" if measured else MISSING
        rows.append([f"({letter}) {quantity}", *_range(cell.values(column)), fires, flagged])
    if stream := cell.values("stream_growth"):
        rows.append(["growth of the whole stream, beside (a)", *_range(stream), MISSING, MISSING])
    rows.append(["gain ‖g_L‖/‖e‖", *_range(cell.values("grad_gain")), MISSING, MISSING])
    headings = ["diagnostic", "n", "mean ± s.d.", "least", "greatest", "fires", "runs it flags"]
    caption = (
        "The four diagnostics over the seeds, the audit's thresholds, and how many runs that ended as planned each "
    )
    inexact = any(_known(run, column)[0] in MARKS.values() for run in cell.planned for _, _, column, *_ in DIAGNOSTICS)
    beside = " Where n falls short of the runs, bounds and proxies stand in the verdict: the next table has them."
    return Table(
        f"{caption}flags.{beside if inexact else ''}", headings, rows, [False, True, True, True, True, False, False]
    )


def seeds_table(cell: Cell) -> Table:
    headings = {"epoch": "epoch", "headline_accuracy": "accuracy", "margin_pp": "(d) (pp)"}
    headings |= {"max_block_growth": "(a) growth", "stream_growth": "of the stream"}
    headings |= {"deepest_residual_norm": "‖h_L‖", "deepest_grad_norm": "(b) ‖g_L‖"}
    headings |= {"grad_gain": "gain", "chance_error": "‖e‖ at chance", "stability": "(c) cosine"}
    for column in ("stream_growth", "chance_error"):
        if all(run[column] is None for run in cell.finished):
            headings.pop(column, None)
    rows = [
        [_cell(seed_of(run)), run["run_id"][:8], *(_known(run, column) for column in headings), _flags(run)]
        for run in cell.finished
    ]
    numeric = [True, False, *[True] * len(headings), False]
    caption = "Every finished run, at the epoch of its audit."
    return Table(caption, ["seed", "run", *headings.values(), "flags"], rows, numeric)


def layer_tables(cell: Cell) -> list[Block]:
    layers = sorted({row["layer"] for row in cell.layers})
    if not layers:
        return ["No measurement by layer was logged at the audited epoch."]
    rows = []
    for layer in layers:
        gamma = summarise(cell.at_layer(layer, "alignment"))
        null, spread = (summarise(cell.at_layer(layer, column)) for column in NULL)
        norms = [spread_of(summarise(cell.at_layer(layer, column))) for column in ("residual_norm", "grad_norm")]
        drawn = [_cell(null.mean), _cell(spread.mean), number_of(null)]
        rows.append([str(layer), *norms, spread_of(gamma), number_of(gamma), *drawn])
    headings = ["layer", "‖h_l‖", "‖g_l‖", "Γ", "n", "null", "null s.d.", "n"]
    caption = "By layer, over the seeds. The null's mean and s.d. are over its draws, and averaged over its n seeds."
    blocks: list[Block] = [Table(caption, headings, rows, [True] * 8)]
    if any(row["alignment"] is not None for row in cell.layers):
        return [*blocks, _layers_by_seed(cell)]
    return [*blocks, "Γ is not available; why is said under deviations."]


def _layers_by_seed(cell: Cell) -> Table:
    columns = (
        "residual_norm",
        "grad_norm",
        "alignment",
        "alignment_pooled",
        "alignment_null_mean",
        "alignment_null_sd",
    )
    rows = [
        [_cell(seed_of(run)), str(row["layer"]), *(_cell(row[column]) for column in columns)]
        for run in cell.finished
        for row in cell.layers
        if row["run_id"] == run["run_id"]
    ]
    headings = ["seed", "layer", "‖h_l‖", "‖g_l‖", "Γ", "Γ, samples pooled", "null", "null s.d."]
    return Table("By layer, every finished run.", headings, rows, [True] * 8)


def control_tables(cell: Cell) -> list[Block]:
    serves = [f"These runs are a frozen control of {'; '.join(cell.serves)}."] if cell.serves else []
    if not cell.control_ids:
        why = "These runs are frozen themselves, and have none." if cell.is_frozen else "No control run is named."
        return [*serves, why]
    rows = []
    for control in cell.control_ids:
        run = cell.controls.get(control)
        row = [seed_of(run), run["experiment"], described(run, ()), run["last_accuracy"]] if run else [None] * 4
        rows.append([control, *map(_cell, row)])
    headings = ["run", "seed", "experiment", "cell", "accuracy"]
    return [*serves, Table("The runs of the frozen control.", headings, rows, [False, True, False, False, True])]


def _known(run: Row, column: str) -> str:
    """A number of a run; of partial evidence a bound or a proxy with its mark, where there is no exact one."""
    letter = next((letter for letter, _, measured, *_ in DIAGNOSTICS if measured == column), None)
    if run[column] is not None or letter is None:
        return _cell(run[column])
    stored = stored_in(run["tags"] or {})
    mark, inexact = MARKS.get(stored.kinds.get(letter, "")), number(stored.inexact.get(letter))
    return MISSING if mark is None or inexact is None else f"{mark}{short(inexact)}"


def _flags(run: Row) -> str:
    if not run["is_audited"]:
        return "not audited"
    said = run["flags"].replace(",", " ") or str(run["verdict"]).partition(":")[0]
    return f"{said}, aborted" if run["aborted_at"] is not None else said


def _range(values: list[float]) -> list[str]:
    found = summarise(values)
    finite = [value for value in values if isfinite(value)]
    ends = [short(min(finite)), short(max(finite))] if finite else [MISSING, MISSING]
    return [number_of(found), spread_of(found), *ends]


def spread_of(found: Summary) -> str:
    return mean_and_sd(found.mean, found.sd)


def number_of(found: Summary) -> str:
    """How many seeds a mean is of, and how many more have no finite value."""
    return f"{found.n}" + (f" (and {found.n_diverged} not finite)" if found.n_diverged else "")


def _cell(value: Any) -> str:
    return MISSING if value is None else short(value)


def joined(values: Any) -> str:
    return ", ".join(dict.fromkeys(_cell(value) for value in values)) or MISSING
