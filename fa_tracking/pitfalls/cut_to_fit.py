"""Matrices of other shapes cannot be cut to one length and compared

Two flattened matrices that are cut to the shorter one's length do have a cosine, but entry i of the one is another
synapse than entry i of the other, since the rows have other lengths. Where the matrices belong together the cosine
reads as chance; where both have a mean it reads as alignment. Here: feedback that is the very weights of half the
units.
"""

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fa_tracking.pitfalls import Outcome
from fa_tracking.pitfalls._names import dotted, last_name, split
from fa_tracking.pitfalls._quotient import quotients_of
from fa_tracking.pitfalls._source import COSINE_FUNCTIONS

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

ORDER = 15
CURE = "equal shapes, or an error"
FIX = "compare what has one shape, the same units in the same order; where the shapes differ there is no cosine"

CLASSES, WIDTH = 10, 64

ALIKE = {"cos", "cosine", "cossim", "angle", "alignment", "align", "similarity", "sim"}
SEQUENCES = {
    *("audio", "wave", "waveform", "wav", "signal", "signals", "frame", "frames", "token", "tokens", "text", "texts"),
    *(
        "seq",
        "seqs",
        "sequence",
        "sequences",
        "time",
        "trajectory",
        "series",
        "spectrum",
        "spectrogram",
        "word",
        "words",
    ),
    *("sentence", "sentences", "query", "queries", "emb", "embs", "embedding", "embeddings", "history", "steps"),
}
"""What has a beginning: its first entries may well be compared."""
SIZES = {"len", "numel", "size", "prod"}
CUTTERS = {"narrow", "resize", "resize_", "dynamic_slice", "slice_in_dim", "dynamic_slice_in_dim", "islice"}
FLAT = {"flatten", "ravel", "view", "reshape"}
DEPTH = 3


def reproduce() -> Outcome:
    import torch

    from fa_tracking.protocol.norms import cosine

    weights = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(0))
    feedback = weights[:, : WIDTH // 2]
    true = cosine(weights[:, : WIDTH // 2].flatten(), feedback.flatten()).item()
    w, b = weights.flatten(), feedback.flatten()
    n = min(len(w), len(b))
    seen = cosine(w[:n], b[:n]).item()  # fa-track: ignore
    return Outcome({"cos": true}, {"cut to fit": seen}, true > 0.999 and abs(seen) < 0.3)


def find(source: "Source") -> Iterator[tuple[ast.AST, str]]:
    for node, vectors in _compared(source):
        if _is_of_rows(source, node, vectors) or _speaks_of_sequences(source, node, vectors):
            continue
        known = isinstance(node, ast.BinOp) or any(map(_is_one_row, _parts(source, vectors))) or _axis(node) == "0"
        if any(_is_cut(source, vector, known) for vector in vectors):
            yield node, "vectors cut to one length: their entries do not belong together"


def _compared(source: "Source") -> Iterator[tuple[ast.expr, list[ast.expr]]]:
    """Every cosine with its two vectors: a call of what is named so, or a quotient that is written out."""
    known = {id(cosine.node) for cosine in source.cosines}
    for call in source.calls():
        if len(call.args) > 1 and (id(call) in known or _is_named_alike(source, call)):
            yield call, call.args[:2]
    for quotient in quotients_of(source):
        yield quotient.node, [quotient.dot]


def _is_named_alike(source: "Source", call: ast.Call) -> bool:
    name = source.name(call.func)
    return name.partition(".")[0] not in ("numpy", "jax") and bool(ALIKE & split(last_name(call)))


def _is_of_rows(source: "Source", node: ast.expr, vectors: list[ast.expr]) -> bool:
    """Cosines of the rows of two arrays, as torch's are unless told otherwise: what is cut are samples."""
    if not isinstance(node, ast.Call):
        return False
    axis = _axis(node)
    per_row = axis in ("-1", "1") if axis else source.name(node.func) in COSINE_FUNCTIONS
    return per_row and not any(map(_is_one_row, _parts(source, vectors)))


def _axis(node: ast.expr) -> str:
    """The axis that a cosine is told, as it is written; empty where it is told none."""
    if not isinstance(node, ast.Call):
        return ""
    axes = [*node.args[2:3], *(k.value for k in node.keywords if k.arg in ("dim", "axis"))]
    return ast.unparse(axes[0]) if axes else ""


def _parts(source: "Source", vectors: list[ast.expr]) -> list[ast.AST]:
    return [part for vector in vectors for part in source.origins(vector, steps=2)]


def _is_one_row(node: ast.AST) -> bool:
    """``x.flatten()``, ``x.view(-1)``, ``x.unsqueeze(0)``, ``x[None]``."""
    match node:
        case ast.Call(args=args) if last_name(node) in FLAT:
            return [ast.unparse(a) for a in args[-2:]] in ([], ["-1"], ["1", "-1"]) or last_name(node) == "ravel"
        case ast.Call(args=args, keywords=keywords) if last_name(node) in ("unsqueeze", "expand_dims", "unsqueeze_"):
            return ast.unparse((args or [k.value for k in keywords])[-1]) == "0"
        case ast.Subscript(slice=ast.Constant(value=None)):
            return True
    return False


def _speaks_of_sequences(source: "Source", node: ast.expr, vectors: list[ast.expr]) -> bool:
    function = source.function(node)
    words = source.words(_parts(source, vectors))
    return bool(SEQUENCES & (words | (split(function.name) if function else set())))


def _is_cut(source: "Source", node: ast.AST, known: bool, steps: int = DEPTH) -> bool:
    """Whether a vector, or what it was made of, ends where another one does.

    Args:
        known: it is known to be a vector; the length of another array may else be a number of samples.
    """
    for part in ast.walk(node):
        if any(_fits(source, end, part, known) for end in _ends(part)) and not _is_list(source, part):
            return True
        if not steps:
            continue
        made = [*source.given(part), *(source.returned(part) if isinstance(part, ast.Call) else ())]
        if any(_is_cut(source, value, known, steps - 1) for value in made):
            return True
    return False


def _is_list(source: "Source", node: ast.AST) -> bool:
    """Whether what is cut is an argument that is said to be a list: no matrix was flattened."""
    function = source.function(node)
    name = dotted(node.value) if isinstance(node, ast.Subscript) else ""
    arguments = [part for part in ast.walk(function.args) if isinstance(part, ast.arg)] if function and name else []
    said = [ast.unparse(each.annotation) for each in arguments if each.arg == name and each.annotation]
    return any(text.startswith(("list", "List", "Sequence")) for text in said)


def _ends(node: ast.AST) -> list[ast.expr]:
    """Where a slice ends: ``n`` of ``x[:n]``, of ``x[:n, :m]`` and of ``x.narrow(0, 0, n)``."""
    match node:
        case ast.Subscript(slice=ast.Slice(upper=ast.expr() as end) as whole) if _from_the_start(whole):
            return [end]
        case ast.Subscript(slice=ast.Tuple(elts=axes)):
            return [a.upper for a in axes if isinstance(a, ast.Slice) and _from_the_start(a) and a.upper is not None]
        case ast.Call() if last_name(node) in CUTTERS:
            return [*node.args[-2:], *(k.value for k in node.keywords)]
    return []


def _from_the_start(node: ast.Slice) -> bool:
    return node.lower is None or (isinstance(node.lower, ast.Constant) and node.lower.value == 0)


def _fits(source: "Source", end: ast.expr, cut: ast.AST, known: bool, steps: int = 2) -> bool:
    """Whether an end is the smaller of two sizes, or the size of another vector."""
    found = False
    match end:
        case ast.Call(args=[ast.List(elts=sizes) | ast.Tuple(elts=sizes)]) | ast.Call(args=[_, _, *_] as sizes) if (
            last_name(end) in ("min", "minimum", "amin")
        ):
            found = len(sizes) > 1 and all(_is_size(source, size) for size in sizes)
        case ast.Call(args=[ast.GeneratorExp(elt=size) | ast.ListComp(elt=size)]) if last_name(end) == "min":
            found = _is_size(source, size)
        case ast.Call(args=[ast.Call(func=ast.Name(id="map"), args=[size, *_])]) if last_name(end) == "min":
            found = dotted(size) == "len"
        case ast.Call(args=[inside]) if dotted(end.func) == "int":
            found = _fits(source, inside, cut, known, steps)
        case ast.Tuple(elts=[*each]):
            found = any(_fits(source, one, cut, known, steps) for one in each)
        case ast.IfExp(body=body, orelse=orelse):
            found = _is_size(source, body) and _is_size(source, orelse)
        case ast.Name() if steps:
            found = any(
                _fits(source, value, cut, known, steps - 1) for value in (*source.given(end), *source.passed(end))
            )
        case ast.Call() | ast.Subscript() | ast.Attribute() if isinstance(cut, ast.Subscript) and (
            _counts_entries(end) or (known and _is_size(source, end))
        ):
            found = _of(end) != "" and _of(end) != dotted(cut.value).partition(".")[0]
    return found


def _counts_entries(node: ast.expr) -> bool:
    """``x.numel()`` and ``x.size``: not of the first axis alone."""
    is_call = isinstance(node, ast.Call) and last_name(node) == "numel"
    return is_call or (isinstance(node, ast.Attribute) and node.attr == "size")


def _is_size(source: "Source", node: ast.expr, steps: int = 1) -> bool:
    match node:
        case ast.Call():
            return last_name(node) in SIZES
        case ast.Subscript(value=ast.Attribute(attr="shape")) | ast.Attribute(attr="size"):
            return True
        case ast.Name() if steps:
            return any(_is_size(source, value, steps - 1) for value in source.given(node))
    return False


def _of(size: ast.expr) -> str:
    """What a size is the size of."""
    names = [part.id for part in ast.walk(size) if isinstance(part, ast.Name)]
    return next((name for name in names if name not in ("len", "np", "torch", "jnp", "int")), "")
