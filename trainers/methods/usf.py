"""Uniform sign-concordant feedback, uSF (Liao, Leibo & Poggio 2016, arXiv:1510.05067; Moskovitz et al. 2018,
arXiv:1812.06488).

δ_in = Bᵀ δ_out,    B = sign(W)/√(3 fan_in) at every step: W's signs, and the spread that torch draws W with
"""

import math

from torch import Tensor

from fa_tracking.trainers.feedback import LayerwiseRule, initial_bound, layer_weights
from fa_tracking.trainers.model import BlockModel


class Method(LayerwiseRule):
    """No tensors of its own: the feedback follows from the weights, so a fresh draw is the same, and Γ has no null."""

    stackable = True

    has_null = False

    def __init__(self, model: BlockModel, seed: int) -> None:
        super().__init__()

    def matrices(self, model: BlockModel) -> dict[str, Tensor]:
        weights = layer_weights(model)
        return {name: w.detach().sign() * (initial_bound(w) / math.sqrt(3)) for name, w in weights.items()}
