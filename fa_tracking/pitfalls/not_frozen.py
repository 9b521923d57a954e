"""A module's requires_grad attribute freezes nothing

``layer.requires_grad = False`` is right of a tensor. A module has no such attribute: Python puts a new one on it that
nobody reads, its parameters go on learning, and the "frozen" control is a trained network. ``requires_grad_(False)``,
with an underscore, is the module's method. Here: a layer so frozen, before and after one step of gradient descent.
"""

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fa_tracking.pitfalls import Outcome
from fa_tracking.pitfalls._names import dotted, last_name, split

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

ORDER = 12
CURE = "module.requires_grad_(False)"
FIX = "call module.requires_grad_(False), or set requires_grad of each of module.parameters()"

MODULES = {
    *("model", "net", "network", "module", "layer", "block", "conv", "fc", "linear", "lin", "head", "backbone"),
    *("encoder", "decoder", "classifier", "lstm", "gru", "rnn", "transformer", "bn", "mlp", "cnn", "resnet", "vgg"),
    *("trunk", "stem", "teacher", "student", "generator", "discriminator", "critic", "actor", "extractor"),
}
"""What a name ends in that stands for a module, where the file does not show what it is given."""
LISTS = {"children", "modules", "layers", "blocks", "convs", "fcs", "linears", "heads"}
MEMBERS = {"modules", "children", "named_modules", "named_children"}
HOLDERS = {f"torch.nn.{name}" for name in ("ModuleList", "ModuleDict", "Sequential")}
TENSORS = {"Parameter", "Buffer", "UninitializedParameter"}
MAKERS = {"from_pretrained", "create_model"}
KEPT = {"to", "cuda", "cpu", "float", "double", "half", "eval", "train", "apply"}
"""Methods of a module that return it."""


def reproduce() -> Outcome:
    import torch

    from fa_tracking.pitfalls._tiny import data

    moved = {}
    for name in ("requires_grad_(False)", "requires_grad = False"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            frozen, head = torch.nn.Linear(16, 8), torch.nn.Linear(8, 10)
        if name.endswith("_(False)"):
            frozen.requires_grad_(False)
        else:
            frozen.requires_grad = False  # type: ignore[assignment]  # fa-track: ignore
        before = frozen.weight.detach().clone()
        x, y = data(32, seed=1)
        torch.nn.functional.cross_entropy(head(frozen(x)), y).backward()
        with torch.no_grad():
            for parameter in (*frozen.parameters(), *head.parameters()):
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad)
        moved[name] = (frozen.weight.detach() - before).abs().max().item()
    stays, moves = moved.values()
    return Outcome({"moved": stays}, {"moved": moves}, stays == 0 < moves)


def find(source: "Source") -> Iterator[tuple[ast.AST, str]]:
    for node, module in _set(source):
        if _is_module(source, module):
            yield node, f"{dotted(module) or 'a module'} is a module: its parameters go on learning"


def _set(source: "Source") -> Iterator[tuple[ast.AST, ast.expr]]:
    """Where the attribute is set, and of what."""
    for node in source.nodes:
        match node:
            case ast.Assign(targets=targets):
                for target in targets:
                    for part in ast.walk(target):
                        if isinstance(part, ast.Attribute) and part.attr == "requires_grad" and _is_stored(part):
                            yield node, part.value
            case ast.Call(func=ast.Name(id="setattr"), args=[module, ast.Constant(value="requires_grad"), _]):
                yield node, module


def _is_stored(node: ast.Attribute) -> bool:
    return isinstance(node.ctx, ast.Store)


def _is_module(source: "Source", node: ast.expr, steps: int = 3) -> bool:
    known = [made for value in source.given(node) for made in _elements(source, node, value)] if dotted(node) else []
    if isinstance(node, ast.Subscript):
        return _is_list(source, node.value, steps) or _makes_module(source, node.value, steps)
    if isinstance(node, ast.Call):
        return _makes_module(source, node, steps)
    if known and not all(_is_unknown(source, made) for _, made in known):
        return bool(steps) and any(
            _is_list(source, made, steps - 1) if of_list else _makes_module(source, made, steps - 1)
            for of_list, made in known
        )
    if annotation := _annotation(source, node):
        return annotation.rpartition(".")[2] in ("Module", "Sequential")
    last = dotted(node).rpartition(".")[2]
    return last != "self" and bool(MODULES & _ends(last)) and dotted(node) != "self"


def _is_unknown(source: "Source", node: ast.expr) -> bool:
    """Whether it comes from a class or a function that the file does not show: ``Net(10)``."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return False
    elsewhere = source.name(node.func).partition(".")[0] not in ("torch", "numpy", "jax", "torchvision")
    return elsewhere and not _makes_module(source, node, 0) and node.func.id[:1].isupper()


def _elements(source: "Source", node: ast.expr, value: ast.expr) -> Iterator[tuple[bool, ast.expr]]:
    """What a name is given, and whether it is an element of it: the target of a loop is."""
    above = source.parent(value)
    looped = isinstance(above, ast.For | ast.comprehension) and above.iter is value
    if looped or not isinstance(above, ast.Expr):  # a method that is called of it tells nothing
        yield looped, value


def _makes_module(source: "Source", node: ast.expr, steps: int) -> bool:
    """``nn.Linear(3, 4)``, ``models.resnet18()``, ``Net().to(device)``, a class of the file that is a module."""
    match node:
        case ast.Call(func=function):
            name = source.name(function)
            last = last_name(node)
            if name.startswith(("torch.nn.", "torchvision.models.")) and not name.startswith("torch.nn.functional."):
                maker = name.rpartition(".")[2]
                return maker not in TENSORS and ".init." not in name and ".utils." not in name
            if last in MAKERS or _is_class_of_modules(source, name.rpartition(".")[2]):
                return True
            return isinstance(function, ast.Attribute) and last in KEPT and _is_module(source, function.value, steps)
        case ast.Name() | ast.Attribute() | ast.Subscript():
            return steps > 0 and _is_module(source, node, steps - 1)
        case ast.IfExp(body=left, orelse=right):
            return _makes_module(source, left, steps) or _makes_module(source, right, steps)
    return False


def _is_list(source: "Source", node: ast.expr, steps: int) -> bool:
    """Whether what it holds are modules: ``net.children()``, ``[self.conv1, self.fc]``, ``model.layers``."""
    found = False
    match node:
        case ast.List(elts=each) | ast.Tuple(elts=each):
            found = bool(each) and all(_is_module(source, one, steps) for one in each)
        case ast.Call(args=[inside, *_]) if dotted(node.func) in ("list", "enumerate", "reversed", "tuple"):
            found = _is_list(source, inside, steps)
        case ast.Call(func=ast.Attribute(value=inside, attr="items" | "values")) | ast.Subscript(value=inside):
            found = _is_list(source, inside, steps)
        case ast.Call():
            found = last_name(node) in MEMBERS or source.name(node.func) in HOLDERS
        case ast.ListComp(elt=made):
            found = _makes_module(source, made, steps)
        case ast.Name() | ast.Attribute():
            values = [v for v in source.given(node) if not isinstance(source.parent(v), ast.Expr) and not _is_empty(v)]
            found = any(_is_list(source, value, steps - 1) for value in values) if steps else False
            found = found or (not values and dotted(node).rpartition(".")[2] in LISTS)
    return found


def _is_class_of_modules(source: "Source", name: str, steps: int = 3) -> bool:
    for made in source.walk(ast.ClassDef):
        if made.name == name and steps:
            bases = [source.name(base).rpartition(".")[2] for base in made.bases]
            return any(b in ("Module", "Sequential") or _is_class_of_modules(source, b, steps - 1) for b in bases)
    return False


def _annotation(source: "Source", node: ast.expr) -> str:
    """The type that an argument is said to have."""
    function = source.function(node)
    for part in ast.walk(function.args) if function else ():
        if isinstance(part, ast.arg) and part.arg == dotted(node) and part.annotation:
            return source.name(part.annotation) or "?"
    return ""


def _ends(name: str) -> set[str]:
    """The last word of a name: {layer} of ``first_layer2``."""
    words = [word for word in name.lower().replace("_", " ").split() if not word.isdigit()]
    return split(words[-1]) if words else set()


def _is_empty(node: ast.expr) -> bool:
    return isinstance(node, ast.List) and not node.elts
