"""Measures one network, wherever it comes from: the report and, beside it, the block knock-out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from fa_tracking.errors import FATrackError
from fa_tracking.protocol.alignment import Credit
from fa_tracking.protocol.diagnose import diagnose
from fa_tracking.protocol.knockout import Knockout, Removed
from fa_tracking.protocol.knockout import accuracy as share_right
from fa_tracking.protocol.report import DiagnosticReport
from fa_tracking.protocol.thresholds import DiagnosticThresholds
from fa_tracking.protocol.undisturbed import undisturbed

if TYPE_CHECKING:
    from torch import Tensor, nn

Batches = Sequence[tuple["Tensor", "Tensor"]]


@dataclass(frozen=True)
class Options:
    """What the caller of an audit chose.

    Attributes:
        eval_data: inputs (N, …) and labels (N,), for logged models of runs that record no data of their own.
        layers: the modules of logged models taken as h_0 … h_L.
        trust_pickles: whether models are loaded whose loading runs their author's code.
        pictures: whether the reports have them.
        write: whether the store gets what is found.
    """

    data_dir: str | None
    thresholds: DiagnosticThresholds
    eval_data: "tuple[Tensor, Tensor] | None"
    layers: Sequence[str] | None
    trust_pickles: bool
    pictures: bool = True
    write: bool = True


@dataclass(frozen=True)
class Subject:
    """A network to measure, and what it is measured on.

    Attributes:
        name: of the network, for the message when it cannot be measured.
        sha256: of the file of its weights; None where there is none.
        headline_acc: the accuracy to be published, in [0, 1]; None: not known.
        layers: the modules taken as h_0 … h_L, where somebody named them.
        notes: what a reader of the report must know of it.
        credit, no_credit: the local credit of the rule that trained it, or why there is none.
    """

    name: str
    epoch: int
    sha256: str | None
    model: "nn.Module"
    batches: Batches
    headline_acc: float | None
    layers: Sequence[str] | None = None
    notes: tuple[str, ...] = ()
    credit: Credit | None = None
    no_credit: str = "the rule that trained the network is not known"


def measure(subject: Subject, **known: Any) -> tuple[DiagnosticReport, Knockout | str]:
    """The report with its functional measures, and the knock-out or why there is none.

    Args:
        known: what ``diagnose`` takes beside what the subject holds.

    Raises:
        FATrackError: the network cannot be measured.
    """
    if subject.layers:
        known["layers"] = list(subject.layers)
    known |= {"functional": True, "credit": subject.credit, "no_credit": subject.no_credit}
    removed = _removed(subject.model)
    beside = removed if isinstance(removed, Removed) else None
    try:
        report = diagnose(subject.model, subject.batches, headline_acc=subject.headline_acc, beside=beside, **known)
    except Exception as error:  # another's forward pass may raise anything
        raise FATrackError(f"{subject.name} cannot be measured: {_first_line(error)}") from error
    if isinstance(removed, str):
        return report, removed
    try:
        return report, removed.found()
    except Exception as error:  # likewise
        return report, _not_measured(error)


def _removed(model: "nn.Module") -> Removed | str:
    try:
        return Removed(model)
    except Exception as error:  # whatever another's ``blocks`` are
        return _not_measured(error)


def _not_measured(error: Exception) -> str:
    return f"not measured: {_first_line(error)}"


@torch.no_grad()
def accuracy(model: "nn.Module", batches: Batches) -> float:
    """The share of samples that a network gets right, in [0, 1]; NaN where its logits are not finite.

    Raises:
        FATrackError: the model does not take them.
    """
    try:
        return undisturbed(model, lambda call: share_right(call, batches))
    except Exception as error:
        raise FATrackError(f"the model does not take the evaluation data: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
