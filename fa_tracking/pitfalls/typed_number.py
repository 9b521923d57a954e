"""A number typed in for comparison outlives the run that gave it

A baseline's accuracy is typed into a script or a paper once. Then a learning rate changes, a bug is mended, and the
number stays: it is not code, nothing recomputes it and no test fails. In the reference project this happened five
times, and once reached the paper. Here: an accuracy is written into a sentence, the training is then given more steps,
and the sentence is read again.
"""

import ast
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fa_tracking.pitfalls import Outcome
from fa_tracking.pitfalls._names import split

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

ORDER = 8
CURE = "fa-track cite and verify"
FIX = "read it from the run: fa-track cite REFERENCE prints the value and its runs, fa-track verify keeps it true"

COMPARED = {"baseline", "frozen", "control", "published", "reported", "paper", "reference", "sota"}
MEASURED = {"acc", "accs", "accuracy", "accuracies", "gamma", "cos", "cosine", "alignment"}
LIMIT = {"margin", "threshold", "min", "max", "minimum", "maximum", "tolerance", "tol", "limit", "floor", "ceiling"}


def reproduce() -> Outcome:
    from fa_tracking.pitfalls._tiny import STEPS, accuracy, trained

    paper = f"DFA reaches an accuracy of {accuracy(trained(STEPS // 3).evaluation):.3f}."
    now = accuracy(trained().evaluation)
    typed = float(re.findall(r"\d\.\d+", paper)[0])
    return Outcome({"the run": now}, {"the paper": typed}, abs(now - typed) > 0.0005)


def find(source: "Source") -> Iterator[tuple[ast.AST, str]]:
    for node, name, value in source.bindings():
        words = split(name)
        if COMPARED & words and MEASURED & words and not LIMIT & words and _is_share(value):
            yield node, f"{name} is typed in: no run stands behind it"


def _is_share(node: ast.expr) -> bool:
    """A number, or a list or dictionary of them, as an accuracy or a cosine is printed; 0.5 and 1.0 are limits."""
    match node:
        case ast.List(elts=numbers) | ast.Tuple(elts=numbers) | ast.Dict(values=numbers):
            pass
        case _:
            numbers = [node]
    values = [n.operand if isinstance(n, ast.UnaryOp) else n for n in numbers]
    return bool(values) and all(isinstance(v, ast.Constant) and _typed(v.value) for v in values)


def _typed(value: object) -> bool:
    return isinstance(value, float) and 0 < value < 100 and value not in (0.5, 1.0)
