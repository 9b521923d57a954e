"""The control without blocks: embedding, terminal LayerNorm and head alone, trained by BP.

What an architecture reaches with no depth at all. The blocks are taken out of the model, and its checkpoint says so.
"""

from torch import Tensor, nn

from fa_tracking.trainers.method import LearningRule, Penalty, Signals, end_to_end
from fa_tracking.trainers.model import BlockModel


class Method(LearningRule):
    """BP on what is left; only in a residual network without tokens does that reach the read-out."""

    stackable = True

    def __init__(self, model: BlockModel, seed: int) -> None:
        super().__init__()
        if not model.residual or model.tokens:
            raise ValueError("it needs a residual network without tokens")
        model.blocks = nn.ModuleList()
        model.config = {**model.config, "depth": 0}

    def signals(self, model: BlockModel, x: Tensor, y: Tensor, penalty: Penalty = 0.0) -> Signals:
        return end_to_end(model, x, y, penalty)
