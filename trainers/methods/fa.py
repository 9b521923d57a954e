"""Feedback alignment (Lillicrap et al. 2016, doi:10.1038/ncomms13276).

Backpropagation in which every layer's transposed weight is a fixed random matrix:

    δ_in = Bᵀ δ_out in the place of Wᵀ δ_out,    B of W's shape, entries uniform in ±1/√fan_in

That is how torch draws W; ResMLP's W_2 starts at a tenth of it, and its B does not.
"""

from torch import Tensor

from fa_tracking.trainers.feedback import LayerwiseRule, key, layer_weights, random_matrices
from fa_tracking.trainers.method import generator
from fa_tracking.trainers.model import BlockModel


class Method(LayerwiseRule):
    """Feedback: a buffer a layer, of its weight's shape."""

    stackable = True

    def __init__(self, model: BlockModel, seed: int) -> None:
        super().__init__()
        for name, matrix in random_matrices(model, generator(seed, "fa")).items():
            self.register_buffer(key(name), matrix)

    def matrices(self, model: BlockModel) -> dict[str, Tensor]:
        return {name: self.get_buffer(key(name)) for name in layer_weights(model)}
