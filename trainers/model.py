"""What every architecture has in common: an embedding, blocks, and a read-out."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import validate_call
from torch import Tensor, nn

from fa_tracking.trainers.definitions import definition_of


class BlockModel(nn.Module):
    """A network h_0 = embed(x), ``h_{l+1} = h_l + blocks[l](h_l)``, logits = readout(h_L).

    An architecture sets ``embed``, ``blocks`` (each returns the residual branch f_l(h), not h + f_l(h)) and
    ``out_head``, with ``out_ln`` before it if it has a terminal LayerNorm. ``residual = False`` says that
    ``h_{l+1} = blocks[l](h_l)``, ``tokens = True`` that a state is (B, T, d) and its class token is read out,
    ``images = True`` that ``input_shape`` is (C, H, W), also of data stored flat, which reach it as rows (B, C·H·W).
    ``config`` holds what its factory needs to build it again; arguments of other types than declared are refused, for
    a checkpoint's config is another's word.
    """

    residual: ClassVar[bool] = True
    tokens: ClassVar[bool] = False
    images: ClassVar[bool] = False
    embeds_by_a_block: ClassVar[bool] = False
    """Whether ``embed`` counts as a block where blocks stay as they were drawn: it is trained where all of them are."""

    definition: ClassVar[int]
    """Which definition of its name it is (``trainers/definitions.py``); a checkpoint of another one is refused."""

    config: dict[str, Any]
    embed: nn.Module
    blocks: nn.ModuleList
    out_head: nn.Module

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__init__ = validate_call(cls.__init__)  # type: ignore[method-assign]
        cls.definition = definition_of(cls.__module__.rpartition(".")[2])

    def advance(self, h: Tensor, branch: Tensor) -> Tensor:
        """h_{l+1} from h_l and what block l returned."""
        return h + branch if self.residual else branch

    def readout(self, h: Tensor) -> Tensor:
        """Logits (B, classes) from the deepest hidden state; of (B, T, d) the class token is read."""
        h = h[:, 0, :] if h.ndim == 3 else h
        norm = getattr(self, "out_ln", None)
        return self.out_head(h if norm is None else norm(h))

    def forward(self, x: Tensor, return_hidden: bool = False) -> Tensor | tuple[Tensor, Sequence[Tensor]]:
        """Logits (B, classes); with ``return_hidden`` also h_0 … h_L."""
        hidden = [self.embed(x)]
        for block in self.blocks:
            hidden.append(self.advance(hidden[-1], block(hidden[-1])))
        logits = self.readout(hidden[-1])
        return (logits, hidden) if return_hidden else logits

    def credit_shapes(self) -> list[tuple[int, ...]]:
        """The shape of the credit that each of h_0 … h_L takes: the state's own, or (d,) where it has tokens."""
        training, device = self.training, next(self.parameters()).device
        with torch.no_grad():
            _, hidden = self.eval()(torch.zeros(1, *self.config["input_shape"], device=device), return_hidden=True)
        self.train(training)
        return [tuple(h.shape[2:] if self.tokens else h.shape[1:]) for h in hidden]

    def spread(self, credit: Tensor, state: Tensor) -> Tensor:
        """Credit (B, …) in the shape of the state that it reaches: the same for every token."""
        return credit[:, None, :].expand_as(state) if self.tokens else credit
