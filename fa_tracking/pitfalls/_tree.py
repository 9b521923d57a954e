"""The syntax tree of a user's Python code, its imports resolved: never imported and never run."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TypeVar

from fa_tracking.pitfalls._names import Callable, Function, argument, dotted, parameters

Node = TypeVar("Node", bound=ast.AST)

CUSTOMARY = {
    "np": "numpy",
    "jnp": "jax.numpy",
    "nn": "torch.nn",
    "F": "torch.nn.functional",
    "tf": "tensorflow",
    "optim": "torch.optim",
}
"""What a name stands for that the file does not import itself: in a notebook's later cell, or by a star import."""


class Tree:
    """A syntax tree with what stands around each node, what names mean, and what they are given."""

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

    def named(self, node: ast.AST) -> list[Callable]:
        """The functions, methods and lambdas of the file that a name may mean, by its last part alone."""
        return self._callables.get(dotted(node).rpartition(".")[2], [])

    def callees(self, call: ast.Call) -> list[Callable]:
        """What a call may mean."""
        return self.named(call.func)

    def callers(self, function: Callable) -> list[ast.Call]:
        """The calls in the file that may mean a function."""
        return self._calls_of.get(function, [])

    @cached_property
    def _callables(self) -> dict[str, list[Callable]]:
        found: dict[str, list[Callable]] = defaultdict(list)
        for node in self.nodes:
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    found[node.name].append(node)
                case ast.Assign(targets=[target], value=ast.Lambda() as made) if dotted(target):
                    found[dotted(target).rpartition(".")[2]].append(made)
        return dict(found)

    @cached_property
    def _calls_of(self) -> dict[Callable, list[ast.Call]]:
        found: dict[Callable, list[ast.Call]] = defaultdict(list)
        for call in self.calls():
            for function in self.callees(call):
                found[function].append(call)
        return dict(found)

    def passed(self, node: ast.AST) -> list[ast.expr]:
        """What the calls in the file give a name that is an argument of the function or the lambda around it."""
        name = node.id if isinstance(node, ast.Name) else ""
        around = (above for above in self.parents(node) if isinstance(above, Callable)) if name else iter(())
        for function in around:
            if name in parameters(function):
                return [given for call in self.callers(function) for given in argument(function, call, name)]
        return []

    def returned(self, call: ast.Call) -> list[ast.expr]:
        """What the functions of the file that a call may mean return."""
        return [value for function in self.callees(call) for value in self.results(function)]

    def results(self, function: Callable) -> list[ast.expr]:
        """What a function returns."""
        if isinstance(function, ast.Lambda):
            return [function.body]
        returns = (node for node in ast.walk(function) if isinstance(node, ast.Return))
        return [node.value for node in returns if node.value is not None and self.function(node) is function]

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
            for part in _places(target):
                if name := dotted(part):
                    # an attribute such as self.cos is set in one method and used in another
                    found[None if "." in name else self.function(target), name].append(value)
        return dict(found)

    def _assignments(self) -> Iterator[tuple[ast.expr, ast.expr]]:
        for node in self.nodes:
            match node:
                case ast.Assign(targets=targets, value=value):
                    yield from (pair for target in targets for pair in _pairs(target, value))
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


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Each name with its own value where as many are assigned at once: ``a, b = x, y``."""
    match target, value:
        case ((ast.Tuple(elts=names) | ast.List(elts=names)), (ast.Tuple(elts=values) | ast.List(elts=values))) if len(
            names
        ) == len(values) and not any(isinstance(each, ast.Starred) for each in (*names, *values)):
            yield from zip(names, values, strict=True)
        case _:
            yield target, value


def _places(target: ast.AST) -> Iterator[ast.AST]:
    """The names of a target that are given something: not an index, and not what an attribute is set of."""
    match target:
        case ast.Subscript(value=whole):
            yield from _places(whole)
        case ast.Tuple(elts=each) | ast.List(elts=each):
            for one in each:
                yield from _places(one)
        case ast.Starred(value=one):
            yield from _places(one)
        case _:
            yield target
