"""What stands for a sample's tokens in a hidden state: a class token where the logits come from it alone, else all."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.autograd.graph import Node

from fa_tracking.protocol.flow import Graph, operation

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
        tokens: of (B, T, d) these alone; empty: every state is flattened whole.
        remarks: what a reader must know of it.
    """

    tokens: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()

    def of(self, state: Tensor) -> Tensor:
        """(B, d) of a state or gradient (B, …)."""
        return (state[:, list(self.tokens)] if self.tokens else state).flatten(1)


CLASS_TOKEN = Reading((0,), ("tokens: the class token, which alone the logits come from",))
FLATTENED = "convolution states flattened per sample"
WHOLE = "tokens: all of a sample's together, since the logits do not come from a class token alone"
UNTOLD = (
    "tokens: all of a sample's together, since the gradient, zero everywhere, does not tell where the logits come from"
)


def reading(hidden: Sequence[Tensor], grads: Sequence[Tensor], channels: Sequence[bool] = ()) -> Reading:
    """How the states are to be read.

    Args:
        hidden: h_0 … h_L, (B, …) each.
        grads: a gradient at each, such as g_0 … g_L.
        channels: of each state whether its axis 1 are channels and not tokens; none are where empty.
    """
    channels = channels or [False for _ in hidden]
    deepest = next((g for g in reversed(grads) if g.ndim == 3), None)
    maps = (FLATTENED,) if any(h.ndim > 3 for h in hidden) or any(channels) else ()
    of_tokens = [h for h, is_map in zip(hidden, channels, strict=True) if h.ndim == 3 and not is_map]
    if deepest is None or not of_tokens:
        return Reading((), maps)
    used = (deepest != 0).any(dim=-1)  # NaN is not 0
    if not used.any():
        return Reading((), (UNTOLD, *maps))
    of_all = used.any(dim=0)
    is_same = bool((used[used.any(dim=1)] == of_all).all())
    positions = tuple(of_all.nonzero()[:, 0].tolist())
    if not is_same or len(positions) > min(MOST, len(of_all) - 1):
        return Reading((), (WHOLE, *maps))
    number = "token" if len(positions) == 1 else "tokens"
    name = "the class token" if positions == (0,) else f"{number} {' and '.join(map(str, positions))}"
    if len(of_tokens) < len(hidden) or len({h.shape[1] for h in hidden}) > 1:
        told = f"tokens: all of a sample's together: the logits come from {name} alone, which is not in every state"
        return Reading((), (told, *maps))
    return (
        CLASS_TOKEN if positions == (0,) else Reading(positions, (f"tokens: {name}, which alone the logits come from",))
    )


def are_channels(graph: Graph, state: Node | None) -> bool:
    """Whether axis 1 of a state of three axes are channels, by the nearest operation that says which it works along."""
    if state not in graph:
        return False
    seen, ahead = {state}, [(state, (0, 1, 2))]
    while ahead:
        following = []
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
