"""Direct random target projection (Frenkel, Lefebvre & Bol 2021, doi:10.3389/fnins.2021.629892).

DFA without the output: the target alone goes to every hidden state, since the sign of its class's error is known.

    a_l = −onehot(y) B_l,    B_l ∈ R^{classes × d_l},  entries N(0, 1/classes)
"""

from collections.abc import Sequence

from torch import Tensor

from fa_tracking.protocol.probe import Capture
from trainers.method import LearningRule, LocalForward, Penalty, Signals, projections
from trainers.model import BlockModel


class Method(LearningRule):
    """Feedback: buffer ``B0`` … ``BL``, each (classes, …)."""

    has_credit = True

    def __init__(self, model: BlockModel, seed: int) -> None:
        super().__init__()
        for layer, matrix in enumerate(projections(model, seed, "drtp")):
            self.register_buffer(f"B{layer}", matrix)

    def signals(self, model: BlockModel, x: Tensor, y: Tensor, penalty: Penalty = 0.0) -> Signals:
        local = LocalForward(model, x, y)
        return local.signals([-B[y] / len(y) for B in self.buffers()], penalty)

    def credit(self, model: BlockModel, capture: Capture) -> Sequence[Tensor]:
        return [-B[capture.labels].flatten(1) for B in self.buffers()]
