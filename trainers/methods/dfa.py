"""Direct feedback alignment (Nøkland 2016, arXiv:1609.01596).

The output error e = softmax(logits) − onehot(y) goes straight to every hidden state through a fixed random matrix:

    a_l = e B_l,    B_l ∈ R^{classes × d_l},  entries N(0, 1/classes)

Block l learns from ⟨f_l(h_l), a_{l+1}⟩ with h_l detached, the embedding from ⟨h_0, a_0⟩; the terminal LayerNorm and
the head see the true gradient.
"""

from collections.abc import Sequence

from torch import Tensor

from fa_tracking.protocol.probe import Capture
from trainers.method import LearningRule, LocalForward, Penalty, Signals, projections
from trainers.model import BlockModel


class Method(LearningRule):
    """Feedback: buffer ``B0`` … ``BL``, each (classes, …): row k is what the error of class k brings to h_l."""

    has_credit = True

    def __init__(self, model: BlockModel, seed: int) -> None:
        super().__init__()
        for layer, matrix in enumerate(projections(model, seed, "dfa")):
            self.register_buffer(f"B{layer}", matrix)

    def signals(self, model: BlockModel, x: Tensor, y: Tensor, penalty: Penalty = 0.0) -> Signals:
        local = LocalForward(model, x, y)
        return local.signals(self._credit(local.error), penalty)

    def credit(self, model: BlockModel, capture: Capture) -> Sequence[Tensor]:
        return [a.flatten(1) for a in self._credit(capture.error)]

    def _credit(self, error: Tensor) -> list[Tensor]:
        return [_project(error, B) for B in self.buffers()]


def _project(error: Tensor, matrix: Tensor) -> Tensor:
    matrix = matrix if matrix.dtype == error.dtype else matrix.to(error.dtype)
    return error @ matrix if matrix.ndim == 2 else (error @ matrix.flatten(1)).unflatten(1, matrix.shape[1:])
