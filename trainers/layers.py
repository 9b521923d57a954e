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
    if carries_gradient(h) or not torch.is_grad_enabled():
        return linear(norm(h))
    normalised = F.layer_norm(h, norm.normalized_shape, eps=norm.eps)
    return _NormedLinear.apply(normalised, norm.weight, norm.bias, linear.weight, linear.bias)


def carries_gradient(x: Tensor) -> bool:
    """Whether a gradient reaches ``x``, also inside ``torch.func.vmap``, where no tensor says so itself."""
    while torch._C._functorch.is_functorch_wrapped_tensor(x) and not x.requires_grad:
        x = torch._C._functorch.get_unwrapped(x)
    return x.requires_grad


class _NormedLinear(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, gain: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(torch.addcmul(shift, x, gain), weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, gain, shift, weight, _ = inputs
        ctx.save_for_backward(x, gain, shift, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, shift, weight = ctx.saved_tensors
        error = grads[0].reshape(-1, grads[0].shape[-1])
        total, product = error.sum(0), error.T @ x.reshape(-1, x.shape[-1])
        to_gain = torch.linalg.vecdot(weight, product, dim=0)
        return None, to_gain, total @ weight, torch.addcmul(total[:, None] * shift, product, gain), total
