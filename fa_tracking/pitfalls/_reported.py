"""Whether a value in the code is reported, or only used on the way."""

import ast
from typing import TYPE_CHECKING

from fa_tracking.pitfalls._names import last_name
from fa_tracking.pitfalls._splits import (
    ERROR,
    SCORE,
    TEST,
    split_of,
)

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

BEST = {"best", "max", "highest", "top", "peak", "record", "min", "lowest"}
NOT_REPORTED = {
    *(
        "ylim",
        "set_ylim",
        "xlim",
        "set_xlim",
        "axis",
        "linspace",
        "arange",
        "range",
        "hist",
        "plot",
        "annotate",
        "text",
    ),
    *("axhline", "axvline", "hlines", "vlines", "fill_between", "scatter", "bar", "set_yticks", "yticks", "Normalize"),
}


def is_reported(source: "Source", call: ast.expr) -> bool:
    below: ast.AST = call
    for above in source.parents(call):
        match above:
            case ast.Call() if last_name(above) in NOT_REPORTED:
                return False
            case ast.Assert() | ast.Compare() | ast.Slice():
                return False
            case ast.BinOp() if not isinstance(above.op, ast.Mult | ast.Mod | ast.Add | ast.Sub):
                return False
            case ast.Assign(targets=[target]):
                named = source.words(ast.walk(target))
                return not {"y", "x", "lim", "ymax", "ymin"} & named and bool((BEST | SCORE | ERROR | TEST) & named)
            case ast.stmt():
                return not isinstance(above, ast.If | ast.While | ast.For) or below in above.body
        below = above
    return False


def is_picked_on_validation(source: "Source", call: ast.expr) -> bool:
    """Whether the function also picks an epoch on the validation split: then that is the result."""
    function = source.function(call)
    for node in ast.walk(function) if function else ():
        if isinstance(node, ast.Call) and last_name(node) in ("argmax", "argmin", "nanargmax", "nanargmin", "index"):
            words = source.words(part for part in ast.walk(node))
            if split_of(words) == "other" and not {"train", "training", "tr"} & words:
                return True
    return False
