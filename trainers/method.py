"""What every learning rule has in common, and the pieces that local rules share."""

import hashlib
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fa_tracking.protocol.probe import Capture
from trainers.model import BlockModel


class LearningRule(nn.Module):
    """How one batch fills ``p.grad``. It never steps the optimizer and never logs.

    Auxiliary tensors (feedback matrices, bridge networks) are buffers and parameters of the rule, so its
    ``state_dict`` is what a checkpoint saves beside the model.
    """

    def backward(self, model: BlockModel, x: Tensor, y: Tensor, penalty: float = 0.0) -> tuple[Tensor, Tensor]:
        """Fill ``p.grad`` of every trainable parameter from one batch; return (mean loss, logits), detached.

        ``penalty`` is λ of the residual penalty λ·‖f_l(h_l)‖², summed over blocks and features, averaged over
        samples.
        """
        raise NotImplementedError

    has_credit: ClassVar[bool] = False
    """Whether the rule has a local credit, and with it a Γ."""

    def credit(self, model: BlockModel, capture: Capture) -> Sequence[Tensor | None]:
        """The local credit [a_0, …, a_L] that reaches h_0 … h_L, each (B, d), or None where none does."""
        raise NotImplementedError(f"{type(self).__name__} has no local credit")

    def fresh(self, model: BlockModel, seed: int) -> "LearningRule":
        """The same rule with newly drawn feedback: the null that stands beside every Γ."""
        raise NotImplementedError(f"{type(self).__name__} has no random feedback to draw anew")


class LocalForward:
    """One forward pass with the graph cut between blocks: ⟨f_l(h_l), a_l⟩ with h_l detached.

    ``outputs`` are [h_0, f_0(h_0), …, f_{L-1}(h_{L-1})], each with the graph of its own block alone;
    ``logits`` carry the graph of the read-out alone.
    """

    def __init__(self, model: BlockModel, x: Tensor) -> None:
        self.outputs = [model.embed(x)]
        self.hidden = [self.outputs[0].detach()]
        for block in model.blocks:
            branch = block(self.hidden[-1])
            self.outputs.append(branch)
            self.hidden.append(model.advance(self.hidden[-1], branch.detach()))
        self.logits = model.readout(self.hidden[-1])

    def backward(self, y: Tensor, credit: Sequence[Tensor], penalty: float) -> Tensor:
        """Send the true gradient to the read-out and ``credit[l]`` (per sample, (B, d)) to each output; mean loss."""
        batch = len(y)
        loss = F.cross_entropy(self.logits, y)
        grads = [a / batch for a in credit]
        if penalty:
            for i, branch in enumerate(self.outputs[1:], start=1):
                grads[i] = grads[i] + (2 * penalty / batch) * branch.detach()
        live = [(out, a) for out, a in zip(self.outputs, grads, strict=True) if out.requires_grad]
        torch.autograd.backward([loss, *(out for out, _ in live)], [None, *(a for _, a in live)])
        return loss.detach()


def residual_penalty(branches: Sequence[Tensor]) -> Tensor:
    """Σ_l ‖f_l(h_l)‖², averaged over samples."""
    return torch.stack([f.flatten(1).square().sum(1).mean() for f in branches]).sum()


def generator(seed: int, stream: str) -> torch.Generator:
    """A random stream of its own for each purpose, so that one more draw in one never shifts another."""
    digest = hashlib.sha256(f"{stream}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
