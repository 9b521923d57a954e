"""A cosine that is written out: a dot product divided by two norms, with or without an eps."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from fa_tracking.pitfalls._names import dotted, last_name, parameters, split
from fa_tracking.pitfalls._source import Source

NORMS = {"norm", "vector_norm"}
NORM_NAMES = {"norm", "norms", "magnitude"}
PRODUCTS = {"dot", "vdot", "vecdot", "inner", "matmul", "mm", "mv", "bmm", "einsum", "tensordot"}
SUMS = {"sum", "nansum", "reduce_sum"}
ROOTS = {"sqrt"}
LIMITS = {"max", "maximum", "clamp", "clamp_min", "clip", "clip_by_value"}
SAME = {"float", "item", "abs", "squeeze", "detach", "cpu", "numpy", "double", "astype", "asarray", "array", "tensor"}
"""Calls that leave a number what it is."""
EPS = {"eps", "epsilon"}
NEGLIGIBLE = 1e-24
"""An eps up to this hardly changes the cosine of float32 gradients."""
SMALL = 0.01


@dataclass(frozen=True)
class Quotient:
    """A dot product divided by two norms.

    Attributes:
        dot: the product, where the code writes it.
        has_eps: something is added to the norms, or they are not let below it.
    """

    node: ast.expr
    dot: ast.expr
    has_eps: bool


_READ: "WeakKeyDictionary[Source, list[Quotient]]" = WeakKeyDictionary()


def quotients_of(source: Source) -> list[Quotient]:
    """Every quotient of a source; it is read once."""
    if source not in _READ:
        _READ[source] = list(Reader(source).quotients())
    return _READ[source]


class Reader:
    """Reads quotients in one source."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def quotients(self) -> Iterator[Quotient]:
        for node in self._source.walk(ast.BinOp):
            if isinstance(node.op, ast.Div):
                yield from self._divided(node)
        for product in self._source.nodes:
            if isinstance(product, ast.BinOp | ast.Call):
                yield from self._of_units(product)

    def _divided(self, node: ast.BinOp) -> Iterator[Quotient]:
        above = self._source.parent(node)
        if isinstance(above, ast.BinOp) and isinstance(above.op, ast.Div) and above.left is node:
            return  # a @ b / a.norm() / b.norm() is one quotient
        dot, divisors = _numerator(node), _divisors(node)
        if sum(map(self._norms, divisors)) >= 2 and (product := self._dot(dot)):
            yield Quotient(node, product, any(map(self._has_eps, divisors)))

    def _of_units(self, node: ast.BinOp | ast.Call) -> Iterator[Quotient]:
        """``(a / a.norm()) @ (b / b.norm())``, also where the two stand in names."""
        factors = self._factors(node)
        units = [unit for factor in factors for unit in self._values(factor) if self._is_unit(unit)]
        if len(factors) == 2 and len(units) >= 2:
            yield Quotient(node, node, any(self._has_eps(unit.right) for unit in units if isinstance(unit, ast.BinOp)))

    def _is_unit(self, node: ast.expr) -> bool:
        return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and self._norms(node.right) == 1

    def _values(self, node: ast.expr) -> list[ast.expr]:
        """The expression, or what its name is given."""
        return list(self._source.given(node)) if dotted(node) else [node]

    def _norms(self, node: ast.expr, steps: int = 2) -> int:
        """How many norms are multiplied."""
        found = 0
        match node:
            case ast.Call() if last_name(node) in NORMS:
                found = 1
            case ast.Call(args=[inside, *_]) if last_name(node) in ROOTS:
                found = self._squares(inside)
            case ast.BinOp(op=ast.Pow(), left=inside, right=ast.Constant(value=0.5)):
                found = self._squares(inside)
            case ast.BinOp(op=ast.Mult(), left=left, right=right):
                found = self._norms(left, steps) + self._norms(right, steps)
            case ast.BinOp(op=ast.Add(), left=left, right=right) | ast.IfExp(body=left, orelse=right):
                found = max(self._norms(left, steps), self._norms(right, steps))
            case ast.Call() if last_name(node) in LIMITS | SAME:
                found = max((self._norms(each, steps) for each in _operands(node)), default=0)
            case ast.Subscript(value=inside):
                found = self._norms(inside, steps)
            case ast.Name() | ast.Attribute() if dotted(node):
                values = self._source.given(node) if steps else ()
                named = bool(NORM_NAMES & split(dotted(node).rpartition(".")[2]))
                found = max((self._norms(value, steps - 1) for value in values), default=int(named))
        return found

    def _squares(self, node: ast.expr) -> int:
        """How many sums of squares are multiplied; eps may be added."""
        match node:
            case ast.BinOp(op=ast.Mult(), left=left, right=right):
                return self._squares(left) + self._squares(right)
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                return max(self._squares(left), self._squares(right))
        return int(any(_is_sum_of_squares(part) for part in ast.walk(node)))

    def _has_eps(self, node: ast.expr, steps: int = 2) -> bool:
        found = False
        match node:
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                found = self._is_eps(left) or self._is_eps(right)
            case ast.BinOp(left=left, right=right) | ast.IfExp(body=left, orelse=right):
                found = self._has_eps(left, steps) or self._has_eps(right, steps)
            case ast.Call() if last_name(node) in LIMITS:
                operands = _operands(node)
                found = any(map(self._is_eps, operands)) or any(self._has_eps(each, steps) for each in operands)
            case ast.Call() if last_name(node) in ROOTS | SAME:
                found = any(self._has_eps(each, steps) for each in _operands(node))
            case ast.Subscript(value=inside):
                found = self._has_eps(inside, steps)
            case ast.Name() | ast.Attribute() if steps and dotted(node):
                found = any(self._has_eps(value, steps - 1) for value in self._source.given(node))
        return found

    def _is_eps(self, node: ast.expr, steps: int = 3) -> bool:
        """A small number, or a name for one that is not known to be 0 or negligible."""
        match node:
            case ast.Constant(value=int() | float() as number):
                return NEGLIGIBLE < number <= SMALL
            case ast.Attribute(value=ast.Call()):  # np.finfo(float).eps
                return node.attr == "eps"
            case ast.Name() | ast.Attribute() if EPS & split(dotted(node).rpartition(".")[2]):
                known = [*self._source.given(node), *self._source.passed(node), *self._defaults(node)] if steps else []
                return not known or any(self._is_eps(value, steps - 1) for value in known)
        return False

    def _defaults(self, node: ast.expr) -> list[ast.expr]:
        function = self._source.function(node)
        if function is None:
            return []
        arguments = function.args
        places = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
        own = dict(zip(reversed(places), reversed(arguments.defaults), strict=False))
        own |= {a.arg: d for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d}
        return [own[dotted(node)]] if dotted(node) in own and dotted(node) in parameters(function) else []

    def _dot(self, node: ast.expr, steps: int = 2) -> ast.expr | None:
        """The product of two vectors, where the code writes it."""
        match node:
            case ast.BinOp() | ast.Call() if self._factors(node):
                return node
            case ast.Call() if last_name(node) in SAME:
                inside = _operands(node)
            case ast.UnaryOp(operand=each) | ast.Subscript(value=each):
                inside = [each]
            case ast.Name() | ast.Attribute() if steps and dotted(node):
                inside, steps = list(self._source.given(node)), steps - 1
            case _:
                return None
        return next((found for each in inside if (found := self._dot(each, steps))), None)

    def _factors(self, node: ast.expr) -> list[ast.expr]:
        """The two vectors of a product: of ``a @ b``, ``np.dot(a, b)``, ``(a * b).sum()``."""
        match node:
            case ast.BinOp(op=ast.MatMult(), left=left, right=right):
                return [left, right]
            case ast.Call() if last_name(node) in PRODUCTS:
                vectors = [each for each in _operands(node) if not isinstance(each, ast.Constant)]
                return vectors[-2:] if len(vectors) > 1 else []
            case ast.Call() if last_name(node) in SUMS:
                for each in _operands(node):
                    inside = each.elt if isinstance(each, ast.GeneratorExp | ast.ListComp) else each
                    match inside:
                        case ast.BinOp(op=ast.Mult(), left=left, right=right):
                            return [left, right]
                        case ast.Call() if last_name(inside) in ("mul", "multiply"):
                            return _operands(inside)[-2:]
                        case ast.Call() if inside is not node:
                            if factors := self._factors(inside):
                                return factors
        return []


def _numerator(node: ast.expr) -> ast.expr:
    """``x`` of ``x / a / b``."""
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        node = node.left
    return node


def _divisors(node: ast.expr) -> list[ast.expr]:
    """``a`` and ``b`` of ``x / a / b``."""
    is_division = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
    return [*_divisors(node.left), node.right] if isinstance(node, ast.BinOp) and is_division else []


def _operands(call: ast.Call) -> list[ast.expr]:
    """What a function is called with, and what a method is called of."""
    receiver = [call.func.value] if isinstance(call.func, ast.Attribute) else []
    return [*receiver, *call.args, *(k.value for k in call.keywords)]


def _is_sum_of_squares(node: ast.AST) -> bool:
    """``(x ** 2).sum()``, ``np.sum(x * x)``, ``x @ x``, ``np.dot(x, x)``."""
    match node:
        case ast.BinOp(op=ast.Pow(), right=ast.Constant(value=2)):
            return True
        case ast.BinOp(op=ast.Mult() | ast.MatMult(), left=left, right=right):
            return ast.dump(left) == ast.dump(right)
        case ast.Call(args=args) if last_name(node) in PRODUCTS | {"square"}:
            vectors = [ast.dump(each) for each in _operands(node)][-2:]
            return last_name(node) == "square" or (bool(args) and len(set(vectors)) == 1)
    return False
