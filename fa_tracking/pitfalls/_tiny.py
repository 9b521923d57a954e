"""The network behind some reproducers: four residual blocks of width 32, forty steps of DFA on a teacher's labels.

The seed is one of eleven in forty on which aggregations of Γ differ in sign; on all of them layer 0 has the highest Γ.
Plain gradient descent, since the first optimizer of a process costs torch some seconds of imports.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fa_tracking.protocol.alignment import Credit
from fa_tracking.protocol.capture import Capture
from fa_tracking.protocol.outputs import output_error
from fa_tracking.protocol.probe import capture

DEPTH, INPUTS, WIDTH, CLASSES = 4, 16, 32, 10
TRAINED_ON, EVALUATED_ON = 384, 128
STEPS, LR, SEED = 40, 0.15, 5
BRANCH_SCALE = 0.1


class Net(nn.Module):
    """h_{l+1} = h_l + W₂ relu(W₁ LN(h_l)), terminal LayerNorm, linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(INPUTS, WIDTH)
        self.blocks = nn.ModuleList(_block() for _ in range(DEPTH))
        self.out_ln = nn.LayerNorm(WIDTH)
        self.out_head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor, return_hidden: bool = False) -> Tensor | tuple[Tensor, list[Tensor]]:
        states = [self.embed(x)]
        for block in self.blocks:
            states.append(states[-1] + block(states[-1]))
        logits = self.out_head(self.out_ln(states[-1]))
        return (logits, states) if return_hidden else logits


def _block() -> nn.Sequential:
    block = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
    with torch.no_grad():
        for parameter in block[-1].parameters():
            parameter.mul_(BRANCH_SCALE)
    return block


class Trained(NamedTuple):
    """A network, the matrices that trained it, and an evaluation batch's capture."""

    net: Net
    feedback: list[Tensor]
    evaluation: Capture


def new_net(seed: int = SEED) -> Net:
    """A network as it is drawn; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net()


def feedback(seed: int) -> list[Tensor]:
    """B_0 … B_L, each (CLASSES, WIDTH), entries N(0, 1/CLASSES)."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(CLASSES, WIDTH, generator=generator) / CLASSES**0.5 for _ in range(DEPTH + 1)]


def credit(matrices: Sequence[Tensor]) -> Credit:
    """The local credit of DFA, a_l = e B_l (Nøkland 2016)."""
    return lambda _, seen: [seen.error @ matrix for matrix in matrices]


def data(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Standard normal inputs (samples, INPUTS) and the classes that a fixed random network gives them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, INPUTS, generator=generator)
    teacher = torch.Generator().manual_seed(0)
    hidden = torch.tanh(x @ torch.randn(INPUTS, WIDTH, generator=teacher))
    return x, (hidden @ torch.randn(WIDTH, CLASSES, generator=teacher)).argmax(dim=1)


@cache
def trained(steps: int = STEPS, seed: int = SEED) -> Trained:
    """The network after ``steps`` steps of DFA on the whole training set."""
    net, matrices = new_net(seed), feedback(seed + 1)
    x, y = data(TRAINED_ON, seed=1)
    for _ in range(steps):
        _step(net, matrices, x, y)
    return Trained(net, matrices, capture(net, *data(EVALUATED_ON, seed=2)))


def _step(net: Net, matrices: Sequence[Tensor], x: Tensor, y: Tensor) -> None:
    """Blocks learn from ⟨f_l(h_l), a_{l+1}⟩ with h_l detached, terminal LayerNorm and head by the true gradient."""
    outputs = [net.embed(x)]
    h = outputs[0].detach()
    for block in net.blocks:
        outputs.append(block(h))
        h = h + outputs[-1].detach()
    logits = net.out_head(net.out_ln(h))
    error = output_error(logits.detach(), y) / len(x)
    local = sum((f * (error @ matrix)).sum() for f, matrix in zip(outputs, matrices, strict=True))
    parameters = list(net.parameters())
    grads = torch.autograd.grad(F.cross_entropy(logits, y) + local, parameters)
    with torch.no_grad():
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.sub_(LR * grad)


def accuracy(seen: Capture) -> float:
    """The share of the batch that is classified as labelled."""
    return (seen.logits.argmax(dim=1) == seen.labels).double().mean().item()
