"""What one batch shows of a network: its states, the gradients at them, and what they are made of."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from fa_tracking.protocol.norms import norms
from fa_tracking.protocol.table import Reference
from fa_tracking.protocol.tokens import Reading
from fa_tracking.protocol.undisturbed import Call


@dataclass(frozen=True)
class Capture:
    """Holds the measurements on one batch of B samples in a network with L blocks.

    Attributes:
        inputs: x, as given to the model.
        labels: (B,) class indices.
        logits: (B, classes).
        error: (B, classes), e = softmax(logits) − onehot(labels).
        hidden: h_0 … h_L, each (B, d). For token states (B, T, d) this is the class token if the logits come from it
            alone; all other states are flattened per sample.
        grads: g_0 … g_L, each (B, d): the gradient of each sample's own cross-entropy (the loss summed over the
            batch, so that nothing depends on the batch size).
        gain: ‖g_L‖/‖e‖ for each sample, in the limit of a vanishing e; samples without a value are left out.
        stream: for each layer (B,) norms over all tokens and features, if ``hidden`` is the class token's; else ().
        states: where each of h_0 … h_L was read.
        tokens: (B, n), the tokens of each sample in ``hidden``; None: the whole state.
        reference: whether g is the derivative of the network's function.
        remarks: what a reader must know about the measurement: the states' modules, unless the model itself shows them;
            the treatment of tokens, precision and hooks.
    """

    inputs: Any
    labels: Tensor
    logits: Tensor
    error: Tensor
    hidden: Sequence[Tensor]
    grads: Sequence[Tensor]
    gain: Tensor
    stream: Sequence[Tensor] = ()
    states: tuple[str, ...] = ()
    tokens: Tensor | None = None
    reference: Reference | None = None
    remarks: tuple[str, ...] = ()


class Passed(NamedTuple):
    """Holds a batch that went through a network: x, labels (B,), logits and error (B, classes)."""

    inputs: Any
    labels: Tensor
    logits: Tensor
    error: Tensor


def reduced(
    batch: Passed,
    hidden: Sequence[Tensor],
    grads: Sequence[Tensor],
    read: Reading,
    deepest: Tensor | None = None,
    states: tuple[str, ...] = (),
) -> Capture:
    """The capture of one batch from its states and gradients as the model has them, (B, …) each.

    Args:
        read: what stands for a sample's tokens.
        deepest: the gradient at h_L along e/‖e‖; from g_L and e where None.
    """
    index = read.index([*grads[:-1], grads[-1] if deepest is None else deepest])
    slopes = [read.of(g, index) for g in grads]
    if deepest is None:
        size = norms(batch.error)
        gain = (norms(slopes[-1]) / size)[size != 0]
    else:
        gain = norms(read.of(deepest, index))
    return Capture(
        inputs=batch.inputs,
        labels=batch.labels,
        logits=batch.logits.detach(),
        error=batch.error,
        hidden=[read.of(h, index) for h in hidden],
        grads=slopes,
        gain=gain,
        stream=[norms(h.flatten(1)) for h in hidden] if index is not None else (),
        states=states,
        tokens=index,
        remarks=read.remarks,
    )


class Beside(Protocol):
    """What else is measured of each batch, on the forward pass of its capture."""

    def watching(self) -> AbstractContextManager[None]:
        """Around the forward pass."""

    def after(self, call: Call, inputs: Any, labels: Tensor, logits: Tensor) -> None:
        """Once the batch is captured; random numbers may be drawn, and nothing is raised."""
