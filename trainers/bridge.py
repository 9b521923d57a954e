"""The bridge network that State Bridge and Credit Bridge share: a small predictor for each hidden state."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.method import LearningRule
from trainers.model import BlockModel

HIDDEN = 256


class Bridge(nn.Module):
    """One hidden layer of 256 ReLU units fed LN(h_l), and what else is given, for each of h_0 … h_L.

    The hidden layer's weights are shared by states of the same size, with a bias of its own for each state.
    """

    def __init__(self, sizes: Sequence[int], also: int, outputs: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        shapes = sorted({(size + also, out) for size, out in zip(sizes, outputs, strict=True)})
        self.into = nn.ModuleDict({f"{i}_{o}": nn.Linear(i, HIDDEN) for i, o in shapes})
        self.out = nn.ModuleDict({f"{i}_{o}": nn.Linear(HIDDEN, o) for i, o in shapes})
        self.layer = nn.Embedding(len(sizes), HIDDEN)
        self._keys = [f"{size + also}_{out}" for size, out in zip(sizes, outputs, strict=True)]

    def forward(self, h: Tensor, layer: int, *also: Tensor) -> Tensor:
        """(B, outputs[layer]) from the flat state h_layer (B, sizes[layer])."""
        fed = torch.cat([F.layer_norm(h, h.shape[1:]), *also], dim=1)
        key = self._keys[layer]
        return self.out[key](torch.relu(self.into[key](fed) + self.layer.weight[layer]))


class BridgeRule(LearningRule):
    """What the rules with a bridge share: the shapes and sizes of the states that it stands beside."""

    has_credit = True

    def __init__(self, model: BlockModel) -> None:
        super().__init__()
        self._shapes = model.credit_shapes()
        self._sizes = [math.prod(shape) for shape in self._shapes]


def flat(state: Tensor) -> Tensor:
    """(B, d) of a state: the class token of (B, T, d), the whole of (B, C, H, W)."""
    return state[:, 0, :] if state.ndim == 3 else state.flatten(1)
