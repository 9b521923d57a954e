"""The modules of a network as they ran in one forward pass, and the tensors that went in and came out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor as it passed: its place in the graph, None where it has none, and its shape."""

    node: Node | None
    shape: torch.Size


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a module: when it began and ended, and the places in the graph of what went in and came out.

    Attributes:
        turn: how often the module had run before.
        givens, returns: of the floating-point tensors in order.
    """

    name: str
    module: nn.Module
    turn: int
    began: int
    ended: int
    givens: tuple["Value", ...]
    returns: tuple["Value", ...]

    @property
    def given(self) -> Node | None:
        """The place of the first tensor that went in; None where there is none, or none with a graph."""
        return self.givens[0].node if self.givens else None

    @property
    def returned(self) -> Node | None:
        """As ``given``, of what came out."""
        return self.returns[0].node if self.returns else None

    @property
    def given_shape(self) -> torch.Size | None:
        return self.givens[0].shape if self.givens else None

    @property
    def returned_shape(self) -> torch.Size | None:
        return self.returns[0].shape if self.returns else None

    def holds(self, other: "Run") -> bool:
        """Whether the other ran within this one."""
        return self.began < other.began and other.ended < self.ended


def contained(model: nn.Module) -> list[nn.Module]:
    """The composite modules in the outermost container that holds several; they may be containers too."""
    for module in model.modules():
        inner = [child for child in module.children() if any(True for _ in child.children())]
        if isinstance(module, CONTAINERS) and len(inner) > 1:
            return inner
    return []


def listed(model: nn.Module) -> list[nn.Module]:
    """What stands in the outermost list of several modules."""
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList | nn.ModuleDict))
    return next((list(m.children()) for m in lists if len(list(m.children())) > 1), [])


def parameters(modules: Any) -> int:
    """How many numbers the modules hold, each once."""
    return sum({id(p): p.numel() for module in modules for p in module.parameters()}.values())


def _is_composite(module: nn.Module) -> bool:
    return not isinstance(module, CONTAINERS) and any(True for _ in module.children())


def _holds_matrix(module: nn.Module) -> bool:
    return any(p.ndim > 1 for p in module.parameters())


def place(tensor: Tensor | None) -> Node | None:
    """Where a tensor stands in the graph; None where it stands in none."""
    return get_gradient_edge(tensor).node if tensor is not None and tensor.requires_grad else None


def _values(values: Any) -> tuple[Value, ...]:
    return tuple(Value(place(tensor), tensor.shape) for tensor in tensors(values))


def tensors(values: Any) -> Iterator[Tensor]:
    """The floating-point tensors in nested tuples, lists and mappings."""
    if isinstance(values, Tensor):
        if values.is_floating_point():
            yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from tensors(value)
    elif isinstance(values, tuple | list):
        for value in values:
            yield from tensors(value)


def nth_tensor(values: Any, number: int) -> Tensor | None:
    """One of the floating-point tensors in nested tuples, lists and mappings; None where there are fewer."""
    return next(islice(tensors(values), number, None), None)
