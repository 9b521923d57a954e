"""eval() stays on until train() is called

A network that is put into evaluation mode at the end of an epoch stays in it: from the second epoch on, dropout drops
nothing and batch normalization learns no statistics, so what is reported is another training than the one described.
A ``train()`` before the loop does not help. Here: the batches of which batch normalization takes notice in three
epochs.
"""

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fa_tracking.pitfalls import Outcome
from fa_tracking.pitfalls._names import Callable, Function, argument, dotted, last_name, parameters, split

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

ORDER = 13
CURE = "the mode is put back"
FIX = "call train() at the start of every epoch, or right after the evaluation"

EPOCHS, BATCHES = 3, 4

OTHERS = {
    *("teacher", "target", "ema", "reference", "ref", "frozen", "pretrained", "old", "vgg", "lpips", "inception"),
    *("bn", "batchnorm", "norm", "dropout", "feature", "features", "extractor", "anchor", "judge", "prior", "oracle"),
}
"""Modules that are meant to stay in evaluation mode."""
MEMBERS = {"modules", "children", "named_modules", "named_children"}
DEPTH = 3


def reproduce() -> Outcome:
    import torch

    from fa_tracking.pitfalls._tiny import data

    noticed = {}
    for puts_back in (True, False):
        net = torch.nn.BatchNorm1d(16)
        for epoch in range(EPOCHS):
            if puts_back or epoch == 0:
                net.train()
            for batch in range(BATCHES):
                net(data(8, seed=batch)[0])
            net.eval()
        noticed[puts_back] = float(net.state_dict()["num_batches_tracked"])
    expected, seen = noticed[True], noticed[False]
    return Outcome({"batches": expected}, {"batches": seen}, (expected, seen) == (EPOCHS * BATCHES, BATCHES))


def find(source: "Source") -> Iterator[tuple[ast.AST, str]]:
    for call in source.calls():
        if _is_eval(source, call) and _is_trained(source, call) and any(_trains_on(source, call)):
            yield call, "the next round of the loop trains in evaluation mode: no train() follows"


def _is_eval(source: "Source", call: ast.Call) -> bool:
    """``model.eval()``, ``model.train(False)``."""
    if not isinstance(call.func, ast.Attribute) or source.is_module(call.func.value):
        return False
    return (call.func.attr == "eval" and not call.args and not call.keywords) or _is_train_false(call)


def _is_train_false(call: ast.Call) -> bool:
    given = [*call.args, *(k.value for k in call.keywords)]
    return last_name(call) == "train" and any(isinstance(v, ast.Constant) and v.value is False for v in given)


def _is_trained(source: "Source", call: ast.Call) -> bool:
    """Not a teacher, a frozen part or one that no optimizer of the file holds."""
    receiver = call.func.value if isinstance(call.func, ast.Attribute) else call
    if not isinstance(receiver, ast.Name | ast.Attribute | ast.Subscript) or OTHERS & source.words(ast.walk(receiver)):
        return False
    if any(isinstance(v, ast.Call) and last_name(v) in MEMBERS for v in source.given(receiver)):
        return False
    held = {
        dotted(each.func.value).rpartition(".")[2]
        for each in source.calls()
        if isinstance(each.func, ast.Attribute) and each.func.attr in ("parameters", "named_parameters")
    }
    names = {dotted(part).rpartition(".")[2] for part in source.origins(receiver)}
    return not held or bool(held & names) or source.is_argument(receiver) or "self" in held | names


def _trains_on(source: "Source", call: ast.Call) -> Iterator[bool]:
    """For every loop that comes to the call again: whether it trains, and does not call train()."""
    receiver = dotted(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    for loop, way in _loops(source, call, receiver, DEPTH):
        if _leaves(source, way, loop) or _is_last_round(source, way, loop):
            continue
        nodes = _reached(source, loop, DEPTH)
        trains = any(isinstance(node, ast.Call) and _is_step(source, node) for node in nodes)
        yield trains and not any(_puts_back(source, node) for node in nodes) and not _only_judges(source, call, loop)


def _is_step(source: "Source", call: ast.Call) -> bool:
    """``loss.backward()``, ``torch.autograd.grad(…)``."""
    return last_name(call) == "backward" or source.name(call.func) == "torch.autograd.grad"


def _loops(source: "Source", node: ast.AST, receiver: str, depth: int) -> Iterator[tuple[ast.For | ast.While, ast.AST]]:
    """The loops around a node, and around the calls of its function, that come back with the same network."""
    for above in source.parents(node):
        if isinstance(above, ast.For | ast.While) and not _is_made_in(above, receiver):
            yield above, node
        if isinstance(above, Function):
            if receiver.partition(".")[0] in parameters(above) or not _is_made_in(above, receiver):
                for caller in source.callers(above) if depth else ():
                    for passed in _passed(above, caller, receiver):
                        yield from _loops(source, caller, passed, depth - 1)
            return


def _passed(function: Callable, caller: ast.Call, receiver: str) -> list[str]:
    """What the caller of a function calls the network that the function calls ``receiver``."""
    root = receiver.partition(".")[0]
    if root == "self" and isinstance(caller.func, ast.Attribute):
        return [receiver if dotted(caller.func.value) == "self" else dotted(caller.func.value)]
    return [dotted(given) for given in argument(function, caller, root)] if root in parameters(function) else [receiver]


def _is_made_in(node: ast.AST, receiver: str) -> bool:
    """Whether a network is made anew inside: the next round has another one, which trains until told otherwise."""
    names = {receiver.rsplit(".", cut)[0] for cut in range(receiver.count(".") + 1)} if receiver else set()
    places = (part for part in ast.walk(node) if isinstance(part, ast.Name | ast.Attribute))
    return any(isinstance(place.ctx, ast.Store) and dotted(place) in names for place in places)


def _leaves(source: "Source", node: ast.AST, loop: ast.AST) -> bool:
    """Whether the loop ends after the node: a break or return behind it in a block inside the loop."""
    inside: ast.AST = node
    for above in source.parents(node):
        for block in (getattr(above, "body", None), getattr(above, "orelse", None)):
            if isinstance(block, list) and inside in block:
                behind = block[block.index(inside) + 1 :]
                if any(isinstance(statement, ast.Break | ast.Return | ast.Raise) for statement in behind):
                    return True
        if above is loop:
            return False
        inside = above
    return False


def _is_last_round(source: "Source", node: ast.AST, loop: ast.AST) -> bool:
    """``if epoch == epochs - 1:``."""
    for above in source.parents(node):
        if above is loop:
            return False
        match above:
            case ast.If(test=ast.Compare(ops=[ast.Eq()], comparators=[ast.BinOp(op=ast.Sub())])):
                return True
    return False


def _reached(source: "Source", node: ast.AST, depth: int) -> list[ast.AST]:
    """All nodes of a loop, and of the file's functions that it calls."""
    found, seen, left = [], set(), [(node, depth)]
    while left:
        start, depth = left.pop()
        if id(start) in seen:
            continue
        seen.add(id(start))
        for part in ast.walk(start):
            found.append(part)
            if depth and isinstance(part, ast.Call):
                left += [(function, depth - 1) for function in source.callees(part)]
    return found


def _puts_back(source: "Source", node: ast.AST) -> bool:
    """``model.train()``, ``model.train(was)``, ``model.training = True``, or a helper from elsewhere that may do so."""
    match node:
        case ast.Call(func=ast.Attribute(attr="train")):
            return not _is_train_false(node)
        case ast.Call():
            return "train" in split(last_name(node)) and not source.callees(node) and last_name(node) != "train"
        case ast.Assign(targets=[ast.Attribute(attr="training")]):
            return not (isinstance(node.value, ast.Constant) and node.value.value is False)
    return False


def _only_judges(source: "Source", call: ast.Call, loop: ast.AST) -> bool:
    """Whether the loop calls the network, and only without gradients: as it does a teacher."""
    receiver = ast.dump(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    uses = [node for node in ast.walk(loop) if isinstance(node, ast.Call) and ast.dump(node.func) == receiver]
    return bool(uses) and all(_is_without_gradients(source, use) for use in uses)


def _is_without_gradients(source: "Source", node: ast.AST) -> bool:
    managers = [
        item.context_expr for above in source.parents(node) if isinstance(above, ast.With) for item in above.items
    ]
    return any(isinstance(m, ast.Call) and last_name(m) in ("no_grad", "inference_mode") for m in managers)
