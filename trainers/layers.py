"""Layers that several architectures share."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def normed_linear(h: Tensor, norm: nn.LayerNorm, layer: nn.Linear) -> Tensor:
    """``layer(norm(h))``, (…, d) -> (…, out), with a shorter backward pass where h carries no gradient.

    A local rule hands every block a detached h. Autograd would still send the error through W to LN(h), a whole matrix
    product, only to reach the gain γ and shift β. With x̂ the normalised h, δ the error at the output and M = δᵀ x̂:

        ∂W = M diag(γ) + (Σδ) βᵀ,    ∂γ = Σ_out W ⊙ M,    ∂β = Wᵀ Σδ,    ∂b = Σδ
    """
    if carries_gradient(h) or not torch.is_grad_enabled():
        found: Tensor = layer(norm(h))
        return found
    normalised = F.layer_norm(h, norm.normalized_shape, eps=norm.eps)
    return _NormedLinear.apply(normalised, norm.weight, norm.bias, layer.weight, layer.bias)


def carries_gradient(x: Tensor) -> bool:
    """Whether a gradient reaches ``x``, also inside ``torch.func.vmap``, where no tensor says so itself."""
    while torch._C._functorch.is_functorch_wrapped_tensor(x) and not x.requires_grad:
        x = torch._C._functorch.get_unwrapped(x)
    return x.requires_grad


def draw_normal(weight: Tensor, deviation: float) -> None:
    """Draw entries N(0, σ²) in place; one without memory has none, and torch would import its compiler to learn that.

    A checkpoint's network is built so, and the import takes seconds.
    """
    if not weight.is_meta:
        with torch.no_grad():
            weight.copy_(deviation * torch.randn(weight.shape))


class ImageConv2d(nn.Conv2d):
    """A convolution that takes images (B, C, H, W), or rows (B, C·H·W) of them: data may be stored flat."""

    def __init__(self, image_shape: Sequence[int], channels: int, *args: Any, **kwargs: Any) -> None:
        """
        Raises:
            ValueError: ``image_shape`` is not (C, H, W).
        """
        if len(image_shape) != 3:
            raise ValueError(f"it takes images (C, H, W), not inputs of shape {tuple(image_shape)}")
        super().__init__(image_shape[0], channels, *args, **kwargs)
        self.image_shape = tuple(image_shape)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unflatten(1, self.image_shape) if x.ndim == 2 else x)


def side_by_side(size: int, in_dims: Sequence[int | None], *tensors: Tensor | None) -> list[Tensor | None]:
    """What ``torch.func.vmap`` gives an autograd function, its axis of ``size`` learners in front in every tensor."""
    return [
        t if t is None else t.movedim(dim, 0) if dim is not None else t.expand(size, *t.shape)
        for t, dim in zip(tensors, in_dims, strict=True)
    ]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """W x + b, (…, d) -> (…, out); with weights (S, out, d) of S learners side by side (S, …, d) -> (S, …, out)."""
    if weight.ndim == 2:
        return F.linear(x, weight, bias)
    rows = x.flatten(1, -2)
    found = torch.bmm(rows, weight.mT) if bias is None else torch.baddbmm(bias[:, None], rows, weight.mT)
    return found.view(*x.shape[:-1], -1)


def rows(x: Tensor, weight: Tensor) -> Tensor:
    """All vectors that a layer takes or gives, (N, d); of S learners side by side (S, N, d)."""
    return x.flatten(weight.ndim - 2, -2)


class _NormedLinear(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, gain: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        every = rows(x, weight)
        found = linear(torch.addcmul(shift.unsqueeze(-2), every, gain.unsqueeze(-2)), weight, bias)
        return found.view(*x.shape[:-1], -1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, gain, shift, weight, _ = inputs
        ctx.save_for_backward(x, gain, shift, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, shift, weight = ctx.saved_tensors
        error = rows(grads[0], weight)
        total, product = error.sum(-2), error.mT @ rows(x, weight)
        to_gain = torch.linalg.vecdot(weight, product, dim=-2)
        to_shift = (total.unsqueeze(-2) @ weight).squeeze(-2)
        to_weight = product.mul_(gain.unsqueeze(-2)).addcmul_(total.unsqueeze(-1), shift.unsqueeze(-2))
        return None, to_gain, to_shift, to_weight, total

    @staticmethod
    def vmap(info: Any, in_dims: Sequence[int | None], *tensors: Tensor) -> tuple[Tensor, int]:
        return _NormedLinear.apply(*side_by_side(info.batch_size, in_dims, *tensors)), 0
