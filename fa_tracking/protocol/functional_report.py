"""What the functional measures of credit found: numbers, how they are printed, and where they and Γ disagree in rank.

Reading them needs no torch.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import field
from itertools import combinations
from typing import Any, NamedTuple, Self

from pydantic import ConfigDict, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from fa_tracking.protocol.ranges import Cosine, Count, Norm, refusing, same_length

CONFIG = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

DIRECTIONS = 32
EPSILON = 1e-3
ETA = 0.01
BEYOND = 2.0
"""Standard errors of a difference from which on two layers have an order."""

CREDITS = {"rule": "the rule's credit", "bp": "BP's gradient", "random": "a random vector"}
"""The credits that are measured, by their names in the database."""

SERIES = {
    "perturbation": "rho",
    "perturbation_error": "rho_error",
    "perturbation_float32": "rho_float32",
    "nudge": "nudge",
    "nudge_error": "nudge_error",
}
"""The columns of a credit's effect in the database, and where an ``Effect`` has them."""

By = tuple[float | None, ...]
"""A number at each of h_0 … h_L; None: missing."""
Cosines = tuple[Cosine | None, ...]
Errors = tuple[Norm | None, ...]
"""Standard errors."""


@refusing
@dataclass(frozen=True, config=CONFIG)
class Effect:
    """Holds how a credit changes the loss at each of h_0 … h_L; None: missing, NaN: not finite.

    Attributes:
        rho: the perturbation correlation ρ_l, in float64.
        rho_error: its standard error, a jackknife over groups of samples.
        rho_float32: ρ_l computed wholly in float32.
        nudge: Δ_l(η), the mean change of the loss.
        nudge_error: its standard error over samples.
    """

    rho: Cosines
    rho_error: Errors
    rho_float32: Cosines
    nudge: By
    nudge_error: Errors

    @model_validator(mode="after")
    def _has_layers_of_one_number(self) -> Self:
        same_length({name: len(values) for name, values in vars(self).items()})
        return self

    @classmethod
    def missing(cls, layers: int) -> "Effect":
        """Of so many layers, in which nothing is measured."""
        none = (None,) * layers
        return cls(none, none, none, none, none)


class Disagreement(NamedTuple):
    """Γ is larger at ``higher`` than at ``lower``, and ``measure`` says that the credit does more at ``lower``."""

    higher: int
    lower: int
    measure: str


@refusing
@dataclass(frozen=True, config=CONFIG)
class Functional:
    """Holds the functional measures of three credits at each of h_0 … h_L (Hao, Wan & Zhai 2026, arXiv:2606.21126).

    Attributes:
        samples: the number of samples from the evaluation batches.
        rule, bp, random: the measures of the rule's local credit, of BP's gradient, and of a random vector.
        gamma, gamma_error: the rule's Γ, and its standard error over samples.
        directions, epsilon, eta: the number of random directions per sample, and the lengths of the moves.
        remarks: the missing numbers, with reasons.
    """

    samples: Count
    rule: Effect
    bp: Effect
    random: Effect
    gamma: Cosines
    gamma_error: Errors
    directions: Count = DIRECTIONS
    epsilon: float = EPSILON
    eta: float = ETA
    remarks: tuple[str, ...] = field(default=())

    @model_validator(mode="after")
    def _has_layers_of_one_number(self) -> Self:
        same_length(
            {name: len(effect.rho) for name, effect in self.effects.items()}
            | {"gamma": len(self.gamma), "gamma_error": len(self.gamma_error)}
        )
        return self

    @classmethod
    def missing(cls, layers: int, reason: str) -> "Functional":
        """Of a network in which nothing of it can be measured."""
        effect, none = Effect.missing(layers), (None,) * layers
        return cls(0, effect, effect, effect, none, none, remarks=(reason,))

    @property
    def effects(self) -> dict[str, Effect]:
        """By the names of ``CREDITS``."""
        return {"rule": self.rule, "bp": self.bp, "random": self.random}

    @property
    def disagreements(self) -> list[Disagreement]:
        """Return the pairs of layers that Γ and a functional measure of the rule's credit order differently.

        An order counts if the two numbers differ by more than twice the standard error of their difference, with the
        two errors taken as independent. A larger ρ and a smaller Δ are better: the loss falls further.
        """
        falls = tuple(None if v is None else -v for v in self.rule.nudge)
        measures = (("ρ", self.rule.rho, self.rule.rho_error), ("nudging", falls, self.rule.nudge_error))
        found = []
        for measure, values, errors in measures:
            for one, other in combinations(range(len(self.gamma)), 2):
                by_gamma = _order(self.gamma, self.gamma_error, one, other)
                if by_gamma and by_gamma == -_order(values, errors, one, other):
                    pair = (one, other) if by_gamma > 0 else (other, one)
                    found.append(Disagreement(*pair, measure))
        return found

    def lines(self) -> list[str]:
        """Return the table by layer, the missing numbers, and the disagreements of Γ and function."""
        said = [
            f"{self.samples} samples, {self.directions} directions each, ε = {self.epsilon:g}, η = {self.eta:g}, in "
            "float64 (ρ in float32 beside it)"
        ]
        if any(v is not None for e in self.effects.values() for v in (*e.rho, *e.nudge)):
            said += self._table()
        said += self.remarks
        for higher, lower, measure in self.disagreements:
            said.append(f"disagreement: Γ ranks h_{higher} above h_{lower}, {measure} h_{lower} above h_{higher}")
        return said

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, NaN as a string."""
        plain: dict[str, Any] = json.loads(TypeAdapter(Functional).dump_json(self))
        return plain

    def _table(self) -> Iterator[str]:
        heads = ["layer", "Γ", *(f"{word} {name}" for name in ("rule", "BP", "random") for word in ("ρ", "Δ"))]
        heads.insert(3, "float32")
        rows = [heads]
        for layer, gamma in enumerate(self.gamma):
            cells = [f"h_{layer}", _with_error(gamma, self.gamma_error[layer])]
            for name, effect in self.effects.items():
                cells.append(_with_error(effect.rho[layer], effect.rho_error[layer]))
                cells += [_shown(effect.rho_float32[layer], "+z.3f")] if name == "rule" else []
                cells.append(_shown(effect.nudge[layer], "+z.2e"))
            rows.append(cells)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))


def _order(values: By, errors: By, one: int, other: int) -> int:
    """1 where the first is larger, −1 where the second is, 0 where it cannot be told."""
    known = (values[one], values[other], errors[one], errors[other])
    a, b, sa, sb = (math.nan if v is None else v for v in known)
    margin = BEYOND * math.hypot(sa, sb)
    return 1 if a - b > margin else -1 if b - a > margin else 0


def _with_error(value: float | None, error: float | None) -> str:
    beside = "" if error is None or not math.isfinite(error) else f" ± {error:.3f}"
    return _shown(value, "+z.3f") + beside


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def in_short(found: Functional, room: int) -> dict[str, Any]:
    """The numbers to six digits as JSON of ``room`` characters at the most, for a store's tag.

    Where they take more, the deepest layers are left out, and ``cut`` says which.
    """
    layers = len(found.gamma)
    for kept in range(layers, -1, -1):
        short: dict[str, Any] = {"samples": found.samples, "layers": kept}
        series = {"alignment": found.gamma, "alignment_error": found.gamma_error}
        short |= {name: _six(values[:kept]) for name, values in series.items()}
        for name, e in found.effects.items():
            short[name] = {key: _six(getattr(e, of)[:kept]) for key, of in SERIES.items()}
        if kept < layers:
            short["cut"] = f"h_{kept} … h_{layers - 1}"
        if len(json.dumps(short)) <= room:
            return short
    return {"cut": f"h_0 … h_{layers - 1}"}


def _six(values: Sequence[float | None]) -> list[Any]:
    spelled = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return [None if v is None else float(f"{v:.6g}") if math.isfinite(v) else spelled[str(v)] for v in values]
