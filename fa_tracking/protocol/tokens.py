"""What stands for a sample's tokens in a hidden state: a class token where the logits come from it alone, else all."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import Node

from fa_tracking.protocol.graph import Graph, operation

MOST = 2
"""Class tokens: a distilled ViT has two."""

CHANNELS = ("Convolution", "NativeBatchNorm", "CudnnBatchNorm", "NativeGroupNorm", "MaxPool", "AvgPool", "Adaptive")
"""Operations that take axis 1 for the features, by the beginning of the name of their backward pass."""
FEATURES = ("NativeLayerNorm", "FusedRmsNorm", "Addmm", "Mm", "Bmm", "Linear", "Scaled")
"""Operations that take the last axis for the features."""
REDUCTIONS = ("Mean", "Sum", "Select", "Amax", "Max", "Logsumexp")


@dataclass(frozen=True)
class Reading:
    """How the vector of a sample is taken from a state.

    Attributes:
        tokens: of how many of a sample's tokens (B, T, d) it is made; 0: every state is flattened whole.
        remarks: what a reader must know of it.
    """

    tokens: int = 0
    remarks: tuple[str, ...] = ()

    def index(self, grads: Sequence[Tensor]) -> Tensor | None:
        """Which tokens of each sample the logits come from, (B, tokens); None where states are taken whole.

        Raises:
            TokensDiffer: more or fewer of them than in the first batch.
        """
        if not self.tokens:
            return None
        used = _used(grads)
        assert used is not None
        counts = used.sum(dim=1)
        if bool(((counts != self.tokens) & (counts > 0)).any()):
            raise TokensDiffer
        known = used[counts > 0]
        first = known[0] if len(known) else torch.arange(used.shape[1], device=used.device) < self.tokens
        filled = torch.where((counts > 0)[:, None], used, first)
        return filled.int().topk(self.tokens, dim=1).indices.sort(dim=1).values

    def of(self, state: Tensor, index: Tensor | None) -> Tensor:
        """(B, d) of a state or gradient (B, …)."""
        if index is None:
            return state.flatten(1)
        return state.gather(1, index[:, :, None].expand(-1, -1, state.shape[2])).flatten(1)


class TokensDiffer(Exception):  # noqa: N818  the batches are read anew, whole
    """The logits come from other numbers of tokens than those of the first batch."""


FLATTENED = "convolution states flattened per sample"
WHOLE = "tokens: all of a sample's together, since the logits do not come from a class token alone"
UNTOLD = (
    "tokens: all of a sample's together, since the gradient, zero everywhere, does not tell where the logits come from"
)


def whole(hidden: Sequence[Tensor], channels: Sequence[bool], why: str = WHOLE) -> Reading:
    """Every state flattened."""
    are_maps = any(h.ndim > 3 for h in hidden) or any(channels)
    has_tokens = any(h.ndim == 3 and not is_map for h, is_map in zip(hidden, channels, strict=True))
    return Reading(0, (*([why] if has_tokens else []), *([FLATTENED] if are_maps else [])))


def reading(hidden: Sequence[Tensor], grads: Sequence[Tensor], channels: Sequence[bool] = ()) -> Reading:
    """How the states are to be read.

    Args:
        hidden: h_0 … h_L, (B, …) each.
        grads: a gradient at each, such as g_0 … g_L.
        channels: of each state whether its axis 1 are channels and not tokens; none are where empty.
    """
    channels = channels or [False for _ in hidden]
    used = _used(grads)
    if used is None or all(channels):
        return whole(hidden, channels)
    known = used[used.any(dim=1)]
    if not len(known):
        return whole(hidden, channels, UNTOLD)
    counts = known.sum(dim=1)
    number = int(counts[0])
    if bool((counts != number).any()) or number > min(MOST, used.shape[1] - 1):
        return whole(hidden, channels)
    positions = known[0].nonzero()[:, 0].tolist()
    if bool((known != known[0]).any()):
        name = "each sample's own token, such as the last before its padding"
    elif positions == [0]:
        name = "the class token"
    else:
        name = f"{'token' if number == 1 else 'tokens'} {' and '.join(map(str, positions))}"
    if any(channels) or any(h.ndim != 3 for h in hidden) or len({h.shape[1] for h in hidden}) > 1:
        told = f"tokens: all of a sample's together: the logits come from {name} alone, which is not in every state"
        return whole(hidden, channels, told)
    return Reading(number, (f"tokens: {name}, which alone the logits come from",))


def _used(grads: Sequence[Tensor]) -> Tensor | None:
    """(B, T): which tokens of the deepest state that has some the logits come from; NaN is not 0."""
    deepest = next((g for g in reversed(grads) if g.ndim == 3), None)
    return None if deepest is None else (deepest != 0).any(dim=-1)


def are_channels(graph: Graph, state: Node | None) -> bool:
    """Whether axis 1 of a state of three axes are channels, by the nearest operation that says which it works along."""
    if state not in graph:
        return False
    seen: set[Node | None] = {state}
    ahead: list[tuple[Node | None, tuple[int, ...]]] = [(state, (0, 1, 2))]
    while ahead:
        following: list[tuple[Node | None, tuple[int, ...]]] = []
        for node, axes in ahead:
            for user in graph.users.get(node, ()):  # type: ignore[arg-type]
                if user in seen:
                    continue
                seen.add(user)
                features = _features(user)
                if features is not None:
                    return axes[features] == 1
                following.append((user, _moved(user, axes)))
        ahead = following
    return False


def _features(node: Node) -> int | None:
    """The axis of three that an operation takes for the features; None: it does not say."""
    name = operation(node)
    if name.startswith(CHANNELS):
        return 1
    if name.startswith(FEATURES):
        return 2 if len(getattr(node, "_saved_normalized_shape", (0,))) == 1 else None
    if name.startswith(REDUCTIONS):
        dim = getattr(node, "_saved_dim", None)
        dims = {_axis(d) for d in (dim if isinstance(dim, tuple | list) else [dim]) if d is not None}
        is_kept = getattr(node, "_saved_keepdim", False)  # a normalisation, not a reduction
        return None if is_kept else 1 if dims == {2} else 2 if dims == {1} else None
    return None


def _moved(node: Node, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Which of the state's axes stand where behind an operation."""
    if operation(node) == "Transpose":
        one, other = _axis(getattr(node, "_saved_dim0", 0)), _axis(getattr(node, "_saved_dim1", 0))
        exchanged = list(axes)
        exchanged[one], exchanged[other] = axes[other], axes[one]
        return tuple(exchanged)
    dims = getattr(node, "_saved_dims", ()) if operation(node) == "Permute" else ()
    return tuple(axes[_axis(d)] for d in dims) if len(dims) == len(axes) else axes


def _axis(dim: int) -> int:
    """Of three axes the one that is meant; torch saves negative ones as huge numbers. 0 for one beyond."""
    signed = dim - 2**64 if dim > 2**63 else dim
    signed = signed + 3 if signed < 0 else signed
    return signed if signed < 3 else 0
