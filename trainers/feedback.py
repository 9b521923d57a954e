"""Layer-wise feedback: a backward pass in which each weight's transpose is replaced by another matrix.

What FA, sign symmetry and Kolen–Pollack share. Forward values are untouched; of every linear and convolution layer only
the gradient with respect to its input changes: δ_in = Bᵀ δ_out in the place of Wᵀ δ_out.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight
from torch.overrides import TorchFunctionMode

from fa_tracking.protocol.capture import Capture
from fa_tracking.protocol.undisturbed import evaluation_mode
from fa_tracking.trainers.layers import linear, rows, side_by_side
from fa_tracking.trainers.method import LearningRule, Penalty, Signals, end_to_end
from fa_tracking.trainers.model import BlockModel


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Tensor) -> Tensor:
        return linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, bias, feedback = inputs
        ctx.save_for_backward(x, feedback)
        ctx.has_bias = bias is not None

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, feedback = ctx.saved_tensors
        error = rows(grads[0], feedback)
        to_x = (error @ feedback).view(x.shape) if ctx.needs_input_grad[0] else None
        to_weight = error.mT @ rows(x, feedback) if ctx.needs_input_grad[1] else None
        to_bias = error.sum(-2) if ctx.has_bias and ctx.needs_input_grad[2] else None
        return to_x, to_weight, to_bias, None

    @staticmethod
    def vmap(info: Any, in_dims: Sequence[int | None], *tensors: Tensor | None) -> tuple[Tensor, int]:
        return _Linear.apply(*side_by_side(info.batch_size, in_dims, *tensors)), 0


class _Conv2d(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Tensor, options: tuple[Any, ...]) -> Tensor:
        return F.conv2d(x, weight, bias, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, bias, feedback, options = inputs
        ctx.save_for_backward(x, feedback)
        ctx.has_bias, ctx.options = bias is not None, options

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, feedback = ctx.saved_tensors
        grad, options = grads[0], ctx.options
        to_x = conv2d_input(x.shape, feedback, grad, *options) if ctx.needs_input_grad[0] else None
        to_weight = conv2d_weight(x, feedback.shape, grad, *options) if ctx.needs_input_grad[1] else None
        to_bias = grad.sum((0, 2, 3)) if ctx.has_bias and ctx.needs_input_grad[2] else None
        return to_x, to_weight, to_bias, None, None


class FeedbackPass(TorchFunctionMode):
    """Inside this context, linear and convolution layers send their error back through ``feedback[weight]``."""

    def __init__(self, feedback: Mapping[Tensor, Tensor]) -> None:
        super().__init__()
        self._feedback = {id(weight): matrix for weight, matrix in feedback.items()}

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is F.linear or func is F.conv2d:
            x, weight, bias, *options = _positional(*args, **(kwargs or {}))
            feedback = self._feedback.get(id(weight))
            if feedback is not None and func is F.linear:
                return _Linear.apply(x, weight, bias, feedback)
            if feedback is not None:
                return _Conv2d.apply(x, weight, bias, feedback, tuple(options))
        return func(*args, **(kwargs or {}))


class OwnWeights(TorchFunctionMode):
    """Backpropagation by the layers that feedback uses, B = W, for weights that ``torch.func.vmap`` maps over.

    What torch makes of ``F.linear`` there leaves the weights' gradients transposed, to be copied at every step.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is F.linear and torch.is_grad_enabled():
            x, weight, bias = _positional(*args, **(kwargs or {}))[:3]
            return _Linear.apply(x, weight, bias, weight)
        return func(*args, **(kwargs or {}))


def _positional(input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any) -> tuple[Any, ...]:
    defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    options = {**defaults, **dict(zip(defaults, rest, strict=False)), **named}
    return input, weight, bias, *options.values()


def layer_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of every linear and convolution layer, by the layer's name."""
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    return {name: getattr(layer, "weight") for name, layer in layers.items()}  # noqa: B009


class LayerwiseRule(LearningRule):
    """Backpropagation with other matrices on the way back; a rule says which, by the name of their layer."""

    has_credit = True
    null_batches = 1  # each draw of the null is a backward pass of its own

    def matrices(self, model: BlockModel) -> dict[str, Tensor]:
        """The feedback matrix of every linear and convolution layer, of its weight's shape, for this backward pass."""
        raise NotImplementedError

    def signals(self, model: BlockModel, x: Tensor, y: Tensor, penalty: Penalty = 0.0) -> Signals:
        return end_to_end(model, x, y, penalty, within=self._feedback(model))

    def credit(self, model: BlockModel, capture: Capture) -> Sequence[Tensor]:
        """What this rule's backward pass brings to h_0 … h_L."""
        x = capture.inputs.detach().requires_grad_()
        with evaluation_mode(model), torch.enable_grad(), self._feedback(model):
            logits, hidden = model(x, return_hidden=True)
            found = torch.autograd.grad(logits, list(hidden), grad_outputs=capture.error.to(logits.dtype))
        return [g[:, 0, :] if g.ndim == 3 else g.flatten(1) for g in found]

    def _feedback(self, model: BlockModel) -> FeedbackPass:
        matrices = self.matrices(model)
        return FeedbackPass({weight: matrices[name] for name, weight in layer_weights(model).items()})


def random_matrices(model: nn.Module, draw: torch.Generator) -> dict[str, Tensor]:
    """A matrix of each layer weight's shape, drawn as torch draws the weight: uniform in ±1/√fan_in."""
    weights = layer_weights(model)
    bounds = {name: initial_bound(w) for name, w in weights.items()}
    return {n: torch.empty(w.shape).uniform_(-bounds[n], bounds[n], generator=draw) for n, w in weights.items()}


def initial_bound(weight: Tensor) -> float:
    """1/√fan_in: the bound of torch's uniform initialisation of linear and convolution layers."""
    return 1 / math.sqrt(weight[0].numel())


def key(layer: str) -> str:
    """A layer's name as the name of a buffer, which may hold no dot."""
    return layer.replace(".", "/")
