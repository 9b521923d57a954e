"""numpy's standard deviation divides by n

``np.std`` has ddof = 0: it is the spread of a whole population. Seeds are a sample, so the spread over them is divided by
n − 1 (ddof = 1); over three seeds numpy's default is 18 % too small. torch and pandas divide by n − 1 unless told
otherwise, so a number changes with the library. Here: the accuracies of a small
network on three seeds.
"""

import ast
import math
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fa_tracking.pitfalls import Outcome

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

ORDER = 11
CURE = "n − 1, n beside each mean"
FIX = "give ddof=1, or use statistics.stdev, and print n beside it"

POPULATION = {"numpy.std", "numpy.nanstd", "jax.numpy.std", "jax.numpy.nanstd", "statistics.pstdev"}
DDOF_AT = 4

SEEDS = (42, 123, 456)
STEPS = 20

OVER_RUNS = {"acc", "accs", "accuracy", "accuracies", "seed", "seeds", "trial", "trials", "runs"}
SPLIT = {"test", "train", "val", "valid", "validation", "eval", "final", "best"}
SCORE = {"err", "errs", "error", "errors", "score", "scores", "loss", "losses", "perf"}


def reproduce() -> Outcome:
    import numpy as np

    from fa_tracking.pitfalls._tiny import accuracy, trained

    accuracies = [accuracy(trained(STEPS, seed).evaluation) for seed in SEEDS]
    sample, default = statistics.stdev(accuracies), float(np.std(accuracies))
    shrunk = math.sqrt((len(SEEDS) - 1) / len(SEEDS))
    return Outcome({"sd": sample}, {"np.std": default}, default > 0 and math.isclose(default / sample, shrunk))


def find(source: "Source") -> Iterator[tuple[ast.AST, str]]:
    for call in source.calls():
        values = _values(source, call)
        given = {k.arg for k in call.keywords} & {"ddof", "correction", None}
        if values is not None and not given and _over_runs(source, values):
            yield call, "the standard deviation over runs is divided by n, not by n − 1"


def _values(source: "Source", call: ast.Call) -> ast.expr | None:
    """What the spread is taken of, where the function divides by n; None where it does not, or may not."""
    if source.name(call.func) in POPULATION:
        return call.args[0] if 0 < len(call.args) <= DDOF_AT else None
    method = isinstance(call.func, ast.Attribute) and call.func.attr == "std" and len(call.args) < DDOF_AT
    if not method or source.is_module(call.func.value):
        return None
    return call.func.value if _is_numpy(source, call.func.value) else None


def _is_numpy(source: "Source", node: ast.expr) -> bool:
    """Whether an array is numpy's, as far as the code shows."""
    match node:
        case ast.Call(func=ast.Attribute(value=value) as function):
            return source.name(function).startswith("numpy.") or _is_numpy(source, value)
        case ast.Subscript(value=value):
            return _is_numpy(source, value)
        case ast.Name():
            made = list(source.given(node))
            return any(_is_numpy(source, each) for each in made if each is not node and not isinstance(each, ast.Name))
    return False


def _over_runs(source: "Source", node: ast.expr) -> bool:
    words = source.words(ast.walk(node))
    return bool(OVER_RUNS & words) or bool(SPLIT & words and SCORE & words)
