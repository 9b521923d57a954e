"""State Bridge (SB): credit from the output loss at a predicted terminal state.

The reference names SB and says that it has a bridge predictor; it does not define it. Ours, the natural reading:

    ĥ_l = bridge(LN(h_l), l) predicts h_L,    trained on ‖ĥ_l − h_L‖², averaged over features, samples and layers
    a_l = ∂ℓ(readout(ĥ_l), y)/∂h_l,           the gradient taken through the bridge, never through a block

Block l learns from ⟨f_l(h_l), a_{l+1}⟩ with h_l detached, the embedding from ⟨h_0, a_0⟩.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fa_tracking.protocol.probe import Capture
from trainers.bridge import Bridge, BridgeRule, flat
from trainers.method import LocalForward, Penalty, Signals, seeded, statistics_untouched
from trainers.model import BlockModel


class Method(BridgeRule):
    """Feedback: the bridge network, trained beside the model by the same optimizer."""

    def __init__(self, model: BlockModel, seed: int) -> None:
        super().__init__(model)
        with seeded(seed, "state bridge"):
            self.bridge = Bridge(self._sizes, 0, [self._sizes[-1]] * len(self._sizes))

    def signals(self, model: BlockModel, x: Tensor, y: Tensor, penalty: Penalty = 0.0) -> Signals:
        local = LocalForward(model, x, y)
        states = [flat(h) for h in local.hidden]
        credit, predicted = self._credit(model, states, y)
        fit = torch.stack([F.mse_loss(p, states[-1]) for p in predicted]).mean()
        shaped = [a.unflatten(1, s) for a, s in zip(credit, self._shapes, strict=True)]
        loss, logits, sent = local.signals(shaped, penalty)
        return Signals(loss, logits, [*sent, (fit, torch.ones_like(fit))])

    def credit(self, model: BlockModel, capture: Capture) -> Sequence[Tensor]:
        return self._credit(model, list(capture.hidden), capture.labels)[0]

    def _credit(self, model: BlockModel, states: list[Tensor], y: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """a_l, of the mean loss, and ĥ_l with its graph."""
        predicted, pull_back = torch.func.vjp(self._predict, states)[:2]
        with torch.no_grad():
            (credit,) = pull_back(self._at_prediction(model, predicted, y))
        return credit, predicted

    def _predict(self, states: list[Tensor]) -> list[Tensor]:
        return [self.bridge(h, layer) for layer, h in enumerate(states)]

    def _at_prediction(self, model: BlockModel, predicted: Sequence[Tensor], y: Tensor) -> list[Tensor]:
        """∂ℓ(readout(ĥ_l), y)/∂ĥ_l, of the mean loss."""

        def loss(states: list[Tensor]) -> Tensor:
            logits = [model.readout(h.unflatten(1, self._shapes[-1])) for h in states]
            return torch.stack([F.cross_entropy(each, y) for each in logits]).sum()

        with torch.no_grad(), statistics_untouched(model):
            found: list[Tensor] = torch.func.grad(loss)([p.detach() for p in predicted])
        return found
