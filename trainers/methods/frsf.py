"""Fixed random-magnitude sign-concordant feedback, frSF (Liao, Leibo & Poggio 2016, arXiv:1510.05067).

δ_in = Bᵀ δ_out,    B = |M| ∘ sign(W) at every step, M drawn once as torch draws W (ResMLP starts W_2 at a tenth of it)
"""

from torch import Tensor

from fa_tracking.trainers.feedback import LayerwiseRule, key, layer_weights, random_matrices
from fa_tracking.trainers.method import generator
from fa_tracking.trainers.model import BlockModel


class Method(LayerwiseRule):
    """Feedback: the magnitudes |M|, a buffer a layer; the signs are the weights' own."""

    stackable = True

    def __init__(self, model: BlockModel, seed: int) -> None:
        super().__init__()
        for name, matrix in random_matrices(model, generator(seed, "frsf")).items():
            self.register_buffer(key(name), matrix.abs())

    def matrices(self, model: BlockModel) -> dict[str, Tensor]:
        return {name: self.get_buffer(key(name)) * w.detach().sign() for name, w in layer_weights(model).items()}
