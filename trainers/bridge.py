"""What State Bridge and Credit Bridge share: a small network that reads a state, its depth and the output error.

By the published study (arXiv:2606.21126): three layers of 256 units with GELU on [state, t_l, e], t_l = l/L and
e = softmax − onehot, trained beside the model by the same optimizer and schedule.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fa_tracking.trainers.method import LocalForward, LocalRule, Penalty, Signals
from fa_tracking.trainers.model import BlockModel

HIDDEN = 256


class Predictor(nn.Module):
    """(B, outputs) from a flat state (B, d_l), its depth and the error (B, classes).

    States of one size share their first layer; all share the rest.
    """

    def __init__(self, sizes: Sequence[int], classes: int, outputs: int) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.into = nn.ModuleDict({str(d): nn.Linear(d + 1 + classes, HIDDEN) for d in sorted(set(sizes))})
        self.hidden = nn.Linear(HIDDEN, HIDDEN)
        self.out = nn.Linear(HIDDEN, outputs)

    def read(self, h: Tensor) -> Tensor:
        """What of a state goes in: its LayerNorm, without gain and shift."""
        return F.layer_norm(h, h.shape[1:])

    def forward(self, h: Tensor, layer: int, error: Tensor) -> Tensor:
        """What it says of the state ``layer`` of h_0 … h_L."""
        depth = h.new_full((len(h), 1), layer / max(1, len(self.sizes) - 1))
        fed = torch.cat([self.read(h), depth, error.to(h.dtype)], dim=1)
        into = self.into[str(h.shape[1])]
        found: Tensor = self.out(F.gelu(self.hidden(F.gelu(into(fed)))))
        return found


class BridgeRule(LocalRule):
    """A local rule whose credit comes from a network that it trains on the way."""

    def __init__(self, model: BlockModel, **recipe: str) -> None:
        super().__init__(model, **recipe)  # type: ignore[arg-type]
        self._shapes = model.credit_shapes()
        self._sizes = [math.prod(shape) for shape in self._shapes]

    def signals(self, model: BlockModel, x: Tensor, y: Tensor, penalty: Penalty = 0.0) -> Signals:
        local = LocalForward(model, x, y)
        states, error = [flat(h) for h in local.hidden], local.error * len(y)
        credit, fit = self.learn(model, states, error, y)
        shaped = [(a / len(y)).unflatten(1, shape) for a, shape in zip(credit, self._shapes, strict=False)]
        found = local.signals(self.sent(shaped), penalty)
        return found._replace(sent=[*found.sent, (fit, torch.ones_like(fit))])

    def learn(
        self, model: BlockModel, states: Sequence[Tensor], error: Tensor, y: Tensor
    ) -> tuple[Sequence[Tensor], Tensor]:
        """[a_0, …] (B, d_l), of each sample's own loss, and the bridge's own loss with its graph."""
        raise NotImplementedError


def flat(state: Tensor) -> Tensor:
    """(B, d) of a state: the class token of (B, T, d), the whole of (B, C, H, W)."""
    return state[:, 0, :] if state.ndim == 3 else state.flatten(1)
