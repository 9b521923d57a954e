"""A user's Python code as the rules read it: its syntax tree with imports resolved, never imported and never run."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

Node = TypeVar("Node", bound=ast.AST)

CUSTOMARY = {"np": "numpy", "jnp": "jax.numpy", "nn": "torch.nn", "F": "torch.nn.functional"}
"""What a name stands for that the file does not import itself: in a notebook's later cell, or by a star import."""

COSINE_FUNCTIONS = {"torch.nn.functional.cosine_similarity", "torch.cosine_similarity"}
COSINE_MODULES = {"torch.nn.CosineSimilarity", "torch.nn.modules.distance.CosineSimilarity"}

GRADIENT = {"grad", "grads", "gradient", "gradients", "credit", "credits", "delta", "deltas"}
COSINE = {"cos", "cosine", "cosines", "cossim", "alignment", "alignments"}
GAMMA = {"gamma", "gammas"}
LAYER = {"layer", "layers", "block", "blocks"}
SWITCHES = {"requires_grad", "requires_grad_", "no_grad", "zero_grad", "enable_grad", "set_grad_enabled", "retain_grad"}
"""Names that speak of gradients and hold none."""
VIEWS = {"data", "T", "mT"}
"""Attributes that are the tensor itself, seen otherwise."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Cosine:
    """A call that computes a cosine.

    Attributes:
        default_eps: it is torch's own, and no eps is given.
    """

    node: ast.Call
    default_eps: bool


class Source:
    """A syntax tree and what the rules ask of it."""

    def __init__(self, tree: ast.Module) -> None:
        self.nodes = list(ast.walk(tree))
        self._parent = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}

    def walk(self, kind: type[Node]) -> Iterator[Node]:
        return (node for node in self.nodes if isinstance(node, kind))

    def calls(self) -> Iterator[ast.Call]:
        return self.walk(ast.Call)

    def parent(self, node: ast.AST) -> ast.AST | None:
        return self._parent.get(node)

    def parents(self, node: ast.AST) -> Iterator[ast.AST]:
        """From the node outwards."""
        while (above := self._parent.get(node)) is not None:
            yield above
            node = above

    def function(self, node: ast.AST) -> Function | None:
        """The innermost function around a node."""
        return next((above for above in self.parents(node) if isinstance(above, Function)), None)

    def name(self, node: ast.AST) -> str:
        """``torch.nn.functional.cosine_similarity`` of ``F.cosine_similarity``; empty where it is no plain name."""
        written = dotted(node)
        root, dot, rest = written.partition(".")
        return self._imports.get(root, CUSTOMARY.get(root, root)) + dot + rest if written else ""

    def is_module(self, node: ast.AST) -> bool:
        """Whether it is, or is part of, something imported."""
        root = dotted(node).partition(".")[0]
        return root in self._imports or root in CUSTOMARY

    @cached_property
    def _imports(self) -> dict[str, str]:
        found = {}
        for node in self.walk(ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                found[alias.asname or root] = alias.name if alias.asname else root
        for origin in self.walk(ast.ImportFrom):
            for alias in origin.names:
                found[alias.asname or alias.name] = f"{origin.module}.{alias.name}"
        return found

    def bindings(self) -> Iterator[tuple[ast.expr, str, ast.expr]]:
        """Every (place, name, value): assignments, keyword arguments, entries of a dictionary with a text as key."""
        for statement in self.walk(ast.Assign):
            for target in statement.targets:
                yield target, dotted(target).rpartition(".")[2], statement.value
        for annotated in self.walk(ast.AnnAssign):
            if annotated.value:
                yield annotated.target, dotted(annotated.target).rpartition(".")[2], annotated.value
        for call in self.calls():
            for keyword in call.keywords:
                yield keyword.value, keyword.arg or "", keyword.value
        for mapping in self.walk(ast.Dict):
            for key, value in zip(mapping.keys, mapping.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key, key.value, value

    def origins(self, node: ast.AST, steps: int = 1) -> Iterator[ast.AST]:
        """All parts of an expression, and of what its names were given in the same function or in the module."""
        for part in ast.walk(node):
            yield part
            if steps:
                for value in self.given(part):
                    yield from self.origins(value, steps - 1)

    def is_argument(self, node: ast.AST) -> bool:
        """Whether it is a name that the function around it is called with."""
        function = self.function(node)
        every = ast.walk(function.args) if function else ()
        return any(isinstance(part, ast.arg) and part.arg == dotted(node) for part in every)

    def given(self, node: ast.AST) -> Iterable[ast.expr]:
        """What a name is given in its function, else in the module."""
        name = dotted(node)
        own = self._given.get((self.function(node), name), []) if name else []
        return own or self._given.get((None, name), [])

    @cached_property
    def _given(self) -> dict[tuple[Function | None, str], list[ast.expr]]:
        found: dict[tuple[Function | None, str], list[ast.expr]] = defaultdict(list)
        for target, value in self._assignments():
            for part in ast.walk(target):
                if name := dotted(part):
                    # an attribute such as self.cos is set in one method and used in another
                    found[None if "." in name else self.function(target), name].append(value)
        return dict(found)

    def _assignments(self) -> Iterator[tuple[ast.expr, ast.expr]]:
        for node in self.nodes:
            match node:
                case ast.Assign(targets=targets, value=value):
                    yield from ((target, value) for target in targets)
                case (
                    ast.AnnAssign(target=target, value=ast.expr() as value) | ast.AugAssign(target=target, value=value)
                ):
                    yield target, value
                case ast.NamedExpr(target=target, value=value):
                    yield target, value
                case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
                    yield target, value
                case ast.Expr(value=ast.Call(func=ast.Attribute(value=target)) as value):  # model.half()
                    yield target, value

    def words(self, nodes: Iterable[ast.AST]) -> set[str]:
        """The words of all names among the nodes, and of texts that are keys."""
        found: set[str] = set()
        for node in nodes:
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) if name not in SWITCHES:
                    # of what merely holds the attribute the last word counts: not the grad of grad_map.embedding
                    found |= {_words(name)[-1]} if self._holds(node) and _words(name) else split(name)
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
        """Whether the arguments, or the function that the call stands in, are named after gradients."""
        function = self.function(call)
        words = self.words(part for argument in call.args for part in self.origins(argument))
        return bool(GRADIENT & (words | (split(function.name) if function else set())))

    def is_cosine(self, node: ast.AST, words: Iterable[str] = COSINE) -> bool:
        return bool(set(words) & self.words(self.origins(node)))

    def is_layered(self, node: ast.AST) -> bool:
        return bool(LAYER & self.words(self.origins(node)))


def dotted(node: ast.AST) -> str:
    """``a.b.c`` as it is written; empty where the expression is more than a name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def split(name: str) -> set[str]:
    """The words of a name, in small letters: {grad, norm} of ``grad_norm1`` and of ``gradNorm``."""
    return set(_words(name))


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def _gives_eps(call: ast.Call, position: int) -> bool:
    starred = any(k.arg is None for k in call.keywords) or any(isinstance(a, ast.Starred) for a in call.args)
    return starred or len(call.args) > position or any(k.arg == "eps" for k in call.keywords)
