"""Moves hidden states along random directions and along credits, and says by how much each sample's loss changes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fa_tracking.errors import first_line
from fa_tracking.protocol.continued import NotContinued, Pass
from fa_tracking.protocol.functional_report import CREDITS, DIRECTIONS, EPSILON, ETA
from fa_tracking.protocol.given import without_statistics
from fa_tracking.protocol.probe import places_of
from fa_tracking.protocol.tokens import Reading
from fa_tracking.protocol.undisturbed import Call, undisturbed

SEED = 20260621
MOST = 3e10
"""Multiplications of all the moves together: on one core some 2 s in float64, and half of that in float32."""
FEWEST = 32
"""Samples that are measured whatever the network's size."""
ROWS, NUMBERS, TOKENS = 1024, 2**22, 64
"""Samples and numbers of a state that one pass takes at the most; a state with a class token has so many, or so."""
LONGEST = 160
"""Characters of what is said to have gone wrong."""
FEW = 16
"""Samples by which its size is told."""


@dataclass(frozen=True)
class Batch:
    """Samples to be moved: inputs, labels, what was read of the states, and each credit by its name, None: none."""

    inputs: Any
    labels: Tensor
    hidden: Sequence[Tensor]
    tokens: Tensor | None
    credits: Mapping[str, Sequence[Tensor | None]]


@dataclass
class Moves:
    """What a layer's moves have shown, in samples (N,): of each credit the projections ⟨a, εv⟩ (N, directions)."""

    changes: list[Tensor]
    projections: dict[str, list[Tensor]]
    nudges: dict[str, list[Tensor]]
    problem: str | None = None


Found = dict[tuple[bool, int], Moves]
"""By whether it was in float64, and by layer."""


def moved(network: nn.Module, batches: Sequence[Batch], layers: Sequence[str] | None) -> tuple[Sequence[Batch], Found]:
    """The batches that were moved, and what was found; where ``detach()`` hides a state, it is set aside.

    Raises:
        Exception: whatever the network raises in float64.
    """
    refused: Exception | None = None
    for rejoined in (False, True):
        try:
            taken = undisturbed(network, partial(_affordable, network, batches, layers), True, rejoined)
            found: Found = {}
            for precise in (True, False):
                found |= undisturbed(network, partial(_moved, network, taken, layers, precise), precise, rejoined)
            return taken, found
        except Exception as error:
            refused = refused or error
    assert refused is not None
    raise refused


def _affordable(
    network: nn.Module, batches: Sequence[Batch], layers: Sequence[str] | None, call: Call
) -> Sequence[Batch]:
    """The first samples, as many as ``MOST`` allows: whole batches, or a part of the first one."""
    first = batches[0]
    few = _part(first, FEW) or first
    run = Pass(call, few.inputs, places_of(network, call, few.inputs, layers))
    each = sum(run.multiplications(layer) for layer in range(len(run.hidden))) / len(few.labels)
    samples = max(FEWEST, int(MOST / max(1.0, each * DIRECTIONS)))
    if samples < len(first.labels):
        return [_part(first, samples) or first]
    whole, left = [], samples
    for batch in batches:
        left -= len(batch.labels)
        if left < 0:
            break
        whole.append(batch)
    return whole


def _part(batch: Batch, samples: int) -> Batch | None:
    """The first samples of a batch; None where it has no more, or they cannot be told."""
    size = len(batch.labels)
    inputs = _first(batch.inputs, size, samples)
    if inputs is None or size <= samples:
        return None
    return Batch(
        inputs,
        batch.labels[:samples],
        [h[:samples] for h in batch.hidden],
        None if batch.tokens is None else batch.tokens[:samples],
        {name: [None if a is None else a[:samples] for a in by] for name, by in batch.credits.items()},
    )


def _first(inputs: Any, size: int, samples: int) -> Any:
    if isinstance(inputs, Tensor):
        return inputs[:samples] if inputs.ndim and len(inputs) == size else None
    if isinstance(inputs, Mapping):
        return {k: v if (cut := _first(v, size, samples)) is None else cut for k, v in inputs.items()}
    if type(inputs) in (list, tuple):
        return type(inputs)(v if (cut := _first(v, size, samples)) is None else cut for v in inputs)
    return None


def _moved(
    network: nn.Module, batches: Sequence[Batch], layers: Sequence[str] | None, precise: bool, call: Call
) -> Found:
    places = places_of(network, call, batches[0].inputs, layers)
    found: Found = {
        (precise, layer): Moves([], {name: [] for name in CREDITS}, {name: [] for name in CREDITS})
        for layer in range(len(batches[0].hidden))
    }
    for number, batch in enumerate(batches):
        copies = 1 if without_statistics(network) else _copies(batch)
        inputs = batch.inputs if copies == 1 else torch.cat([batch.inputs] * copies)
        run = Pass(call, inputs, places)
        if len(run.hidden) != len(batch.hidden):
            raise NotContinued(f"{len(run.hidden)} states pass, and {len(batch.hidden)} were captured")
        for (_, layer), moves in found.items():
            if (run.is_narrowed or run.logits.dtype != torch.float64) is precise:
                moves.problem = f"the network computes in {'less than ' if precise else ''}float64"
            if moves.problem is None:
                try:
                    _move(run, batch, copies, layer, drawn(0, number, layer), moves, precise)
                except Exception as error:  # another's forward pass may raise anything
                    moves.problem = first_line(error)[:LONGEST]
    return found


def _copies(batch: Batch) -> int:
    """How many moves of a batch one pass takes: few rows at a time take a small network longer."""
    samples = len(batch.labels)
    widest = max(h.shape[1] for h in batch.hidden) * (1 if batch.tokens is None else TOKENS)
    fit = min(ROWS // samples, NUMBERS // (samples * widest), DIRECTIONS)
    can = isinstance(batch.inputs, Tensor) and batch.inputs.ndim > 0 and len(batch.inputs) == samples
    return max(1, fit) if can else 1


def _move(run: Pass, batch: Batch, copies: int, layer: int, draw: torch.Generator, moves: Moves, precise: bool) -> None:
    """The moves of one batch at one layer."""
    read, device, kind = batch.hidden[layer], run.logits.device, torch.float64 if precise else torch.float32
    tokens = None if batch.tokens is None else batch.tokens.repeat(copies, 1)
    spread = _Spread(run.hidden[layer], read.repeat(copies, 1), tokens)
    labels = batch.labels.to(device).repeat(copies)
    known = {name: a.to(device, kind) for name, by in batch.credits.items() if (a := by[layer]) is not None}

    def changes(steps: Tensor) -> Tensor:
        """(n, B) of at most ``copies`` steps (n, B, d)."""
        padded = torch.cat([steps, steps.new_zeros(copies - len(steps), *steps.shape[1:])])
        moved = run.continued(layer, spread(padded.flatten(0, 1)))
        return (loss_change if precise else _rounded_change)(run.logits, moved, labels).view(copies, -1)[: len(steps)]

    found: list[Tensor] = []
    projections: dict[str, list[Tensor]] = {name: [] for name in known}
    for done in range(0, DIRECTIONS, copies):
        number = min(copies, DIRECTIONS - done)
        each = [torch.randn(read.shape, generator=draw, dtype=torch.float32) for _ in range(number)]
        v = torch.stack(each).double()
        steps = (EPSILON * v / torch.linalg.vector_norm(v, dim=2, keepdim=True)).to(device, kind)
        found.append(changes(steps))
        for name, a in known.items():
            projections[name].append(torch.linalg.vecdot(a[None], steps))
    moves.changes.append(torch.cat(found).T.double().cpu())
    for name, each in projections.items():
        moves.projections[name].append(torch.cat(each).T.double().cpu())
    nudges = {name: -ETA * unit_rms(a) for name, a in known.items()} if precise else {}
    for done in range(0, len(nudges), copies):
        names = [*nudges][done : done + copies]
        for name, change in zip(names, changes(torch.stack([nudges[name] for name in names])), strict=True):
            moves.nudges[name].append(change.double().cpu())


class _Spread:
    """Puts what was read of a state, (B, d), back into the state's shape; 0 where nothing was read."""

    def __init__(self, state: Tensor, read: Tensor, tokens: Tensor | None) -> None:
        """Raises NotContinued where the state is not the one that was read."""
        self._state = state
        self._index = None if tokens is None else tokens.to(state.device)
        self._reading = Reading(0 if tokens is None else tokens.shape[1])
        off = {
            is_turned: self._distance(is_turned, read) for is_turned in ((False, True) if state.ndim == 3 else (False,))
        }
        self._is_turned = min(off, key=lambda each: off[each])
        if not off[self._is_turned] <= 1e-2:
            raise NotContinued("the state that passes is not the one that was captured")

    def __call__(self, vectors: Tensor) -> Tensor:
        first = self._turned(self._state, self._is_turned)
        if self._index is None:
            whole = vectors.reshape(first.shape)
        else:
            at = self._index[:, :, None].expand(-1, -1, first.shape[2])
            whole = torch.zeros_like(first).scatter(1, at, vectors.view(at.shape).to(first.dtype))
        return self._turned(whole, self._is_turned).to(self._state.dtype)

    def _distance(self, is_turned: bool, read: Tensor) -> float:
        state = self._turned(self._state, is_turned)
        if len(state) != len(read):
            return math.inf
        own = self._reading.of(state, self._index)
        if own.shape != read.shape:
            return math.inf
        other = read.to(own)
        if not (own.isfinite().all() and other.isfinite().all()):
            return 0.0  # of a network that has diverged: its loss says so
        return float((own - other).norm() / other.norm().clamp_min(1e-300)) if other.any() else float(own.norm())

    @staticmethod
    def _turned(state: Tensor, is_turned: bool) -> Tensor:
        return state.transpose(0, 1) if is_turned else state


def unit_rms(credit: Tensor) -> Tensor:
    """Credit (B, d) with a root mean square of 1 over each sample's features, at any scale; zero stays zero."""
    largest = credit.abs().amax(dim=1, keepdim=True)
    scaled = credit / torch.where(largest > 0, largest, 1.0)
    rms = torch.linalg.vector_norm(scaled, dim=1, keepdim=True) / credit.shape[1] ** 0.5
    return scaled / torch.where(rms > 0, rms, 1.0)


def loss_change(logits: Tensor, moved: Tensor, labels: Tensor) -> Tensor:
    """ℓ of each sample's moved logits less ℓ of its logits: log(1 + Σ_j p_j (exp(δ_j − δ_y) − 1)), δ their change.

    That has its digits where the change is small beside the loss; where it halves the loss's odds or more, or a term
    overflows, the difference of the losses has.
    """
    delta = moved - logits
    beside = delta - delta.gather(1, labels[:, None])
    total = (torch.softmax(logits, dim=1) * torch.expm1(beside)).sum(dim=1)
    is_small = (total > -0.5) & (beside.amax(dim=1) < 300)
    return torch.where(is_small, torch.log1p(total), _loss(moved, labels) - _loss(logits, labels))


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Each sample's cross-entropy, to the last digits of one that is next to nothing."""
    beside = (logits - logits.gather(1, labels[:, None])).scatter(1, labels[:, None], -math.inf)
    odds = torch.logsumexp(beside, dim=1)
    return torch.logaddexp(odds, torch.zeros_like(odds))


def _rounded_change(logits: Tensor, moved: Tensor, labels: Tensor) -> Tensor:
    """The difference of two losses, as it is computed where nobody minds rounding."""
    before, after = (F.cross_entropy(each, labels, reduction="none") for each in (logits, moved))
    return after - before


def drawn(stream: int, number: int, layer: int) -> torch.Generator:
    """A random stream of its own for the directions (0) or the random credit (1) of a batch and layer."""
    return torch.Generator().manual_seed(((SEED * 4 + stream) * 2**12 + number) * 2**12 + layer)
