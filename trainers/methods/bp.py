"""Backpropagation (Rumelhart, Hinton & Williams 1986): Δθ ∝ −∂ℓ/∂θ. The reference that Γ compares with."""

from torch import Tensor

from fa_tracking.trainers.method import LearningRule, Penalty, Signals, end_to_end
from fa_tracking.trainers.model import BlockModel


class Method(LearningRule):
    """BP has no local credit: its Γ would be cos(g, g) = 1 by construction, so it has none."""

    stackable = True

    def __init__(self, model: BlockModel, seed: int) -> None:
        super().__init__()

    def signals(self, model: BlockModel, x: Tensor, y: Tensor, penalty: Penalty = 0.0) -> Signals:
        return end_to_end(model, x, y, penalty)
