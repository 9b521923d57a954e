"""State Bridge, read the other way: the gradient at the predicted terminal state is the credit itself.

As ``state_bridge``, with

    a_l = ∂ℓ(readout(ĥ_l), y)/∂ĥ_l,    ĥ_l = bridge(LN(h_l), l)

which is what ĥ_l itself would have to learn, handed to h_l as though ∂h_L/∂h_l were the identity. The reference defines
neither reading; both are here so that a disagreement with its figures can be laid to the definition or not.
"""

from collections.abc import Sequence

from torch import Tensor

from trainers.methods import state_bridge
from trainers.model import BlockModel


class Method(state_bridge.Method):
    """Feedback: the bridge network. Every state must have the size of the deepest one."""

    def __init__(self, model: BlockModel, seed: int) -> None:
        super().__init__(model, seed)
        if len(set(self._shapes)) > 1:
            raise ValueError("its credit has the shape of the deepest state, and the states differ in shape")

    def _credit(self, model: BlockModel, states: list[Tensor], y: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        predicted = self._predict(states)
        return self._at_prediction(model, predicted, y), predicted
