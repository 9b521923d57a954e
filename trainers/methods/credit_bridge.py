"""Credit Bridge (CB): a learned bridge predicts the terminal credit (after synthetic gradients, Jaderberg et al. 2017).

The reference names CB and says that it has a bridge predictor; it does not define it. Ours:

    a_l = bridge(LN(h_l), e, l) predicts g_L = ∂ℓ/∂h_L,    trained on ‖a_l − g_L‖², averaged over features and samples

g_L is the true gradient at h_L, but of the read-out alone: no gradient has passed through a block. Where h_l has
another size than h_L, the bridge predicts g_L R_l with a fixed random R_l, entries N(0, 1/d_L). Block l learns from
⟨f_l(h_l), a_{l+1}⟩ with h_l detached, the embedding from ⟨h_0, a_0⟩.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fa_tracking.protocol.probe import Capture
from trainers.bridge import Bridge, BridgeRule, flat
from trainers.method import LocalForward, Penalty, Signals, generator, seeded, statistics_untouched
from trainers.model import BlockModel


class Method(BridgeRule):
    """Feedback: the bridge network, trained beside the model by the same optimizer, and R_l where sizes differ."""

    def __init__(self, model: BlockModel, seed: int) -> None:
        super().__init__(model)
        sizes = self._sizes
        with seeded(seed, "credit bridge"):
            self.bridge = Bridge(sizes, int(model.config["classes"]), sizes)
        draw = generator(seed, "credit bridge projection")
        for layer, size in enumerate(sizes):
            if size != sizes[-1]:
                self.register_buffer(f"R{layer}", torch.randn(sizes[-1], size, generator=draw) / sizes[-1] ** 0.5)

    def signals(self, model: BlockModel, x: Tensor, y: Tensor, penalty: Penalty = 0.0) -> Signals:
        local = LocalForward(model, x, y)
        predicted = self._predict([flat(h) for h in local.hidden], local.error * len(y))
        credit = [(a.detach() / len(y)).unflatten(1, shape) for a, shape in zip(predicted, self._shapes, strict=True)]
        target = _terminal_credit(model, local.hidden[-1], y)
        projections = dict(self.named_buffers())
        targets = [
            target @ projections[f"R{layer}"] if f"R{layer}" in projections else target
            for layer in range(len(predicted))
        ]
        fit = torch.stack([F.mse_loss(a, t) for a, t in zip(predicted, targets, strict=True)]).mean()
        loss, logits, sent = local.signals(credit, penalty)
        return Signals(loss, logits, [*sent, (fit, torch.ones_like(fit))])

    def credit(self, model: BlockModel, capture: Capture) -> Sequence[Tensor]:
        with torch.no_grad():
            return self._predict(capture.hidden, capture.error)

    def _predict(self, states: Sequence[Tensor], error: Tensor) -> list[Tensor]:
        return [self.bridge(h, layer, error) for layer, h in enumerate(states)]


def _terminal_credit(model: BlockModel, h: Tensor, y: Tensor) -> Tensor:
    """g_L of each sample, (B, d): the gradient of the read-out alone."""

    def loss(state: Tensor) -> Tensor:
        return F.cross_entropy(model.readout(state), y, reduction="sum")

    with torch.no_grad(), statistics_untouched(model):
        return flat(torch.func.grad(loss)(h))
