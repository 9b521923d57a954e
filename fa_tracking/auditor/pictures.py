"""The charts of a run's report: its norms by layer with the thresholds, and its course where it logged epochs."""

from itertools import pairwise
from typing import TYPE_CHECKING

from fa_tracking.auditor.evidence.logged_numbers import Log
from fa_tracking.protocol.diagnostics import grad_norm, residual_norm
from fa_tracking.protocol.report import DiagnosticReport

if TYPE_CHECKING:
    from fa_tracking.dashboards.run_charts import Picture

EXPLAINED = (
    "Bar: the norm of the layer before, times the threshold of (a). ▲: a diagnostic fires here. ?: not measured. "
    "What an axis cannot hold is spelled at its top."
)


def pictures(report: DiagnosticReport, log: Log) -> "list[Picture]":
    """By layer what ``report`` measured, by epoch what ``log`` holds: a chart of each that has two numbers or more."""
    from fa_tracking.dashboards.run_charts import Panel, draw

    hidden, grads, accuracy = log.course()
    floor = {"floor of (b)": report.thresholds.g_norm_floor}
    by_layer = [dict(enumerate(norms)) for norms in (report.residual_norms, report.bp_grad_norms)]
    panels = [
        Panel("‖h_l‖ by layer", "layer", by_layer[0], ceilings=_ceilings(report), fires=_exploded(report)),
        Panel("‖g_l‖ by layer", "layer", by_layer[1], rules=floor, fires=_at_floor(report)),
        Panel("deepest ‖h_l‖ by epoch", "epoch", hidden),
        Panel("deepest ‖g_l‖ by epoch", "epoch", grads, rules=floor),
        Panel("test accuracy by epoch", "epoch", accuracy, rules=_control_lines(report), log=False),
    ]
    return [draw(panel) for panel in panels if sum(v is not None for v in panel.values.values()) > 1]


def _ceilings(report: DiagnosticReport) -> dict[int, float]:
    """By layer the ‖h_l‖ above which (a) fires, where that of the layer before is known."""
    return {
        layer: report.thresholds.h_norm_explosion_ratio * max(before, residual_norm.DENOMINATOR_FLOOR)
        for layer, (before, norm) in enumerate(pairwise(report.residual_norms), start=1)
        if before is not None and norm is not None
    }


def _exploded(report: DiagnosticReport) -> set[int]:
    if not residual_norm.fires(report):  # as where the class token grows alone
        return set()
    known = [layer for layer, norm in enumerate(report.residual_norms) if norm is not None]
    growth = zip(known[1:], residual_norm.growth(report.residual_norms), strict=True)
    return {layer for layer, ratio in growth if ratio > report.thresholds.h_norm_explosion_ratio}


def _at_floor(report: DiagnosticReport) -> set[int]:
    deepest = grad_norm.deepest_layer(report)
    return {deepest} if deepest is not None and grad_norm.fires(report) else set()


def _control_lines(report: DiagnosticReport) -> dict[str, float]:
    control, margin = report.frozen_baseline_acc, report.thresholds.frozen_acc_margin_pp
    return {} if control is None else {"frozen control": control, f"{margin:+g} pp, (d)": control + margin / 100}
