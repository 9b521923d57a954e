"""From a model and evaluation batches to a report: one forward and one backward pass a batch serve everything."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from torch import Tensor, nn

from fa_tracking.protocol.alignment import Credit
from fa_tracking.protocol.capture import Beside, Capture
from fa_tracking.protocol.diagnostics import catalogue
from fa_tracking.protocol.functional import NO_CREDIT
from fa_tracking.protocol.functional import functional as functional_measures
from fa_tracking.protocol.probe import capture_all
from fa_tracking.protocol.ranges import refuse, share
from fa_tracking.protocol.report import DiagnosticReport
from fa_tracking.protocol.thresholds import DiagnosticThresholds


def measure(captures: Sequence[Capture]) -> dict[str, Any]:
    """The fields of the report that are measured from captured tensors, from every diagnostic of the catalogue.

    What the report has no field of its own for stands in its ``extra``.
    """
    measured: dict[str, Any] = {}
    remarks = [remark for c in captures for remark in c.remarks]
    for diagnostic in catalogue():
        if hasattr(diagnostic, "measure"):
            found = diagnostic.measure(captures)
            remarks += found.pop("remarks", [])
            measured |= found
    own = {f.name for f in fields(DiagnosticReport)}
    extra = {name: measured.pop(name) for name in sorted(measured.keys() - own)}
    states = captures[0].states
    return {**measured, "states": states, "extra": extra, "remarks": tuple(dict.fromkeys(remarks))}


def diagnose(
    model: nn.Module,
    eval_batches: Iterable[tuple[Any, Tensor]],
    headline_acc: float | None = None,
    frozen_baseline_acc: float | None = None,
    method_name: str = "",
    notes: str = "",
    thresholds: DiagnosticThresholds | None = None,
    *,
    control_runs: Sequence[str] = (),
    control_note: str = "",
    layers: Sequence[str] | None = None,
    beside: Beside | None = None,
    reference: nn.Module | None = None,
    functional: bool = False,
    credit: Credit | None = None,
    no_credit: str = NO_CREDIT,
) -> DiagnosticReport:
    """Measure a trained classifier and say whether its result can be trusted.

    Args:
        model: any PyTorch classifier. Its hidden states come from the first of these that it offers: the outputs of
            ``layers``; the states that ``model(x, return_hidden=True)`` -> (logits (B, classes), [h_0, …, h_L])
            returns; the inputs of its ``blocks`` and of its read-out (``out_ln``, ``norm``, ``out_head`` or ``head``),
            if these are the states of its forward pass; the blocks or layers found by a search. It is measured in
            evaluation mode and float32 or wider, and left unchanged to the last bit.
        eval_batches: pairs (inputs, labels) of disjoint batches: at least 8; the protocol takes 10 of 128. Inputs are a
            tensor, a tuple of positional or a mapping of keyword arguments; labels (B,) class indices.
        headline_acc: the accuracy to be published, in [0, 1].
        frozen_baseline_acc: accuracy of the same architecture with frozen random blocks; without it (d) is skipped.
        method_name: printed in the report.
        notes: printed in the report.
        thresholds: None: the protocol's own.
        control_runs: the runs behind ``frozen_baseline_acc``.
        control_note: a remark on the control.
        layers: names of the modules (``model.named_modules()``) whose outputs are h_0 … h_L.
        beside: a further measurement on the same forward passes, such as ``knockout.KnockoutBeside``.
        reference: a network with the same weights and logits whose backward pass is BP's; it is measured instead of the
            model. Give it if the model's own backward pass is not BP's, such as feedback alignment written as a
            ``torch.autograd.Function``.
        functional: also measure how the credits change the loss (``report.functional``), in float64; this takes longer
            than everything else together.
        credit: the rule's local credit, for the functional measures; without it ``no_credit`` says why there is none.

    Raises:
        ValueError: the model shows no hidden states, its depth depends on the data, its outputs are probabilities,
            shapes do not fit, or an accuracy is not in [0, 1].
    """
    for name, accuracy in (("headline_acc", headline_acc), ("frozen_baseline_acc", frozen_baseline_acc)):
        refuse(share, name, accuracy)
    thresholds = thresholds or DiagnosticThresholds()
    captures = capture_all(model, eval_batches, layers, beside, reference)
    found = None
    if functional:
        found = functional_measures(
            model,
            captures,
            credit,
            no_credit=no_credit,
            floor=thresholds.g_norm_floor,
            layers=layers,
            reference=reference,
        )
    return DiagnosticReport(
        method_name=method_name,
        notes=notes,
        headline_acc=headline_acc,
        frozen_baseline_acc=frozen_baseline_acc,
        thresholds=thresholds,
        control_runs=tuple(control_runs),
        control_note=control_note,
        functional=found,
        **measure(captures),
    )
