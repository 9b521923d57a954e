"""A user's Python code as the rules read it: which values are gradients, cosines and quotients, by their names."""

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fa_tracking.pitfalls._names import split, words_of
from fa_tracking.pitfalls._tree import Tree

if TYPE_CHECKING:
    pass

COSINE_FUNCTIONS = {"torch.nn.functional.cosine_similarity", "torch.cosine_similarity"}
COSINE_MODULES = {"torch.nn.CosineSimilarity", "torch.nn.modules.distance.CosineSimilarity"}

GRADIENT = {"grad", "grads", "gradient", "gradients", "credit", "credits", "delta", "deltas"}
ORIGIN = {"bp", "fa", "dfa", "backprop", "autograd", "local", "true", "ref", "reference", "exact", "feedback", "ep"}
"""Where a gradient named g, dW or update comes from: g_bp, dW_fa, local_update."""
COSINE = {"cos", "cosine", "cosines", "cossim", "alignment", "alignments"}
GAMMA = {"gamma", "gammas"}
LAYER = {"layer", "layers", "block", "blocks"}
SWITCHES = {"requires_grad", "requires_grad_", "no_grad", "zero_grad", "enable_grad", "set_grad_enabled", "retain_grad"}
"""Names that speak of gradients and hold none."""
VIEWS = {"data", "T", "mT"}
"""Attributes that are the tensor itself, seen otherwise."""


@dataclass(frozen=True)
class Cosine:
    """A call that computes a cosine.

    Attributes:
        default_eps: it is torch's own, and no eps is given.
    """

    node: ast.Call
    default_eps: bool


class Source(Tree):
    """A syntax tree and what the rules ask of it."""

    def words(self, nodes: Iterable[ast.AST]) -> set[str]:
        """The words of all names among the nodes, and of texts that are keys."""
        found: set[str] = set()
        for node in nodes:
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) if name not in SWITCHES:
                    # of what merely holds the attribute the last word counts: not the grad of grad_map.embedding
                    found |= {words_of(name)[-1]} if self._holds(node) and words_of(name) else split(name)
                case ast.Subscript(slice=ast.Constant(value=str(name))):
                    found |= split(name)
                case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=str(name)), *_]):
                    found |= split(name)
        return found

    def _holds(self, node: ast.AST) -> bool:
        """Whether another attribute is read from it, which then says what the value is; a method is no attribute."""
        parent = self.parent(node)
        if not isinstance(parent, ast.Attribute) or parent.attr in VIEWS:
            return False
        call = self.parent(parent)
        return not (isinstance(call, ast.Call) and call.func is parent)

    @cached_property
    def cosines(self) -> list[Cosine]:
        return list(self._cosines())

    def _cosines(self) -> Iterator[Cosine]:
        for call in self.calls():
            if self.name(call.func) in COSINE_FUNCTIONS:
                yield Cosine(call, not _gives_eps(call, position=3))
            elif modules := [m for m in self._makers(call.func) if self.name(m.func) in COSINE_MODULES]:
                yield Cosine(call, any(not _gives_eps(m, position=1) for m in modules))
            elif len(call.args) > 1 and self._is_called_cosine(call.func):
                yield Cosine(call, default_eps=False)

    def _is_called_cosine(self, function: ast.expr) -> bool:
        """A function named after a cosine; of the libraries' own only those that are no trigonometry."""
        name = self.name(function)
        trigonometry = name.partition(".")[0] in ("numpy", "torch", "math", "jax") and name.endswith(".cos")
        return not trigonometry and bool({"cos", "cosine", "cossim"} & split(name.rpartition(".")[2]))

    def _makers(self, function: ast.expr) -> list[ast.Call]:
        """The calls that made the object that is called: ``nn.CosineSimilarity(dim=1)``."""
        return [m for m in (function, *self.given(function)) if isinstance(m, ast.Call)]

    def is_gradient(self, call: ast.Call) -> bool:
        """Whether the arguments, or the function that the call stands in, are named after gradients.

        Where they are arguments of a helper, what the helper is called with counts.
        """
        return self.are_gradients(call, call.args)

    def are_gradients(self, node: ast.expr, parts: Sequence[ast.expr]) -> bool:
        """Whether the parts of an expression, or the function that it stands in, are named after gradients."""
        function = self.function(node)
        if function and GRADIENT & split(function.name):
            return True
        return any(self._is_of_gradient(each) for part in parts for each in self.traced(part))

    def _is_of_gradient(self, node: ast.AST) -> bool:
        words = self.words([node])
        return bool(GRADIENT & words) or bool(
            ORIGIN & words and ({"g", "update", "updates"} & words or {"d", "w"} <= words)
        )

    def traced(self, node: ast.AST, calls: int = 2) -> Iterator[ast.AST]:
        """The origins of an expression, and of what the arguments among them are given by the helper's callers."""
        parts = list(self.origins(node))
        yield from parts
        if calls:
            for part in parts:
                for value in self.passed(part):
                    yield from self.traced(value, calls - 1)

    def is_cosine(self, node: ast.AST, words: Iterable[str] = COSINE) -> bool:
        return bool(set(words) & self.words(self.origins(node)))

    def is_layered(self, node: ast.AST) -> bool:
        return bool(LAYER & self.words(self.origins(node)))


def _gives_eps(call: ast.Call, position: int) -> bool:
    starred = any(k.arg is None for k in call.keywords) or any(isinstance(a, ast.Starred) for a in call.args)
    return starred or len(call.args) > position or any(k.arg == "eps" for k in call.keywords)
