"""The reporting template, filled from the database: a section a cell, complete enough for a paper's appendix."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from fa_tracking.protocol.verdicts import caveats
from fa_tracking.publishing.deviations import deviations
from fa_tracking.publishing.document import Block, Heading, Items
from fa_tracking.publishing.provenance import digest
from fa_tracking.publishing.publication import MISSING, Table, mean_and_sd
from fa_tracking.results.cells import Cell, Row, described, read, seed_of
from fa_tracking.results.statistics import LEVEL, Summary, summarise
from fa_tracking.spelled import short
from fa_tracking.tracking import names
from fa_tracking.tracking.measured import number
from fa_tracking.tracking.measured import read as stored_in

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DIAGNOSTICS = (
    ("a", "max per-block growth ‖h_{l+1}‖/‖h_l‖", "max_block_growth", "h_norm_explosion_ratio", ">"),
    ("b", "deepest gradient norm ‖g_L‖", "deepest_grad_norm", "g_norm_floor", "<"),
    ("c", "cross-batch direction stability, a cosine", "stability", "stability_drift_ceiling", ">"),
    ("d", "margin over the frozen control (pp)", "margin_pp", "frozen_acc_margin_pp", "<"),
)
"""Letter, quantity, its column and that of its threshold, and the side on which it fires."""

MEASURED = (
    "Norms are medians over samples of the L2 norm of each sample; gradients are those of each sample's own "
    "cross-entropy over a reference batch of 128. (a) is the largest growth over a block, (b) the gradient norm at the "
    "deepest hidden state, (c) the mean pairwise cosine of the batch-mean gradients of disjoint test batches at the "
    "middle layer, (d) the test accuracy less that of matched runs with frozen random blocks. (a) does not fire where "
    "the class token alone grows and the whole stream, over all tokens and features, does not. (b) does not fire where "
    "a small gradient is explained by a small output error: where the gain ‖g_L‖/‖e‖ times ‖e‖ at chance is at the "
    "floor or above; at chance ‖e‖ is the square root of 1 − 1/C for C classes, and 0.95 where an audit does not hold "
    "it.",
    "± is the sample standard deviation over the seeds (n − 1), and n stands beside it; runs of one seed are averaged "
    "first. Runs that diverged (flag n), were aborted, or were not audited are in no mean, and are named under "
    "deviations. Γ at a layer is the cosine between the local credit and the gradient, mean over samples; its null is "
    f"that of fresh draws of the feedback. {MISSING}: not measured.",
)

AS_LOGGED = (
    "Runs judged on partial evidence are an exception to this: their numbers are as they were logged or given by hand, "
    "and how they were taken (as a median or a mean, over which batch, against which control) is not known here. "
    "Bounds and proxies are in no mean and in no n, but flag runs and stand in the verdicts: ≥ marks a lower bound, "
    "~ the number of a proxy layer."
)
PARTIAL = "partial evidence"
MARKS = {"bound": "≥", "proxy": "~"}
"""By the kinds that an audit writes of numbers that are not known exactly."""

NULL = ("alignment_null_mean", "alignment_null_sd")
ENVIRONMENT = (names.TAG_VERSION, names.TAG_TORCH, names.TAG_DEVICE, names.TAG_DETERMINISTIC, names.TAG_GIT_COMMIT)


def report(
    connection: "DuckDBPyConnection", experiment: str | None, runs: Sequence[str], protocol: Mapping[str, float]
) -> list[Block]:
    """The report on an experiment (a name or a pattern), or on runs, by their ids or unique beginnings of these.

    Args:
        protocol: the thresholds of the protocol, by their columns of audits.

    Raises:
        UsageError: the database holds no such experiment, or not one such run.
    """
    cells = read(connection, experiment, runs)
    experiments = sorted({run["experiment"] for cell in cells for run in cell.runs})
    state = ", ".join(f"{e} (database digest {digest(connection, e)})" for e in experiments)
    return [
        Heading(f"Diagnostic report: {experiment or ', '.join(r['run_id'][:8] for c in cells for r in c.runs)}", 1),
        f"Experiment {state}.",
        *([_overview(cells)] if len(cells) > 1 else []),
        Heading("How it was measured", 2),
        *MEASURED,
        *([AS_LOGGED] if any(run["is_audited"] and not _is_full(run) for c in cells for run in c.runs) else []),
        *(block for cell in cells for block in _section(cell, protocol)),
    ]


def _overview(cells: Sequence[Cell]) -> Table:
    rows = []
    for cell in cells:
        accuracy, margin = (summarise(cell.values(c)) for c in ("headline_accuracy", "margin_pp"))
        rows.append([cell.name, _n(accuracy), _spread(accuracy), _spread(margin), _verdict(cell)])
    headings = ["cell", "n", "accuracy", "margin (pp)", "verdict"]
    return Table("Every cell over its seeds.", headings, rows, [False, True, True, True, False])


def _section(cell: Cell, protocol: Mapping[str, float]) -> list[Block]:
    found = deviations(cell, protocol)
    return [
        Heading(cell.name, 2),
        f"Verdict: {_verdict(cell)}.",
        *caveats(_said(run) for run in cell.planned),
        *_headline(cell),
        Heading("Configuration", 3),
        _configuration(cell),
        _runs(cell),
        Heading("The four diagnostics", 3),
        _diagnostics(cell),
        _seeds(cell),
        Heading("Γ by layer", 3),
        *_layers(cell),
        Heading("Frozen control", 3),
        *_controls(cell),
        Heading("Deviations", 3),
        Items(tuple(found)) if found else "None was found.",
    ]


def _verdict(cell: Cell) -> str:
    """Of the runs that ended as planned; MIXED, with the counts, where they disagree."""
    said = Counter(_said(run) for run in cell.planned)
    if not said:
        return "none: no run ended as planned"
    if len(said) == 1:
        return f"{next(iter(said))} ({len(cell.planned)} of {len(cell.planned)} runs)"
    return "MIXED: " + ", ".join(f"{n} × {verdict}" for verdict, n in sorted(said.items(), key=lambda v: (-v[1], v[0])))


def _said(run: Row) -> str:
    """A run's verdict, with its evidence where that is partial and the verdict does not say so itself."""
    if not run["is_audited"]:
        return "not audited"
    verdict = str(run["verdict"])
    return verdict if _is_full(run) or PARTIAL in verdict else f"{verdict} ({PARTIAL})"


def _is_full(run: Row) -> bool:
    return bool(run["evidence"] == "full")


def _headline(cell: Cell) -> list[Block]:
    accuracy, margin = (summarise(cell.values(column)) for column in ("headline_accuracy", "margin_pp"))
    if accuracy.mean is None:
        return ["Test accuracy: not measured."]
    interval = "" if accuracy.low is None else f", {LEVEL:.0%} t interval {accuracy.low:.4f} to {accuracy.high:.4f}"
    text = f"Test accuracy: {_spread(accuracy)}, a share in [0, 1] (n = {_n(accuracy)}{interval})"
    if margin.mean is None:
        return [f"{text}."]
    control = summarise(cell.control_values)
    known = f"{_spread(control)} (n = {_n(control)})"
    used = _joined(run["control_accuracy"] for run in cell.measured)
    of = known if control.mean is not None else f"{used} (of no run in this database)"
    return [f"{text}; frozen control: {of}; margin: {_spread(margin)} pp (n = {_n(margin)})."]


def _configuration(cell: Cell) -> Table:
    """The cell's params, its seeds, and what ran where."""
    params = cell.params
    known = [key for key in names.PARAMS if key in params]
    rows = [[key.replace("_", " "), params[key]] for key in [*known, *sorted(params.keys() - {*names.PARAMS})]]
    rows.append(["seeds", _joined(map(seed_of, cell.runs))])
    rows.append(["protocol version", _joined(run["protocol_version"] for run in cell.runs if run["is_audited"])])
    for tag in ENVIRONMENT:
        if any(tag in run["tags"] for run in cell.runs):
            rows.append([tag, _joined(run["tags"].get(tag) for run in cell.runs)])
    return Table("Params of the runs, and what they ran on.", ["param", "value"], rows, [False, False])


def _runs(cell: Cell) -> Table:
    """Of any status, with their whole ids."""
    headings = {"seed": "seed", "run_id": "run", "run_name": "name", "status": "status"}
    if len({run["experiment"] for run in cell.runs}) > 1:
        headings["experiment"] = "experiment"
    headings["audited_at"] = "audited at (UTC)"
    rows = [[_cell(run[column]) for column in headings] for run in cell.runs]
    return Table("The runs.", list(headings.values()), rows, [True, *[False] * (len(headings) - 1)])


def _diagnostics(cell: Cell) -> Table:
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


def _seeds(cell: Cell) -> Table:
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


def _layers(cell: Cell) -> list[Block]:
    layers = sorted({row["layer"] for row in cell.layers})
    if not layers:
        return ["No measurement by layer was logged at the audited epoch."]
    rows = []
    for layer in layers:
        gamma = summarise(cell.at_layer(layer, "alignment"))
        null, spread = (summarise(cell.at_layer(layer, column)) for column in NULL)
        norms = [_spread(summarise(cell.at_layer(layer, column))) for column in ("residual_norm", "grad_norm")]
        rows.append([str(layer), *norms, _spread(gamma), _n(gamma), _cell(null.mean), _cell(spread.mean), _n(null)])
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


def _controls(cell: Cell) -> list[Block]:
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
    return [_n(found), _spread(found), *ends]


def _spread(found: Summary) -> str:
    return mean_and_sd(found.mean, found.sd)


def _n(found: Summary) -> str:
    """How many seeds a mean is of, and how many more have no finite value."""
    return f"{found.n}" + (f" (and {found.n_diverged} not finite)" if found.n_diverged else "")


def _cell(value: Any) -> str:
    return MISSING if value is None else short(value)


def _joined(values: Any) -> str:
    return ", ".join(dict.fromkeys(_cell(value) for value in values)) or MISSING
