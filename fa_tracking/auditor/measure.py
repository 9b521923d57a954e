"""Measures one network, wherever it comes from: the report and, beside it, the block knock-out."""

from fa_tracking.auditor.control import Control
from fa_tracking.auditor.evidence.network import Network
from fa_tracking.errors import FATrackError, first_line
from fa_tracking.protocol.diagnose import diagnose
from fa_tracking.protocol.knockout import Knockout, KnockoutBeside
from fa_tracking.protocol.report import DiagnosticReport
from fa_tracking.protocol.thresholds import DiagnosticThresholds


def measure(
    network: Network, control: Control, thresholds: DiagnosticThresholds, method_name: str, notes: str
) -> tuple[DiagnosticReport, Knockout]:
    """The report with its functional measures, and the knock-out.

    Raises:
        FATrackError: the network cannot be measured.
    """
    beside = KnockoutBeside(network.model)
    try:
        report = diagnose(
            network.model,
            network.batches,
            headline_acc=network.headline_acc,
            frozen_baseline_acc=control.accuracy,
            method_name=method_name,
            notes=notes,
            thresholds=thresholds,
            control_runs=control.runs,
            control_note=control.note,
            layers=list(network.layers) if network.layers else None,
            beside=beside,
            functional=True,
            credit=network.credit,
            no_credit=network.no_credit,
        )
    except Exception as error:  # another's forward pass may raise anything
        raise FATrackError(f"{network.name} cannot be measured: {first_line(error)}") from error
    return report, beside.found()
