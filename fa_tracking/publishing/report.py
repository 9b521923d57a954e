"""The reporting template, filled from the database: a section a cell, complete enough for a paper's appendix."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fa_tracking.protocol.verdicts import caveats
from fa_tracking.publishing.cell_tables import (
    configuration_table,
    control_tables,
    diagnostics_table,
    joined,
    layer_tables,
    number_of,
    runs_table,
    seeds_table,
    spread_of,
)
from fa_tracking.publishing.deviations import deviations
from fa_tracking.publishing.document import Block, Heading, Items
from fa_tracking.publishing.provenance import digest
from fa_tracking.publishing.publication import MISSING, Table
from fa_tracking.results.cells import Cell, Row, read
from fa_tracking.results.statistics import LEVEL, summarise

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

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
        rows.append([cell.name, number_of(accuracy), spread_of(accuracy), spread_of(margin), _verdict(cell)])
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
        configuration_table(cell),
        runs_table(cell),
        Heading("The four diagnostics", 3),
        diagnostics_table(cell),
        seeds_table(cell),
        Heading("Γ by layer", 3),
        *layer_tables(cell),
        Heading("Frozen control", 3),
        *control_tables(cell),
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
    text = f"Test accuracy: {spread_of(accuracy)}, a share in [0, 1] (n = {number_of(accuracy)}{interval})"
    if margin.mean is None:
        return [f"{text}."]
    control = summarise(cell.control_values)
    known = f"{spread_of(control)} (n = {number_of(control)})"
    used = joined(run["control_accuracy"] for run in cell.measured)
    of = known if control.mean is not None else f"{used} (of no run in this database)"
    return [f"{text}; frozen control: {of}; margin: {spread_of(margin)} pp (n = {number_of(margin)})."]
