"""numpy's standard deviation divides by n

``np.std`` has ddof = 0: it is the spread of a whole population. Seeds are a sample, so the spread over them is divided
by n − 1 (ddof = 1); over three seeds numpy's default is 18 % too small. torch and pandas divide by n − 1 unless told
otherwise, so a number changes with the library. Here: the accuracies of a small network on three seeds.
"""

import ast
import math
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fa_tracking.pitfalls import Outcome
from fa_tracking.pitfalls._source import dotted, split

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

ORDER = 11
CURE = "n − 1, n beside each mean"
FIX = "give ddof=1, or use statistics.stdev, and print n beside it"

POPULATION = {"numpy.std", "numpy.nanstd", "jax.numpy.std", "jax.numpy.nanstd", "statistics.pstdev"}
SAMPLE = {"torch.std"}
DIVISOR = ("ddof", "correction", "unbiased")
DDOF_AT = 4

SEEDS = (42, 123, 456)
STEPS = 20

OVER_RUNS = {"acc", "accs", "accuracy", "accuracies", "seed", "seeds", "trial", "trials", "runs"}
ONE_RUN = {"run", "seed", "trial"}
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
        if values is not None and _over_runs(source, values):
            yield call, "the standard deviation over runs is divided by n, not by n − 1"


def _values(source: "Source", call: ast.Call) -> ast.expr | None:
    """What the spread is taken of, where the function divides by n; None where it does not, or may not."""
    name, said = source.name(call.func), _said(call)
    if name in POPULATION or (name in SAMPLE and said):
        silent = said is None and 0 < len(call.args) <= DDOF_AT
        return call.args[0] if call.args and (said or silent) else None
    match call.func:
        case ast.Attribute(attr="std", value=values) if not source.is_module(values):
            silent = said is None and len(call.args) < DDOF_AT and _is_numpy(source, values)
            return values if said or silent else None
    return None


def _said(call: ast.Call) -> bool | None:
    """Whether the call says by a keyword that it divides by n; None where it says nothing of it."""
    given = [k for k in call.keywords if k.arg in (*DIVISOR, None)]
    if not given:
        return None
    return any(isinstance(k.value, ast.Constant) and k.value.value == 0 for k in given)  # False == 0


def _is_numpy(source: "Source", node: ast.expr, steps: int = 2) -> bool:
    """Whether an array is numpy's, as far as the code shows."""
    match node:
        case ast.Call(func=ast.Attribute() as function):
            return source.name(function).startswith("numpy.") or _is_numpy(source, function.value, steps)
        case ast.Subscript():
            return _is_numpy(source, node.value, steps)
        case ast.Name() if steps:
            return any(_is_numpy(source, made, steps - 1) for made in source.given(node))
    return False


def _over_runs(source: "Source", node: ast.expr) -> bool:
    words = source.words(ast.walk(node))
    if OVER_RUNS & words or (SPLIT & words and SCORE & words):
        return True
    loops = (part for part in source.origins(node) if isinstance(part, ast.comprehension))
    return any(ONE_RUN & split(dotted(loop.target)) for loop in loops)
