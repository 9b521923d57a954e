"""Functional measures of credit: what a credit at a hidden state has to do with the loss, by moving that state.

Hao, Wan & Zhai 2026, "What Accuracy and Gradient Cosine Miss", arXiv:2606.21126. With a_l a sample's credit at h_l, its
raw value, ℓ that sample's cross-entropy, and the network in evaluation mode:

    ρ_l     Pearson correlation, pooled over samples and 32 random unit directions v each, of ⟨a_l, εv⟩ and
            ℓ(h_l + εv) − ℓ(h_l), ε = 1e-3. 1 for BP's gradient, 0 for a random vector
    Δ_l(η)  mean over samples of ℓ(h_l − η â_l) − ℓ(h_l), η = 0.01, â_l the credit with a root mean square of 1

In float64: at ‖h_L‖ = 4e4 a step of 1e-3 is at float32's spacing. ρ in float32 stands beside it. The change of the loss
is computed from the changes of the logits, so that it has its digits where the loss itself is next to nothing. What is
moved is what the vector of a sample is read from: of token states the class token alone, where the logits come from it
alone, else the whole state. Directions are drawn from generators of their own, and are the same at each call.

A layer takes 36 passes through what follows it, and 33 in float32. The larger a network, the fewer samples are
measured, so that all of it takes some 3e10 multiplications in each precision.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from fa_tracking.errors import first_line
from fa_tracking.protocol.alignment import Credit, alignment, asked
from fa_tracking.protocol.capture import Capture
from fa_tracking.protocol.functional_report import CREDITS, EPSILON, By, Effect, Functional
from fa_tracking.protocol.moves import LONGEST, Batch, Found, drawn, moved
from fa_tracking.protocol.norms import cosine
from fa_tracking.protocol.table import Reference
from fa_tracking.protocol.undisturbed import unwrapped

GROUPS = 10
"""Groups of samples of which the jackknife leaves out one at a time."""

NO_CREDIT = "no credit of a rule was given"


def functional(
    model: nn.Module,
    captures: Sequence[Capture],
    credit: Credit | None = None,
    *,
    no_credit: str = NO_CREDIT,
    floor: float = 0.0,
    layers: Sequence[str] | None = None,
    reference: nn.Module | None = None,
) -> Functional:
    """The functional measures of a network's credits; nothing is raised, and what is missing says why.

    Args:
        captures: of the evaluation batches.
        credit: the rule's local credit; without it ``no_credit`` says why there is none.
        floor: of ‖g_l‖, below which there is no Γ.
        layers, reference: as the captures were taken.
    """
    count = len(captures[0].hidden)
    remarks = [] if credit else [f"the rule's credit: {no_credit}"]
    own: list[Sequence[Tensor | None]] = [[None] * count for _ in captures]
    gamma: By = (None,) * count
    errors = gamma
    if credit:
        try:
            own = [list(asked(model, c, credit)) for c in captures]
            gamma, errors = _gamma(model, captures, own, floor)
            none = [f"h_{layer}" for layer in range(count) if all(a[layer] is None for a in own)]
            remarks += [f"the rule's credit: none at {', '.join(none)}"] if none else []
        except Exception as error:  # another's rule may raise anything
            own = [[None] * count for _ in captures]
            remarks.append(f"the rule's credit: {first_line(error)[:LONGEST]}")
    is_bp = captures[0].reference is not Reference.NOT_BP
    remarks += [] if is_bp else ["BP's gradient: the one that autograd returns is another"]
    batches = [
        Batch(
            c.inputs,
            c.labels,
            c.hidden,
            c.tokens,
            {"rule": a, "bp": c.grads if is_bp else [None] * count, "random": _random(c.hidden, number)},
        )
        for number, (c, a) in enumerate(zip(captures, own, strict=True))
    ]
    network = unwrapped(model if reference is None else reference)
    try:
        taken, found = moved(network, batches, layers)
    except Exception as error:  # whatever a forward pass in float64 may raise
        return Functional.missing(count, f"not measured: {first_line(error)[:LONGEST]}")
    effects = {name: _effect(found, name, count) for name in CREDITS}
    return Functional(
        sum(len(batch.labels) for batch in taken),
        effects["rule"],
        effects["bp"],
        effects["random"],
        gamma,
        errors,
        remarks=tuple(dict.fromkeys([*remarks, *_missing(found, effects, taken, count)])),
    )


def _gamma(
    model: nn.Module, captures: Sequence[Capture], own: Sequence[Sequence[Tensor | None]], floor: float
) -> tuple[By, By]:
    """Γ as it is logged, and its standard error over samples."""
    told = iter(own)
    gamma = alignment(model, captures, lambda _model, _capture: next(told), [], floor).gamma
    errors: list[float | None] = []
    for layer, value in enumerate(gamma):
        if value is None:
            errors.append(None)
            continue
        each = torch.cat(
            [cosine(a[layer], c.grads[layer]) for c, a in zip(captures, own, strict=True)]  # type: ignore[arg-type]
        )
        errors.append(_standard_error(each[~each.isnan()]))
    return gamma, tuple(errors)


def _random(hidden: Sequence[Tensor], number: int) -> list[Tensor]:
    draws = (drawn(1, number, layer) for layer in range(len(hidden)))
    return [torch.randn(h.shape, generator=d, dtype=torch.float32) for h, d in zip(hidden, draws, strict=True)]


def _effect(found: Found, name: str, count: int) -> Effect:
    rho, error, narrow, nudge, nudge_error = ([] for _ in range(5))  # type: ignore[var-annotated]
    for layer in range(count):
        for precise, into in ((True, rho), (False, narrow)):
            moves = found[precise, layer]
            told = moves.problem is None and bool(moves.projections[name])
            x, y = (torch.cat(each) for each in (moves.projections[name], moves.changes)) if told else (None, None)
            into.append(None if x is None or y is None else correlation(x, y))
            if precise:
                error.append(None if x is None or y is None or rho[-1] is None else _jackknife(x, y))
        moves = found[True, layer]
        each = torch.cat(moves.nudges[name]) if moves.problem is None and moves.nudges[name] else None
        is_zero = rho[-1] is None and each is not None and not bool(torch.cat(moves.projections[name]).any())
        nudge.append(None if each is None or is_zero else float(each.mean()))
        nudge_error.append(None if each is None or is_zero else _standard_error(each))
    return Effect(tuple(rho), tuple(error), tuple(narrow), tuple(nudge), tuple(nudge_error))


def correlation(x: Tensor, y: Tensor) -> float | None:
    """Pearson's r of all pairs, in float64 at any scale; None where either is constant, NaN where one is not finite."""
    if not (x.isfinite().all() and y.isfinite().all()):
        return math.nan
    parts = []
    for values in (x.double().flatten(), y.double().flatten()):
        largest = values.abs().max()
        centred = values / torch.where(largest > 0, largest, 1.0)
        centred = centred - centred.mean()
        length = torch.linalg.vector_norm(centred)
        if not float(length) > 1e-14 * len(values) ** 0.5:
            return None
        parts.append(centred / length)
    return float(parts[0] @ parts[1])


def _jackknife(x: Tensor, y: Tensor) -> float | None:
    """The standard error of a correlation whose pairs come from samples, (N, directions)."""
    groups = torch.arange(len(x)) * GROUPS // len(x)
    if len(x) < 2:
        return None
    without = [correlation(x[groups != g], y[groups != g]) for g in groups.unique()]
    known = torch.tensor([r for r in without if r is not None], dtype=torch.float64)
    if len(known) < 2 or len(known) < len(without):
        return None
    n = len(known)
    return float(((n - 1) / n * (known - known.mean()).square().sum()).sqrt())


def _standard_error(values: Tensor) -> float | None:
    return float(values.double().std() / len(values) ** 0.5) if len(values) > 1 else None


def _missing(found: Found, effects: Mapping[str, Effect], taken: Sequence[Batch], count: int) -> Iterator[str]:
    """Why numbers are missing, or are none, layer by layer."""
    for layer in range(count):
        moves, narrow = found[True, layer], found[False, layer]
        if moves.problem:
            yield f"h_{layer}: not measured: {moves.problem}"
            continue
        if not torch.cat(moves.changes).any():
            yield f"h_{layer}: no loss changes when it moves by {EPSILON:g}: ρ is missing"
        elif narrow.problem:
            yield f"ρ in float32: not measured: {narrow.problem}"
        elif not torch.cat(narrow.changes).any():
            yield f"h_{layer}: in float32 no loss changes when it moves by {EPSILON:g}: ρ in float32 is missing"
        for name, credit in CREDITS.items():
            known = [a for batch in taken if (a := batch.credits[name][layer]) is not None]
            effect = effects[name]
            value, in_float32, nudge = effect.rho[layer], effect.rho_float32[layer], effect.nudge[layer]
            if known and not any(bool(a.any()) for a in known):
                yield f"h_{layer}: {credit} is zero"
            elif any(each is not None and not math.isfinite(each) for each in (value, nudge)):
                yield f"h_{layer}: {credit} or the loss is not finite"
            elif value is not None and in_float32 is None and not narrow.problem and torch.cat(narrow.changes).any():
                yield f"h_{layer}: {credit} is zero in float32: its ρ in float32 is missing"
