"""State Bridge (SB), by the published study (arXiv:2606.21126): credit from the output loss at a predicted state.

    ĥ_l = G([LN(h_l), t_l, e]) predicts LN(h_L),   trained on the squared error, averaged over features and samples
    a_l = ∂ℓ(readout(ĥ_l), y)/∂h_l,                through G and LN, with e held constant

LN is without gain and shift. The study leaves what is normalised, and by what, open; this reading and the others that
were tried stand in ``docs/explanation/methods.md``.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fa_tracking.protocol.capture import Capture
from fa_tracking.protocol.undisturbed import evaluation_mode
from fa_tracking.trainers.bridge import BridgeRule, Predictor
from fa_tracking.trainers.method import seeded, statistics_untouched
from fa_tracking.trainers.model import BlockModel


class Method(BridgeRule):
    """Feedback: the bridge network G, trained beside the model by the same optimizer."""

    def __init__(self, model: BlockModel, seed: int, **recipe: str) -> None:
        super().__init__(model, **recipe)
        with seeded(seed, "state bridge"):
            self.bridge = Predictor(self._sizes, int(model.config["classes"]), self._sizes[-1])

    def learn(
        self, model: BlockModel, states: Sequence[Tensor], error: Tensor, y: Tensor
    ) -> tuple[Sequence[Tensor], Tensor]:
        credit, predicted = self._credit(model, states[: self.credits(model)], error, y)
        target = F.layer_norm(states[-1], states[-1].shape[1:])
        return credit, torch.stack([F.mse_loss(p, target) for p in predicted]).mean()

    def credit(self, model: BlockModel, capture: Capture) -> Sequence[Tensor | None]:
        states = list(capture.hidden)[: self.credits(model)]
        with evaluation_mode(model):
            found = self._credit(model, states, capture.error, capture.labels)[0]
        return [*found, *[None] * (len(capture.hidden) - len(found))]

    def _credit(
        self, model: BlockModel, states: Sequence[Tensor], error: Tensor, y: Tensor
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """a_l of each sample's own loss, and ĥ_l with its graph."""
        with torch.enable_grad(), statistics_untouched(model):
            leaves = [h.detach().requires_grad_() for h in states]
            predicted = [self.bridge(h, layer, error) for layer, h in enumerate(leaves)]
            read = [model.readout(p.unflatten(1, self._shapes[-1])) for p in predicted]
            loss = torch.stack([F.cross_entropy(logits, y, reduction="sum") for logits in read]).sum()
            return torch.autograd.grad(loss, leaves, retain_graph=True), predicted
