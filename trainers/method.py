"""What every learning rule has in common, and the pieces that local rules share."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fa_tracking.protocol.capture import Capture
from fa_tracking.protocol.outputs import output_error
from fa_tracking.trainers.definitions import definition_of
from fa_tracking.trainers.model import BlockModel

Penalty = float | Tensor
"""λ of the residual penalty λ·‖f_l(h_l)‖², summed over blocks and features, averaged over samples. A tensor () where
the rule runs for several learners at once, each with its own."""


class Signals(NamedTuple):
    """What one batch sends back.

    Attributes:
        loss: the mean cross-entropy, detached.
        logits: (B, classes), detached.
        sent: pairs (output, error): what goes into the backward pass at an output of the network or of the rule, in the
            place of ∂loss/∂output. Each output has the graph of what is to learn from it, and no more.
    """

    loss: Tensor
    logits: Tensor
    sent: list[tuple[Tensor, Tensor]]


class LearningRule(nn.Module):
    """How one batch fills ``p.grad``. It never steps the optimizer and never logs.

    Auxiliary tensors (feedback matrices, bridge networks) are buffers and parameters of the rule, so its
    ``state_dict`` is what a checkpoint saves beside the model.
    """

    stackable: ClassVar[bool] = False
    """Whether ``signals`` can run for many learners at once, recorded once: it neither draws random numbers nor looks
    into a tensor, what differs between learners are parameters and buffers, and nothing else changes from step to step.
    Each rule says so for itself, and is then held to it by the tests; one that says nothing is trained alone."""

    definition: ClassVar[int]
    """Which definition of its name it is (``trainers/definitions.py``); a checkpoint says which one it was."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.definition = definition_of(cls.__module__.rpartition(".")[2])

    @classmethod
    def can_stack(cls) -> bool:
        """Whether many learners can be one program: this very class says so, not one that it changes."""
        return bool(vars(cls).get("stackable", False)) and cls.backward is LearningRule.backward

    def signals(self, model: BlockModel, x: Tensor, y: Tensor, penalty: Penalty = 0.0) -> Signals:
        """One forward pass, and what is sent back.

        For a stack of learners it is run inside ``torch.func.vmap``, where neither ``torch.autograd`` nor a tensor's
        value can be asked for anything: a gradient that the rule itself needs comes from ``torch.func``.
        """
        raise NotImplementedError

    def followers(self, model: BlockModel) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Pairs (parameter of the rule, parameter of the model): the first takes the gradient of the second."""
        return []

    def backward(self, model: BlockModel, x: Tensor, y: Tensor, penalty: float = 0.0) -> tuple[Tensor, Tensor]:
        """Fill ``p.grad`` of every trainable parameter from one batch; return (mean loss, logits), detached."""
        found = self.signals(model, x, y, penalty)
        send(found.sent)
        self.follow(model)
        return found.loss, found.logits

    def follow(self, model: BlockModel) -> None:
        """Give each follower the gradient that its leader has now; again where that was clipped."""
        for follower, leader in self.followers(model):
            follower.grad = None if leader.grad is None else leader.grad.clone()

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Called before the first batch of an epoch, counted from 1, of ``epochs``; also where a run goes on."""

    factory: str | None = None
    config: dict[str, Any] | None = None
    """What builds the rule again beside its model, as an audit does: a checkpoint names it."""

    has_credit: ClassVar[bool] = False
    """Whether the rule has a local credit, and with it a Γ."""

    has_null: ClassVar[bool] = True
    """Whether its feedback can be drawn anew, for the null beside Γ."""

    null_batches: ClassVar[int | None] = None
    """On how many of the evaluation batches the null is measured; None: on all."""

    def credit(self, model: BlockModel, capture: Capture) -> Sequence[Tensor | None]:
        """The local credit [a_0, …, a_L] that reaches h_0 … h_L, each (B, d), or None where none does."""
        raise NotImplementedError(f"{type(self).__name__} has no local credit")

    def fresh(self, model: BlockModel, seed: int) -> "LearningRule":
        """The same rule with newly drawn feedback: the null that stands beside every Γ."""
        if not self.has_null:
            raise NotImplementedError(f"{type(self).__name__} has no random feedback to draw anew")
        return type(self)(model, seed, **self.recipe)

    @property
    def recipe(self) -> dict[str, str]:
        """What the rule was made with beside the network and the seed."""
        return {}


class LocalRule(LearningRule):
    """A rule whose blocks learn from a local credit each: block l from ⟨f_l(h_l), a⟩ with h_l detached.

    Attributes:
        credit_index: which credit block l learns from: that of the state it reads, a_l ("input"), or of the state it
            yields, a_{l+1} ("output"). The embedding learns from ⟨h_0, a_0⟩ either way.
        credit_normalisation: "rms": each sample's credit is divided by its root mean square over features; "rms_eps":
            by that plus 1e-6.
    """

    has_credit = True

    def __init__(
        self,
        model: BlockModel,
        credit_index: Literal["input", "output"] = "output",
        credit_normalisation: Literal["none", "rms", "rms_eps"] = "none",
    ) -> None:
        """
        Raises:
            ValueError: the network has no stream, so a block's input credit has no place at its output.
        """
        super().__init__()
        if credit_index == "input" and not model.residual:
            raise ValueError(
                "credit_index=input needs a residual network: there a block's input and output share a space"
            )
        self.credit_index, self.credit_normalisation = credit_index, credit_normalisation

    def credits(self, model: BlockModel) -> int:
        """How many credits a batch has: one for each state that a block reads, or for every state."""
        return len(model.blocks) + (self.credit_index == "output")

    def signals(self, model: BlockModel, x: Tensor, y: Tensor, penalty: Penalty = 0.0) -> Signals:
        local = LocalForward(model, x, y)
        return local.signals(self.sent(self.local_credit(model, local)), penalty)

    def local_credit(self, model: BlockModel, local: "LocalForward") -> Sequence[Tensor]:
        """[a_0, …] of a training batch, each in the place of ∂loss/∂h_l of the mean loss: as many as are sent."""
        raise NotImplementedError

    def sent(self, credit: Sequence[Tensor]) -> list[Tensor]:
        """What reaches the embedding and each block, of the credits [a_0, …]: normalised, and placed by their index."""
        credit = self.normalised(credit)
        return [credit[0], *credit] if self.credit_index == "input" else credit

    def normalised(self, credit: Sequence[Tensor]) -> list[Tensor]:
        """Credits in the place of ∂loss/∂h_l of the mean loss, normalised as those of each sample's own loss are."""
        if self.credit_normalisation == "none":
            return list(credit)
        eps = EPS if self.credit_normalisation == "rms_eps" else 0.0
        return [unit_rms(a * len(a), eps) / len(a) for a in credit]

    @property
    def recipe(self) -> dict[str, str]:
        return {"credit_index": self.credit_index, "credit_normalisation": self.credit_normalisation}


EPS = 1e-6
"""Of the published study's normalisation, a/(RMS(a) + 1e-6)."""


def unit_rms(credit: Tensor, eps: float = 0.0) -> Tensor:
    """Credit (B, …) over its root mean square in each sample, which is then 1 at any scale; zero stays zero.

    Args:
        eps: added to the root mean square.
    """
    flat = credit.flatten(1)
    rms = torch.linalg.vector_norm(flat.double(), dim=1, keepdim=True) / flat.shape[1] ** 0.5 + eps
    return (flat / torch.where(rms > 0, rms, 1.0)).to(credit.dtype).view(credit.shape)


def send(sent: Sequence[tuple[Tensor, Tensor]]) -> None:
    """One backward pass from every output that something learns from."""
    live = [(output, error) for output, error in sent if output.requires_grad]
    torch.autograd.backward([output for output, _ in live], [error for _, error in live])


def end_to_end(
    model: BlockModel, x: Tensor, y: Tensor, penalty: Penalty, within: AbstractContextManager[object] | None = None
) -> Signals:
    """One backward pass through the whole network, whatever the layers send back.

    The forward pass stands ``within`` a context, where one is given: there layers may learn what to send back.
    """
    with within or nullcontext():
        objective, loss, logits = _objective(model, x, y, penalty)
    return Signals(loss.detach(), logits.detach(), [(objective, torch.ones_like(objective))])


def is_penalised(penalty: Penalty) -> bool:
    """Whether there is a penalty; of several learners, in one of them."""
    return isinstance(penalty, Tensor) or penalty != 0


def _objective(model: BlockModel, x: Tensor, y: Tensor, penalty: Penalty) -> tuple[Tensor, Tensor, Tensor]:
    h, branches = model.embed(x), []
    for block in model.blocks:
        branches.append(block(h))
        h = model.advance(h, branches[-1])
    logits = model.readout(h)
    loss = F.cross_entropy(logits, y)
    return (loss + penalty * residual_penalty(branches) if is_penalised(penalty) and branches else loss), loss, logits


class LocalForward:
    """One forward pass with the graph cut between blocks: ⟨f_l(h_l), a_l⟩ with h_l detached.

    ``outputs`` are [h_0, f_0(h_0), …, f_{L-1}(h_{L-1})], each with the graph of its own block alone;
    ``loss`` (the mean cross-entropy), ``logits`` and ``error`` (∂loss/∂logits, (B, classes)) are detached.
    """

    def __init__(self, model: BlockModel, x: Tensor, y: Tensor) -> None:
        self._model, self.labels = model, y
        self.outputs = [model.embed(x)]
        self.hidden = [self.outputs[0].detach()]
        for block in model.blocks:
            branch = block(self.hidden[-1])
            self.outputs.append(branch)
            self.hidden.append(model.advance(self.hidden[-1], branch.detach()))
        self._logits = model.readout(self.hidden[-1])
        self.logits = self._logits.detach()
        self.loss, self.error = F.cross_entropy(self.logits, y), output_error(self.logits, y) / len(y)

    def signals(self, credit: Sequence[Tensor], penalty: Penalty) -> Signals:
        """The true gradient to the read-out, and ``credit`` to the embedding and each block's output."""
        errors = [self._model.spread(a, out) for a, out in zip(credit, self.outputs, strict=True)]
        if is_penalised(penalty):
            for i, branch in enumerate(self.outputs[1:], start=1):
                errors[i] = errors[i] + (2 * penalty / len(branch)) * branch.detach()
        sent = [*zip(self.outputs, errors, strict=True), (self._logits, self.error)]
        return Signals(self.loss, self.logits, sent)


def residual_penalty(branches: Sequence[Tensor]) -> Tensor:
    """Σ_l ‖f_l(h_l)‖², averaged over samples."""
    return torch.stack([f.flatten(1).square().sum(1).mean() for f in branches]).sum()


def generator(seed: int, stream: str) -> torch.Generator:
    """A random stream of its own for each purpose, so that one more draw in one never shifts another."""
    digest = hashlib.sha256(f"{stream}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


@contextmanager
def seeded(seed: int, stream: str) -> Iterator[None]:
    """Inside, torch's modules draw their weights from a stream of their own."""
    with torch.random.fork_rng():
        torch.manual_seed(generator(seed, stream).initial_seed())
        yield


@contextmanager
def statistics_untouched(model: nn.Module) -> Iterator[None]:
    """Inside, BatchNorm normalises by the batch as ever, and its running statistics stay as they are.

    For passes beside the forward pass of a batch, over states that the network itself never has.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def projections(model: BlockModel, seed: int, stream: str) -> list[Tensor]:
    """A random matrix (classes, …) for each of h_0 … h_L, entries N(0, 1/classes)."""
    draw, classes = generator(seed, stream), int(model.config["classes"])
    return [torch.randn(classes, *shape, generator=draw) / classes**0.5 for shape in model.credit_shapes()]
