"""Credit Bridge (CB), by the published study (arXiv:2606.21126): credit from the slope of a learned value.

V([LN(h_l), t_l, e]) is a scalar, V̄ its moving average (0.995), ℓ a sample's output loss. V is trained on the sum of

    (V(h_L) − ℓ)²,    ‖∂V(h_L)/∂h_L − ∂ℓ/∂h_L‖²,
    (V(h_l) + τ log mean_k exp(−V̄(h_{l+1} + σ ε_k)/τ))²,  l < L,    K = 8 draws ε_k ~ N(0, 1), σ = τ = 0.1

averaged over samples, the last over l too, and a_l = ∂V(h_l)/∂h_l with e held constant. For the first fifth of the
epochs DFA's credit drives the blocks. The study leaves the weights of the three open.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fa_tracking.protocol.capture import Capture
from fa_tracking.trainers.bridge import BridgeRule, Predictor
from fa_tracking.trainers.method import LearningRule, generator, projections, seeded, statistics_untouched
from fa_tracking.trainers.methods.dfa import project
from fa_tracking.trainers.model import BlockModel

AVERAGING = 0.995
DRAWS = 8
NOISE = 0.1
TEMPERATURE = 0.1
DFA_SHARE = 0.2


class Method(BridgeRule):
    """Feedback: V (``bridge``), V̄ (``average``), DFA's matrices ``B0`` …, and ``is_dfa``, whether these drive.

    ``draws`` counts the batches; with the seed it gives the noise of the next one.
    """

    is_dfa: Tensor
    draws: Tensor

    def __init__(self, model: BlockModel, seed: int, **recipe: str) -> None:
        super().__init__(model, **recipe)
        self._seed = seed
        with seeded(seed, "credit bridge"):
            self.bridge = Predictor(self._sizes, int(model.config["classes"]), 1)
        self.average = Predictor(self._sizes, int(model.config["classes"]), 1).requires_grad_(False)
        self.average.load_state_dict(self.bridge.state_dict())
        for layer, matrix in enumerate(projections(model, seed, "dfa")[: self.credits(model)]):
            self.register_buffer(f"B{layer}", matrix)
        self.register_buffer("is_dfa", torch.tensor(True))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        self.is_dfa.fill_(epoch <= DFA_SHARE * epochs)

    def fresh(self, model: BlockModel, seed: int) -> LearningRule:
        """Drawn anew, and in the phase that this rule is in, now and later."""
        drawn = super().fresh(model, seed)
        drawn.is_dfa = self.is_dfa
        return drawn

    def learn(
        self, model: BlockModel, states: Sequence[Tensor], error: Tensor, y: Tensor
    ) -> tuple[Sequence[Tensor], Tensor]:
        return self._credit(model, states, error), self._fit(model, states, error, y)

    def credit(self, model: BlockModel, capture: Capture) -> Sequence[Tensor | None]:
        found = self._credit(model, list(capture.hidden), capture.error)
        beyond = found[-1] if bool(self.is_dfa) else None  # as DFA's own Γ at h_L is read
        return [*found, *[beyond] * (len(capture.hidden) - len(found))]

    def _credit(self, model: BlockModel, states: Sequence[Tensor], error: Tensor) -> list[Tensor]:
        states = states[: self.credits(model)]
        if self.is_dfa:
            return [project(error, self.get_buffer(f"B{layer}")).flatten(1) for layer in range(len(states))]
        return [self._slope(h, layer, error)[1].detach() for layer, h in enumerate(states)]

    def _slope(self, h: Tensor, layer: int, error: Tensor) -> tuple[Tensor, Tensor]:
        """V(h_l) (B,) and ∂V/∂h_l (B, d), both with their graph."""
        with torch.enable_grad():
            leaf = h.detach().requires_grad_()
            value = self.bridge(leaf, layer, error).squeeze(1)
            (slope,) = torch.autograd.grad(value.sum(), leaf, create_graph=True)
        return value, slope

    def _fit(self, model: BlockModel, states: Sequence[Tensor], error: Tensor, y: Tensor) -> Tensor:
        deepest = len(states) - 1
        loss, slope = _output_loss(model, states[-1], self._shapes[-1], y)
        value, own_slope = self._slope(states[-1], deepest, error)
        fit = F.mse_loss(value, loss) + (own_slope - slope).square().sum(1).mean()
        with torch.no_grad():
            softest = [self._soft_minimum(states[layer + 1], layer + 1, error) for layer in range(deepest)]
        values = [self.bridge(h, layer, error).squeeze(1) for layer, h in enumerate(states[:-1])]
        consistency = [F.mse_loss(v, s) for v, s in zip(values, softest, strict=True)]
        self._advance()
        return fit + torch.stack(consistency).mean() if consistency else fit

    def _soft_minimum(self, h: Tensor, layer: int, error: Tensor) -> Tensor:
        """−τ log mean_k exp(−V̄(h + σ ε_k)/τ), (B,)."""
        draw = generator(self._seed, f"credit bridge {int(self.draws)} {layer}")
        noise = torch.randn(DRAWS, *h.shape, generator=draw).to(h)
        noisy = (h + NOISE * noise).flatten(0, 1)
        value = self.average(noisy, layer, error.repeat(DRAWS, 1)).view(DRAWS, len(h))
        found: Tensor = -TEMPERATURE * (torch.logsumexp(-value / TEMPERATURE, dim=0) - torch.tensor(DRAWS).log())
        return found

    @torch.no_grad()
    def _advance(self) -> None:
        """V̄ follows V, once a batch."""
        self.draws += 1
        for mean, now in zip(self.average.parameters(), self.bridge.parameters(), strict=True):
            mean.lerp_(now, 1 - AVERAGING)


def _output_loss(model: BlockModel, h: Tensor, shape: tuple[int, ...], y: Tensor) -> tuple[Tensor, Tensor]:
    """ℓ (B,) and ∂ℓ/∂h_L (B, d) of each sample: of the read-out alone, no gradient has passed through a block."""
    with torch.enable_grad(), statistics_untouched(model):
        leaf = h.detach().requires_grad_()
        loss = F.cross_entropy(model.readout(leaf.unflatten(1, shape)), y, reduction="none")
        (slope,) = torch.autograd.grad(loss.sum(), leaf)
    return loss.detach(), slope
