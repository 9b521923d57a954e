"""From a model and evaluation batches to a report: one forward and one backward pass a batch serve everything."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from torch import Tensor, nn

from fa_tracking.protocol.diagnostics import catalogue
from fa_tracking.protocol.probe import Capture, capture
from fa_tracking.protocol.report import DiagnosticReport, DiagnosticThresholds


def capture_all(model: nn.Module, eval_batches: Iterable[tuple[Tensor, Tensor]]) -> list[Capture]:
    """One capture a batch.

    Raises:
        ValueError: there is no batch.
    """
    captures = [capture(model, x, y) for x, y in eval_batches]
    if not captures:
        raise ValueError("no evaluation batch was given; the protocol wants 10 disjoint batches of 128")
    return captures


def measure(captures: Sequence[Capture]) -> dict[str, Any]:
    """The fields of the report that are measured from captured tensors, from every diagnostic of the catalogue.

    What the report has no field of its own for stands in its ``extra``.
    """
    measured: dict[str, Any] = {}
    for diagnostic in catalogue():
        if hasattr(diagnostic, "measure"):
            measured |= diagnostic.measure(captures)
    own = {f.name for f in fields(DiagnosticReport)}
    extra = {name: measured.pop(name) for name in sorted(measured.keys() - own)}
    return {**measured, "extra": extra}


def diagnose(
    model: nn.Module,
    eval_batches: Iterable[tuple[Tensor, Tensor]],
    headline_acc: float | None = None,
    frozen_baseline_acc: float | None = None,
    method_name: str = "",
    notes: str = "",
    thresholds: DiagnosticThresholds | None = None,
    *,
    control_runs: Sequence[str] = (),
    control_note: str = "",
) -> DiagnosticReport:
    """Measure a trained classifier and say whether its result can be trusted.

    Args:
        model: serves ``model(x, return_hidden=True)`` -> (logits (B, classes), [h_0, …, h_L]), or has ``blocks`` and
            a read-out (``out_ln``, ``norm``, ``out_head`` or ``head``); states are (B, d), (B, T, d) or (B, C, H, W).
            It is measured in evaluation mode and left as it was.
        eval_batches: pairs (inputs, labels) of disjoint batches; at least 8, by default of the protocol 10 of 128.
        headline_acc: the accuracy to be published, in [0, 1].
        frozen_baseline_acc: accuracy of the same architecture with frozen random blocks; without it (d) is skipped.
        method_name, notes: printed in the report.
        thresholds: the protocol's own where None.
        control_runs, control_note: the runs behind ``frozen_baseline_acc``, and what else to say of it.

    Raises:
        ValueError: the model shows no hidden states, or shapes do not fit.
    """
    return DiagnosticReport(
        method_name=method_name,
        notes=notes,
        headline_acc=headline_acc,
        frozen_baseline_acc=frozen_baseline_acc,
        thresholds=thresholds or DiagnosticThresholds(),
        control_runs=tuple(control_runs),
        control_note=control_note,
        **measure(capture_all(model, eval_batches)),
    )
