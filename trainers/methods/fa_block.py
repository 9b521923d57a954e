"""Block feedback alignment, by the published study (arXiv:2606.21126): FA from block to block.

The deepest block learns from the exact gradient; below it the credit goes down through a random matrix a block, in the
place of the next block's Jacobian:

    a_{L−1} = ∂ℓ/∂h_L,    a_l = a_{l+1} B_lᵀ,  l = L−2 … 0,    B_l ∈ R^{d_{l+1} × d_{l+2}}, entries N(0, 1/d_{l+2})

a_l is block l's credit: f_l learns from ⟨f_l(h_l), a_l⟩. The embedding sees the true gradient. Layer-wise FA, where
every weight has a matrix in its backward pass, is ``fa``.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fa_tracking.protocol.capture import Capture
from fa_tracking.trainers.method import LocalForward, LocalRule, Penalty, Signals, generator, statistics_untouched
from fa_tracking.trainers.model import BlockModel


class Method(LocalRule):
    """Feedback: buffer ``B0`` … ``B{L−2}``, of flat states.

    Γ compares a_l with the gradient at the state that block l reads (``credit_index`` "input"), or at the one that it
    yields ("output"); there it is missing where the credit is the gradient itself.
    """

    stackable = True

    def __init__(self, model: BlockModel, seed: int, **recipe: Any) -> None:
        super().__init__(model, **recipe)
        if model.tokens:
            raise ValueError("it needs a network without tokens")
        draw = generator(seed, "fa_block")
        self._shapes = [torch.Size(shape) for shape in model.credit_shapes()]
        for layer, (below, above) in enumerate(zip(self._shapes[1:-1], self._shapes[2:], strict=True)):
            matrix = torch.randn(below.numel(), above.numel(), generator=draw) / above.numel() ** 0.5
            self.register_buffer(f"B{layer}", matrix)

    def signals(self, model: BlockModel, x: Tensor, y: Tensor, penalty: Penalty = 0.0) -> Signals:
        local = LocalForward(model, x, y)

        def read_out(h: Tensor) -> Tensor:
            for block in model.blocks:
                h = model.advance(h, block(h))
            return model.readout(h)

        with torch.no_grad(), statistics_untouched(model):
            (exact,) = torch.func.vjp(model.readout, local.hidden[-1])[1](local.error)
            (to_embedding,) = torch.func.vjp(read_out, local.hidden[0])[1](local.error)
        credit = self.normalised(self._down(exact.flatten(1)))
        shaped = [a.unflatten(1, shape) for a, shape in zip(credit, self._shapes[1:], strict=True)]
        return local.signals([to_embedding, *shaped], penalty)

    def credit(self, model: BlockModel, capture: Capture) -> Sequence[Tensor | None]:
        found = self._down(capture.grads[-1])
        return [*found, None] if self.credit_index == "input" else [None, *found[:-1], None]

    def _down(self, exact: Tensor) -> list[Tensor]:
        """[a_0, …, a_{L−1}], each (B, d) of the state that its block yields."""
        credit = [exact]
        for matrix in reversed(list(self.buffers())):
            credit.insert(0, credit[0] @ matrix.to(exact.dtype).mT)
        return credit
