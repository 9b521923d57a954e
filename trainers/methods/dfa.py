"""Direct feedback alignment (Nøkland 2016, arXiv:1609.01596).

The output error e = softmax(logits) − onehot(y) goes straight to every hidden state through a fixed random matrix:

    a_l = e B_l,    B_l ∈ R^{classes × d},  entries N(0, 1/classes)

Block l learns from ⟨f_l(h_l), a_{l+1}⟩ with h_l detached, the embedding from ⟨h_0, a_0⟩; the terminal LayerNorm and
the head see the true gradient.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fa_tracking.protocol.probe import Capture, output_error
from trainers.method import LearningRule, LocalForward, generator
from trainers.model import BlockModel


class Method(LearningRule):
    """Feedback ``B`` (L + 1, classes, d): row l belongs to hidden state h_l."""

    has_credit = True

    B: Tensor

    def __init__(self, model: BlockModel, seed: int) -> None:
        super().__init__()
        classes, width = model.config["classes"], model.config["width"]
        shape = (len(model.blocks) + 1, int(classes), int(width))
        self.register_buffer("B", torch.randn(shape, generator=generator(seed, "dfa")) / shape[1] ** 0.5)

    def backward(self, model: BlockModel, x: Tensor, y: Tensor, penalty: float = 0.0) -> tuple[Tensor, Tensor]:
        local = LocalForward(model, x)
        logits = local.logits.detach()
        loss = local.backward(y, self._credit(output_error(logits, y)), penalty)
        return loss, logits

    def credit(self, model: BlockModel, capture: Capture) -> Sequence[Tensor]:
        return self._credit(capture.error)

    def fresh(self, model: BlockModel, seed: int) -> "Method":
        return Method(model, seed)

    def _credit(self, error: Tensor) -> Sequence[Tensor]:
        return [error @ feedback for feedback in self.B.to(error.dtype)]
