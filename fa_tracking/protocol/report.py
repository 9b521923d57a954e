"""DiagnosticReport: numbers in, verdict out. Reading a verdict needs no torch."""

import json
from collections.abc import Mapping
from dataclasses import fields
from types import ModuleType
from typing import Any, NamedTuple, Self

from pydantic import TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from fa_tracking.errors import InvalidError, what_is_wrong
from fa_tracking.protocol import PROTOCOL
from fa_tracking.protocol.diagnostics import (
    catalogue,
    direction_stability,
    finite,
    frozen_control,
    grad_norm,
    residual_norm,
)
from fa_tracking.protocol.measurement import STRICT, Measurement
from fa_tracking.protocol.ranges import DEEPEST_LAYER, refusing, whole
from fa_tracking.protocol.table import Evidence, Kind, Reference
from fa_tracking.protocol.thresholds import DiagnosticThresholds, other_thresholds
from fa_tracking.protocol.verdicts import WALK_BACK, WEAK
from fa_tracking.protocol.written import numbers
from fa_tracking.spelled import plain

TRUSTWORTHY = "trustworthy"
INCONCLUSIVE = {
    Evidence.FULL: "inconclusive: not measured: ",
    Evidence.PARTIAL: "inconclusive: partial evidence: ",
}
FUNCTIONAL = "functional measures of credit"
NOT_BP = "inconclusive: the reference gradient is not BP's"
HEADING = {
    Evidence.FULL: "FA-Track diagnostic report",
    Evidence.PARTIAL: "FA-Track diagnostic report from partial evidence",
}
ONLY = {Evidence.FULL: ("states", "functional"), Evidence.PARTIAL: ("max_block_growth", "given")}
"""Fields that the reports of the other evidence do not have in JSON."""

GIVEN = {
    "h0_norm": "‖h_0‖",
    "control_accuracy": "accuracy of the frozen control",
    "grad_batch": f"batch of the logged gradients, which the import brought to {grad_norm.REFERENCE_BATCH},",
}
"""What may be given by hand, as it is printed."""


class Section(NamedTuple):
    """A part of the printed report; ``flag``: the wording of what fires in it."""

    heading: str
    lines: list[str]
    flag: str | None = None


@refusing
@dataclass(frozen=True, config=STRICT)
class DiagnosticReport(Measurement):
    """Holds the numbers that were measured or are known for one trained network, and derives the verdict from them.

    Only the measured numbers are stored, so a report rebuilt from them gives the same verdict. An unknown number is
    None. ``kinds`` says how exactly each diagnostic's number is known.

    Attributes:
        method_name: the learning rule's printed name.
        notes: free text: architecture, data set.
        residual_norms: ‖h_0‖ … ‖h_L‖.
        bp_grad_norms: ‖g_0‖ … ‖g_L‖, of the mean loss over a batch of 128; all None if the gradient is not BP's.
        stability_layer: the layer at which (c) is taken, ⌊L/2⌋.
        cross_batch_stability: (c); None: not measured.
        headline_acc: accuracy in [0, 1]; None: not given.
        frozen_baseline_acc: mean accuracy of the frozen control; None: there is none, and (d) is skipped.
        thresholds: where each diagnostic fires.
        grad_gain: median of ‖g_L‖/‖e‖; None: not measured, and (b) follows ‖g_L‖ alone.
        n_batches: how many disjoint evaluation batches were used.
        control_runs: the runs whose mean is ``frozen_baseline_acc``.
        control_note: what else a reader must know about the control, or why there is none.
        extra: values of diagnostics beyond the four, by name.
        remarks: notes on the measurement: the states' modules, tokens, precision, hooks.
        stream_growth: (a) for the whole stream, over all tokens and features, if ``residual_norms`` are the class
            token's; else None, and (a) follows ``residual_norms``.
        chance_error: ‖e‖ of a uniform output over the network's C classes, √(1 − 1/C); None: not known, taken as 0.95.
        reference: whether the gradient is BP's; None: unknown, as in a report from numbers alone.
        states: where each of h_0 … h_L was read, such as ``input of blocks.0``.
        protocol_version: the measurement revision behind the numbers.
        functional: how the credits change the loss; None: not asked for. No verdict depends on it.
        evidence: ``full``: the network was measured. ``partial``: judged by logged numbers (``from_layers``); then
            norms may be unknown, the last one also if L is unknown, and no verdict trusts a missing number.
        max_block_growth: for partial evidence, the logged value of (a); it counts unless every norm is known.
        given: for partial evidence, the numbers given by hand instead of logged, by name.
    """

    thresholds: DiagnosticThresholds = DiagnosticThresholds()

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.evidence is Evidence.FULL:
            if None in self.residual_norms:
                raise ValueError("a report with an unknown ‖h_l‖ is partial evidence: from_layers makes one")
            if self.max_block_growth is not None or self.given:
                raise ValueError("max_block_growth and given are of partial evidence: from_layers makes such a report")
        return self

    @classmethod
    def from_layers(
        cls,
        residual_norms: Mapping[int, float],
        bp_grad_norms: Mapping[int, float],
        depth: int | None,
        deepest_grad_norm: float | None = None,
        **known: Any,
    ) -> "DiagnosticReport":
        """Make a report from partial evidence: from norms by layer.

        Args:
            depth: L; None if unknown. A depth that a deeper layer contradicts counts as unknown.
            deepest_grad_norm: ‖g_L‖, if it is known to be the deepest.
            known: the other attributes.

        Raises:
            InvalidError: a number is not what it should be; the message names the field.
        """
        residual_norms, bp_grad_norms = (
            {whole(layer, f"a layer of {name}", DEEPEST_LAYER): norm for layer, norm in norms.items()}
            for name, norms in (("residual_norms", residual_norms), ("bp_grad_norms", bp_grad_norms))
        )
        depth = None if depth is None else whole(depth, "depth", DEEPEST_LAYER)
        if depth is not None and depth < max((*residual_norms, *bp_grad_norms), default=0):
            depth = None
        hidden, grads = _with_gaps(residual_norms, depth), _with_gaps(bp_grad_norms, depth)
        if grads[-1] is None:
            grads = (*grads[:-1], deepest_grad_norm)
        return PartialReport(
            residual_norms=hidden,
            bp_grad_norms=grads,
            stability_layer=None if depth is None else depth // 2,
            **known,
        )

    @property
    def flags(self) -> tuple[str, ...]:
        """Return the letters of the diagnostics that fire, in the verdict's order; ``n`` is "not finite"."""
        return tuple(d.FLAG for d in catalogue() if d.fires(self))

    @property
    def kinds(self) -> dict[str, Kind]:
        """Return how exactly each diagnostic's number is known, by letter, except for ``n``."""
        return {d.FLAG: self._kind(d) for d in catalogue() if d is not finite}

    def _kind(self, diagnostic: ModuleType) -> Kind:
        if diagnostic.value(self) is None:
            return Kind.NOT_MEASURED
        return Kind(diagnostic.kind(self)) if hasattr(diagnostic, "kind") else Kind.EXACT

    @property
    def verdict(self) -> str:
        """Return the verdict in words; a missing measurement never gives ``trustworthy``."""
        wordings = [self._wording(d) for d in catalogue() if d.fires(self)]
        if wordings:
            return WALK_BACK + "; ".join(wordings)
        if self.reference is Reference.NOT_BP:
            return NOT_BP
        required = {d.FLAG for d in catalogue() if d.REQUIRED}
        known = all(kind is Kind.EXACT for flag, kind in self.kinds.items() if flag in required)
        return TRUSTWORTHY if known else INCONCLUSIVE[self.evidence] + "; ".join(self._missing())

    @property
    def caveats(self) -> tuple[str, ...]:
        """Return what a reader of the verdict must know, one line each."""
        weak = [WEAK] if self.flags == (direction_stability.FLAG,) else []
        return (*weak, *other_thresholds(self.thresholds))

    def _wording(self, diagnostic: ModuleType) -> str:
        """What the verdict says where ``diagnostic`` fires; of a proxy with its name."""
        is_proxy = self.kinds.get(diagnostic.FLAG) is Kind.PROXY
        return f"{diagnostic.WORDING} (by proxy {self._proxy})" if is_proxy else str(diagnostic.WORDING)

    def _missing(self) -> list[str]:
        """What is not known where nothing fires; of partial evidence, what is known of each diagnostic."""
        if self.evidence is Evidence.FULL:
            return [d.TITLE for d in catalogue() if d.REQUIRED and d.fires(self) is None]
        words = {
            Kind.EXACT: "pass",
            Kind.PROXY: f"pass by proxy {self._proxy}",
            Kind.BOUND: "likely pass",
            Kind.NOT_MEASURED: "not measured",
        }
        return [f"({flag}) {words[kind]}" for flag, kind in self.kinds.items()]

    @property
    def _proxy(self) -> str:
        return f"‖g_{grad_norm.deepest_layer(self)}‖"

    def sections(self) -> list[Section]:
        """Return the printed sections: each diagnostic, the functional measures, and the numbers given by hand."""
        sections = [
            Section(self._heading(d), d.explain(self), self._wording(d) if d.fires(self) else None) for d in catalogue()
        ]
        by_hand = [f"{GIVEN.get(name, name)} = {number:g}" for name, number in self.given.items()]
        sections += [Section(FUNCTIONAL, self.functional.lines())] if self.functional else []
        return [*sections, Section("given by hand", by_hand)] if by_hand else sections

    def _heading(self, diagnostic: ModuleType) -> str:
        heading = f"({diagnostic.FLAG}) {diagnostic.TITLE}"
        is_said = self.evidence is Evidence.PARTIAL and diagnostic is not finite
        return f"{heading}: {self.kinds[diagnostic.FLAG]}" if is_said else heading

    def to_dict(self) -> dict[str, Any]:
        """Return the measured and the derived numbers as plain JSON values (NaN and infinities as strings)."""
        values = {d.FLAG: d.value(self) for d in catalogue()}
        measured = json.loads(TypeAdapter(type(self)).dump_json(self))
        others = Evidence.PARTIAL if self.evidence is Evidence.FULL else Evidence.FULL
        if not self.thresholds.extra:
            del measured["thresholds"]["extra"]
        return {
            **{name: value for name, value in measured.items() if name not in ONLY[others]},
            "protocol": PROTOCOL,
            "kinds": self.kinds,
            "max_per_block_growth": plain(values[residual_norm.FLAG]),
            "margin_pp": plain(values[frozen_control.FLAG]),
            "flags": list(self.flags),
            "verdict": self.verdict,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "DiagnosticReport":
        """Rebuild a report from ``to_dict`` or ``audit/report.json``; derived values are computed anew.

        Raises:
            InvalidError: a number is missing or not a number, or a newer version wrote the report; the message names
                the field.
        """
        try:
            found = numbers(data, {own.name for own in fields(DiagnosticReport)})
            usual = Evidence.PARTIAL if issubclass(cls, PartialReport) else Evidence.FULL
            is_partial = found.get("evidence", usual) == Evidence.PARTIAL
            return TypeAdapter(PartialReport if is_partial else DiagnosticReport).validate_python(found)
        except ValidationError as error:
            raise InvalidError(what_is_wrong(error), error) from None

    def __str__(self) -> str:
        lines = [
            f"{HEADING[self.evidence]}, protocol {PROTOCOL}, measurement revision {self.protocol_version}",
            *([f"method: {self.method_name}"] if self.method_name else []),
            *([f"notes:  {self.notes}"] if self.notes else []),
            *(f"states: {remark}" for remark in self.remarks),
        ]
        for section in self.sections():
            lines += ["", section.heading, *(f"    {line}" for line in section.lines)]
            if section.flag:
                lines.append(f"    FLAG: {section.flag}")
        return "\n".join([*lines, "", f"VERDICT: {self.verdict}", *(f"    {caveat}" for caveat in self.caveats)])

    @property
    def max_per_block_growth(self) -> float | None:
        """Return (a): the largest ‖h_{l+1}‖/‖h_l‖, or a lower bound for it; 1.0 with fewer than two layers."""
        return residual_norm.of_blocks(self)

    @property
    def residual_stream_exploded(self) -> bool:
        """Return whether (a) fires."""
        return bool(residual_norm.fires(self))

    @property
    def bp_grad_at_floor(self) -> bool:
        """Return whether (b) fires: ‖g_L‖ is below the floor, and not because the output error is small."""
        return bool(grad_norm.fires(self))

    @property
    def reference_drift_dominated(self) -> bool:
        """Return whether (c) fires."""
        return bool(direction_stability.fires(self))

    @property
    def frozen_baseline_undercut(self) -> bool | None:
        """Return whether (d) fires; None without a control."""
        return frozen_control.fires(self)


@refusing
@dataclass(frozen=True, config=STRICT)
class PartialReport(DiagnosticReport):
    """Holds a ``DiagnosticReport`` on partial evidence: what somebody logged."""

    evidence: Evidence = Evidence.PARTIAL


def _with_gaps(norms: Mapping[int, float], depth: int | None) -> tuple[float | None, ...]:
    """By layer, None where it is not known; a last None where more layers may follow."""
    layers = range(1 + (max(norms, default=-1) + 1 if depth is None else depth))
    return tuple(norms.get(layer) for layer in layers)
