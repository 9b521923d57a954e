"""Layers that several architectures share."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def normed_linear(h: Tensor, norm: nn.LayerNorm, linear: nn.Linear) -> Tensor:
    """``linear(norm(h))``, (…, d) -> (…, out), with a shorter backward pass where h carries no gradient.

    A local rule hands every block a detached h. Autograd would still send the error through W to LN(h), a whole matrix
    product, only to reach the gain γ and shift β. With x̂ the normalised h, δ the error at the output and M = δᵀ x̂:

        ∂W = M diag(γ) + (Σδ) βᵀ,    ∂γ = Σ_out W ⊙ M,    ∂β = Wᵀ Σδ,    ∂b = Σδ
    """
    if h.requires_grad or not torch.is_grad_enabled():
        return linear(norm(h))
    normalised = F.layer_norm(h, norm.normalized_shape, eps=norm.eps)
    return _NormedLinear.apply(normalised, norm.weight, norm.bias, linear.weight, linear.bias)


class _NormedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, gain, shift, weight)
        return F.linear(torch.addcmul(shift, x, gain), weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, shift, weight = ctx.saved_tensors
        error = grads[0].reshape(-1, grads[0].shape[-1])
        total, product = error.sum(0), error.T @ x.reshape(-1, x.shape[-1])
        to_gain = torch.linalg.vecdot(weight, product, dim=0)
        return None, to_gain, total @ weight, product.mul_(gain).addr_(total, shift), total
