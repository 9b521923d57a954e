"""F.cosine_similarity shrinks the cosine of small gradients

It divides by max(‖a‖, eps)·max(‖b‖, eps) with eps = 1e-8 unless told otherwise. A BP gradient with a norm of 5e-10,
as it is below an exploded residual stream, gets a twentieth of its true cosine: a perfect alignment reads as none. The
same holds of ``nn.CosineSimilarity``, and of a quotient with an eps in it, a @ b / (‖a‖·‖b‖ + 1e-8), all the more since
the product of the norms is smaller than either.
"""

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fa_tracking.pitfalls import Outcome
from fa_tracking.pitfalls._quotient import quotients_of

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

ORDER = 2
CURE = "float64 cosine without eps"
FIX = "fa_tracking.protocol.norms.cosine(a, b): float64, no eps, NaN where a vector is zero"

NORM = 5e-10


def reproduce() -> Outcome:
    import torch
    import torch.nn.functional as F

    from fa_tracking.protocol.norms import cosine

    credit = torch.tensor([0.6, 0.8])
    gradient = NORM * torch.tensor([1.0, 0.0])
    true = cosine(credit, gradient).item()
    clamped = F.cosine_similarity(credit, gradient, dim=0).item()
    return Outcome({"cos": true}, {"F.cosine_similarity": clamped}, abs(clamped) < abs(true) / 10)


def find(source: "Source") -> Iterator[tuple[ast.AST, str]]:
    for call in source.cosines:
        if call.default_eps and source.is_gradient(call.node):
            yield call.node, "a gradient shorter than eps = 1e-8 gets a fraction of its cosine"
    for quotient in quotients_of(source):
        if quotient.has_eps and source.are_gradients(quotient.node, [quotient.dot]):
            yield quotient.node, "with an eps beside the norms, a small gradient gets a fraction of its cosine"
