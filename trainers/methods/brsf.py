"""Batchwise random-magnitude sign-concordant feedback, brSF (Liao, Leibo & Poggio 2016, arXiv:1510.05067).

δ_in = Bᵀ δ_out,    B = |M| ∘ sign(W), M drawn anew for every batch as torch draws W (ResMLP starts W_2
at a tenth of it)
"""

import torch
from torch import Tensor

from fa_tracking.trainers.feedback import LayerwiseRule, layer_weights, random_matrices
from fa_tracking.trainers.method import generator
from fa_tracking.trainers.model import BlockModel


class Method(LayerwiseRule):
    """Feedback: ``draws`` counts the batches; with the seed it gives the magnitudes of the next one."""

    draws: Tensor

    def __init__(self, model: BlockModel, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def matrices(self, model: BlockModel) -> dict[str, Tensor]:
        magnitudes = random_matrices(model, generator(self._seed, f"brsf {int(self.draws)}"))
        if model.training:
            self.draws += 1
        return {name: magnitudes[name].abs() * w.detach().sign() for name, w in layer_weights(model).items()}
