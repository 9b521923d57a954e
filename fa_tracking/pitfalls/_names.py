"""Names in a syntax tree: as they are written, their words, and what a call gives them."""

import ast
import re

Function = ast.FunctionDef | ast.AsyncFunctionDef
Callable = Function | ast.Lambda


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
    return set(words_of(name))


def words_of(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def argument(function: Callable, call: ast.Call, name: str) -> list[ast.expr]:
    """What a call gives an argument of the function that it means."""
    names = parameters(function)
    is_method = isinstance(call.func, ast.Attribute) and names[:1] in (["self"], ["cls"])
    given = dict(zip(names[is_method:], call.args, strict=False)) | {k.arg: k.value for k in call.keywords if k.arg}
    return [given[name]] if name in given and not isinstance(given[name], ast.Starred) else []
