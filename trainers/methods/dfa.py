"""Direct feedback alignment (Nøkland 2016, arXiv:1609.01596).

The output error e = softmax(logits) − onehot(y) goes straight to every hidden state through a fixed random matrix:

    a_l = e B_l,    B_l ∈ R^{classes × d_l},  entries N(0, 1/classes)

With ``credit_index`` "input" there is one matrix per block, and Γ at h_L is read with B_{L−1}, as in the published
study (arXiv:2606.21126); with "output" there is one more, for the embedding. The terminal LayerNorm and the head see
the true gradient.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from fa_tracking.protocol.capture import Capture
from fa_tracking.trainers.method import LocalForward, LocalRule, projections
from fa_tracking.trainers.model import BlockModel


class Method(LocalRule):
    """Feedback: buffer ``B0``, ``B1``, …, each (classes, …): row k is what the error of class k brings to h_l."""

    stackable = True

    def __init__(self, model: BlockModel, seed: int, **recipe: Any) -> None:
        super().__init__(model, **recipe)
        for layer, matrix in enumerate(projections(model, seed, "dfa")[: self.credits(model)]):
            self.register_buffer(f"B{layer}", matrix)

    def local_credit(self, model: BlockModel, local: LocalForward) -> Sequence[Tensor]:
        return self._credit(local.error)

    def credit(self, model: BlockModel, capture: Capture) -> Sequence[Tensor]:
        found = [a.flatten(1) for a in self._credit(capture.error)]
        return found + found[-1:] * (len(capture.hidden) - len(found))

    def _credit(self, error: Tensor) -> list[Tensor]:
        return [project(error, B) for B in self.buffers()]


def project(error: Tensor, matrix: Tensor) -> Tensor:
    """e B of errors (B, classes), in the shape of the state that B's rows have."""
    matrix = matrix if matrix.dtype == error.dtype else matrix.to(error.dtype)
    return error @ matrix if matrix.ndim == 2 else (error @ matrix.flatten(1)).unflatten(1, matrix.shape[1:])
