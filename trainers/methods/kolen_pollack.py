"""Kolen–Pollack feedback (Kolen & Pollack 1994, "Back-propagation without weight transport";
Akrout et al. 2019, arXiv:1904.05391).

Feedback that starts random and takes the very update of the weight it stands for, weight decay included:

    δ_in = Bᵀ δ_out,    ΔW = −η(∇ + λW),  ΔB = −η(∇ + λB)  ⇒  W − B shrinks by (1 − ηλ) a step
"""

from torch import Tensor, nn

from fa_tracking.trainers.feedback import LayerwiseRule, key, layer_weights, random_matrices
from fa_tracking.trainers.method import generator
from fa_tracking.trainers.model import BlockModel


class Method(LayerwiseRule):
    """Feedback: a parameter a trainable layer (the optimizer steps it), a buffer a frozen one."""

    stackable = True

    def __init__(self, model: BlockModel, seed: int) -> None:
        super().__init__()
        weights = layer_weights(model)
        for name, matrix in random_matrices(model, generator(seed, "kolen-pollack")).items():
            if weights[name].requires_grad:
                self.register_parameter(key(name), nn.Parameter(matrix))
            else:
                self.register_buffer(key(name), matrix)

    def matrices(self, model: BlockModel) -> dict[str, Tensor]:
        own = dict(self.named_parameters()) | dict(self.named_buffers())
        return {name: own[key(name)].detach() for name in layer_weights(model)}

    def followers(self, model: BlockModel) -> list[tuple[nn.Parameter, nn.Parameter]]:
        own = dict(self.named_parameters())
        return [(own[key(name)], weight) for name, weight in layer_weights(model).items() if weight.requires_grad]
