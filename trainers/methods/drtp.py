"""Direct random target projection (Frenkel, Lefebvre & Bol 2021, doi:10.3389/fnins.2021.629892).

DFA without the output: the target alone goes to every hidden state, since the sign of its class's error is known.

    a_l = −onehot(y) B_l,    B_l ∈ R^{classes × d_l},  entries N(0, 1/classes)
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from fa_tracking.protocol.capture import Capture
from fa_tracking.trainers.method import LocalForward, LocalRule, projections
from fa_tracking.trainers.model import BlockModel


class Method(LocalRule):
    """Feedback: buffer ``B0``, ``B1``, …, each (classes, …)."""

    stackable = True

    def __init__(self, model: BlockModel, seed: int, **recipe: Any) -> None:
        super().__init__(model, **recipe)
        for layer, matrix in enumerate(projections(model, seed, "drtp")[: self.credits(model)]):
            self.register_buffer(f"B{layer}", matrix)

    def local_credit(self, model: BlockModel, local: LocalForward) -> Sequence[Tensor]:
        return [-B[local.labels] / len(local.labels) for B in self.buffers()]

    def credit(self, model: BlockModel, capture: Capture) -> Sequence[Tensor]:
        found = [-B[capture.labels].flatten(1) for B in self.buffers()]
        return found + found[-1:] * (len(capture.hidden) - len(found))
