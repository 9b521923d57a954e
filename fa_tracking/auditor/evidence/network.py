"""A network and the batches that it is measured on, wherever both come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fa_tracking.errors import FATrackError, first_line
from fa_tracking.protocol.alignment import Credit
from fa_tracking.protocol.knockout import accuracy as share_right
from fa_tracking.protocol.undisturbed import undisturbed

if TYPE_CHECKING:
    from torch import Tensor, nn

Batches = Sequence[tuple["Tensor", "Tensor"]]


@dataclass(frozen=True)
class Network:
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


@torch.no_grad()
def accuracy(model: "nn.Module", batches: Batches) -> float:
    """The share of samples that a network gets right, in [0, 1]; NaN where its logits are not finite.

    Raises:
        FATrackError: the model does not take them.
    """
    try:
        return undisturbed(model, lambda call: share_right(call, batches))
    except Exception as error:
        raise FATrackError(f"the model does not take the evaluation data: {first_line(error)}") from error
