"""One layer makes the mean over layers

Layer 0 sits right behind the input and often aligns well, the deep layers hardly at all; the mean over layers then
speaks of "the network's alignment" and is layer 0's share (the protocol's own case: +0.43 at layer 0, about 0 or below
at depth). On a ViT no layer does this, so the mean does not even err in one direction. Here: a small network trained by
DFA, its mean over layers beside the median layer.
"""

import ast
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fa_tracking.pitfalls import Outcome
from fa_tracking.pitfalls._source import COSINE, GAMMA, dotted, split

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

ORDER = 6
CURE = "Γ per layer, no mean alone"
FIX = "report the cosine of each layer; where a mean is wanted, print it beside them"

MEANS = {"numpy.mean", "numpy.nanmean", "numpy.average", "torch.mean", "statistics.mean", "statistics.fmean"}
GATHERING = {"torch.stack", "torch.cat", "torch.tensor", "torch.as_tensor", "numpy.array", "numpy.asarray", "list"}
REPEATED = {"seed", "run", "trial", "sample", "batch", "epoch", "step", "episode", "env", "fold", "draw", "loader"}
"""What a mean may well go over, in the singular."""


def reproduce() -> Outcome:
    from fa_tracking.pitfalls._tiny import credit, trained
    from fa_tracking.protocol.alignment import alignment

    net, matrices, evaluation = trained()
    gamma = [g for g in alignment(net, [evaluation], credit(matrices), [], floor=0).gamma if g is not None]
    mean, median = statistics.mean(gamma), statistics.median(gamma)
    seen = {"mean": mean, "layer 0": gamma[0]}
    return Outcome({"median layer": median}, seen, gamma[0] > sum(gamma[1:]) and mean > 1.3 * median)


def find(source: "Source") -> Iterator[tuple[ast.AST, str]]:
    for call in source.calls():
        values = _averaged(source, call)
        named = values is not None and source.is_cosine(values, COSINE | GAMMA) and source.is_layered(values)
        if named or _is_mean_of_gammas(source, call):
            yield call, "a mean of cosines over layers: one layer can make it"


def _averaged(source: "Source", call: ast.Call) -> ast.expr | None:
    if source.name(call.func) in MEANS and call.args:
        return call.args[0]
    parent = source.parent(call)
    is_sum = isinstance(call.func, ast.Name) and call.func.id == "sum" and len(call.args) == 1
    return call.args[0] if is_sum and isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Div) else None


def _is_mean_of_gammas(source: "Source", call: ast.Call) -> bool:
    """``np.mean(gammas)``, ``torch.stack(gammas).mean()``: a plain list of Γ, not gathered over seeds or samples."""
    values = _averaged(source, call)
    if values is None and isinstance(call.func, ast.Attribute) and call.func.attr == "mean" and not call.args:
        values = call.func.value
    while isinstance(values, ast.Call):
        inner = values.func
        if isinstance(inner, ast.Attribute) and inner.attr == "values":
            values = inner.value
        else:
            values = values.args[0] if source.name(inner) in GATHERING and values.args else None
    if values is None or call.keywords or "gammas" not in split(dotted(values).rpartition(".")[2]):
        return False
    made = list(source.given(values))
    loops = (above for value in made for above in source.parents(value) if isinstance(above, ast.For))
    parts = [values, *made, *(part for loop in loops for part in (loop.target, loop.iter))]
    words = source.words(part for each in parts for part in ast.walk(each))
    return not REPEATED & (words | {word.removesuffix("s") for word in words})
