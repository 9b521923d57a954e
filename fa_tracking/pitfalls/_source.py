"""A user's Python code as the rules read it: its syntax tree with imports resolved, never imported and never run."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from fa_tracking.pitfalls._quotient import Quotient

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

Function = ast.FunctionDef | ast.AsyncFunctionDef
Callable = Function | ast.Lambda


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

    @cached_property
    def quotients(self) -> list["Quotient"]:
        from fa_tracking.pitfalls._quotient import Reader

        return list(Reader(self).quotients())

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


def parameters(function: Callable) -> list[str]:
    """The names of a function's arguments, in order."""
    arguments = function.args
    return [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def last_name(call: ast.Call) -> str:
    """``norm`` of ``torch.linalg.norm(x)`` and of ``x.flatten().norm()``."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


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


def argument(function: Callable, call: ast.Call, name: str) -> list[ast.expr]:
    """What a call gives an argument of the function that it means."""
    names = parameters(function)
    is_method = isinstance(call.func, ast.Attribute) and names[:1] in (["self"], ["cls"])
    given = dict(zip(names[is_method:], call.args, strict=False)) | {k.arg: k.value for k in call.keywords if k.arg}
    return [given[name]] if name in given and not isinstance(given[name], ast.Starred) else []


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


def _gives_eps(call: ast.Call, position: int) -> bool:
    starred = any(k.arg is None for k in call.keywords) or any(isinstance(a, ast.Starred) for a in call.args)
    return starred or len(call.args) > position or any(k.arg == "eps" for k in call.keywords)
