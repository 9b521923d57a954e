"""DiagnosticThresholds and DiagnosticReport: numbers in, verdict out. Reading a verdict needs no torch."""

import json
import math
from dataclasses import field
from types import ModuleType
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from fa_tracking.protocol import PROTOCOL, VERSION
from fa_tracking.protocol.diagnostics import (
    Kind,
    Reference,
    catalogue,
    direction_stability,
    finite,
    frozen_control,
    grad_norm,
    residual_norm,
)
from fa_tracking.protocol.functional_report import Functional
from fa_tracking.spelled import plain
from fa_tracking.verdicts import THRESHOLDS, WALK_BACK, WEAK

STRICT = ConfigDict(extra="forbid", ser_json_inf_nan="strings")


def is_share(accuracy: float | None) -> float | None:
    """The accuracy, unless it is a finite number outside [0, 1], which is a ValueError."""
    if accuracy is not None and math.isfinite(accuracy) and not 0 <= accuracy <= 1:
        raise ValueError("an accuracy is a share in [0, 1], not a percentage")
    return accuracy


Accuracy = Annotated[float | None, AfterValidator(is_share)]

TRUSTWORTHY = "trustworthy"
INCONCLUSIVE = "inconclusive: not measured: "
FUNCTIONAL = "functional measures of credit"
NOT_BP = "inconclusive: the reference gradient is not BP's"


@dataclass(frozen=True, config=STRICT)
class DiagnosticThresholds:
    """Where each diagnostic fires. The comparisons are strict: a value equal to its threshold does not fire.

    Attributes:
        g_norm_floor: (b) fires below this ‖g_L‖, at mean reduction over a batch of 128.
        h_norm_explosion_ratio: (a) fires above this per-block growth.
        stability_drift_ceiling: (c) fires above this mean pairwise cosine, in [-1, 1].
        frozen_acc_margin_pp: (d) fires below this margin, in percentage points.
    """

    g_norm_floor: Annotated[float, Field(ge=0, allow_inf_nan=False)] = THRESHOLDS["g_norm_floor"]
    h_norm_explosion_ratio: Annotated[float, Field(ge=0, allow_inf_nan=False)] = THRESHOLDS["h_norm_explosion_ratio"]
    stability_drift_ceiling: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] = THRESHOLDS[
        "stability_drift_ceiling"
    ]
    frozen_acc_margin_pp: Annotated[float, Field(allow_inf_nan=False)] = THRESHOLDS["frozen_acc_margin_pp"]


def other_thresholds(thresholds: DiagnosticThresholds) -> list[str]:
    """Which thresholds are not the protocol's, in a line; none where all are."""
    used = vars(thresholds)
    others = [f"{name} {used[name]:g}, not {value:g}" for name, value in THRESHOLDS.items() if used[name] != value]
    return [f"† under other thresholds than the protocol's: {'; '.join(others)}"] if others else []


class Section(NamedTuple):
    """A part of the printed report; ``flag``: the wording of what fires in it."""

    heading: str
    lines: list[str]
    flag: str | None = None


class Verdict:
    """What a whole and a partial report derive alike from their numbers."""

    method_name: str
    notes: str
    thresholds: DiagnosticThresholds = DiagnosticThresholds()
    remarks: tuple[str, ...] = ()
    reference: Reference | None = None
    protocol_version: str = VERSION
    EVIDENCE: ClassVar[str]
    HEADING: ClassVar[str]

    @property
    def flags(self) -> tuple[str, ...]:
        """The letters of the diagnostics that fire, in the order of the verdict; ``n`` is "not finite"."""
        return tuple(d.FLAG for d in catalogue() if d.fires(self))

    @property
    def kinds(self) -> dict[str, Kind]:
        """How far each diagnostic's number is known, by its letter; without ``n``, which is of all numbers."""
        measured = {d.FLAG: d.value(self) is not None for d in catalogue() if d is not finite}
        return {flag: Kind.EXACT if known else Kind.NOT_MEASURED for flag, known in measured.items()}

    @property
    def verdict(self) -> str:
        """``trustworthy``, or ``needs walk-back: `` and what fired; never trustworthy on a missing measurement."""
        wordings = [self.wording(d) for d in catalogue() if d.fires(self)]
        if wordings:
            return WALK_BACK + "; ".join(wordings)
        if self.reference is Reference.NOT_BP:
            return NOT_BP
        required = {d.FLAG for d in catalogue() if d.REQUIRED}
        known = all(kind is Kind.EXACT for flag, kind in self.kinds.items() if flag in required)
        return TRUSTWORTHY if known else self.inconclusive()

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a reader of the verdict must know, a line each."""
        weak = [WEAK] if self.flags == (direction_stability.FLAG,) else []
        return (*weak, *other_thresholds(self.thresholds))

    def wording(self, diagnostic: ModuleType) -> str:
        """What the verdict says where ``diagnostic`` fires."""
        return str(diagnostic.WORDING)

    def inconclusive(self) -> str:
        """The verdict where nothing fires, but not all that is required is known."""
        missing = [d.TITLE for d in catalogue() if d.REQUIRED and d.fires(self) is None]
        return INCONCLUSIVE + "; ".join(missing)

    def sections(self) -> list[Section]:
        """What to print of each diagnostic."""
        return [
            Section(f"({d.FLAG}) {d.TITLE}", d.explain(self), self.wording(d) if d.fires(self) else None)
            for d in catalogue()
        ]

    def to_dict(self) -> dict[str, Any]:
        """The measured numbers as plain JSON values (NaN and infinities as strings), and what follows from them."""
        values = {d.FLAG: d.value(self) for d in catalogue()}
        return {
            **json.loads(TypeAdapter(type(self)).dump_json(self)),
            "protocol": PROTOCOL,
            "evidence": self.EVIDENCE,
            "kinds": self.kinds,
            "max_per_block_growth": plain(values[residual_norm.FLAG]),
            "margin_pp": plain(values[frozen_control.FLAG]),
            "flags": list(self.flags),
            "verdict": self.verdict,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The report of ``to_dict``, or of ``audit/report.json``; what is derived is derived anew.

        Raises:
            ValueError: a number is missing or is not a number; the message names the field.
        """
        derived = {"protocol", "evidence", "kinds", "max_per_block_growth", "margin_pp", "flags", "verdict"}
        return TypeAdapter(cls).validate_python({k: v for k, v in data.items() if k not in derived | {"knockout"}})

    def __str__(self) -> str:
        lines = [
            f"{self.HEADING}, protocol {PROTOCOL}, measurement revision {self.protocol_version}",
            f"method: {self.method_name}",
            *([f"notes:  {self.notes}"] if self.notes else []),
            *(f"states: {remark}" for remark in self.remarks),
        ]
        for section in self.sections():
            lines += ["", section.heading, *(f"    {line}" for line in section.lines)]
            if section.flag:
                lines.append(f"    FLAG: {section.flag}")
        return "\n".join([*lines, "", f"VERDICT: {self.verdict}", *(f"    {caveat}" for caveat in self.caveats)])


@dataclass(frozen=True, config=STRICT)
class DiagnosticReport(Verdict):
    """What was measured of one trained network, and the verdict that follows from it.

    Everything but the measured numbers is derived, so a report rebuilt from them gives the same verdict.

    Attributes:
        method_name: the learning rule, as it is to be printed.
        notes: free text: architecture, data set.
        residual_norms: ‖h_0‖ … ‖h_L‖.
        bp_grad_norms: ‖g_0‖ … ‖g_L‖, at mean reduction over a batch of 128; each None where the gradient is not BP's.
        stability_layer: the layer at which (c) is taken, ⌊L/2⌋.
        cross_batch_stability: (c); None: not measured.
        headline_acc: accuracy in [0, 1]; None: not given.
        frozen_baseline_acc: mean accuracy of the frozen control; None: there is none, and (d) is skipped.
        thresholds: where each diagnostic fires.
        grad_gain: median of ‖g_L‖/‖e‖; None: not measured, and (b) follows ‖g_L‖ alone.
        n_batches: how many disjoint evaluation batches were used.
        control_runs: the runs whose mean is ``frozen_baseline_acc``.
        control_note: what else a reader must know of the control, or why there is none.
        extra: what diagnostics beyond the four have measured, by name.
        remarks: how it was measured: which modules the states are of, what was done with tokens, precision, hooks.
        stream_growth: (a) of the whole stream, over all tokens and features, where ``residual_norms`` are of the class
            token alone; None elsewhere, and (a) follows ``residual_norms``.
        chance_error: ‖e‖ of a uniform output over the network's C classes, √(1 − 1/C); None: not known, taken as 0.95.
        reference: whether the gradient is BP's; None: not known, as in a report from numbers alone.
        states: where each of h_0 … h_L was read, such as ``input of blocks.0``.
        protocol_version: the measurement revision that the numbers are of.
        functional: what the credits do to the loss; None: not asked for. No verdict follows from it.
    """

    EVIDENCE = "full"
    HEADING = "FA-Track diagnostic report"

    method_name: str
    notes: str
    residual_norms: tuple[float, ...]
    bp_grad_norms: tuple[float | None, ...]
    stability_layer: int | None
    cross_batch_stability: float | None
    headline_acc: Accuracy
    frozen_baseline_acc: Accuracy
    thresholds: DiagnosticThresholds = DiagnosticThresholds()
    grad_gain: float | None = None
    n_batches: int | None = None
    control_runs: tuple[str, ...] = ()
    control_note: str = ""
    extra: dict[str, float | None] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    stream_growth: float | None = None
    chance_error: float | None = None
    reference: Reference | None = None
    states: tuple[str, ...] = ()
    protocol_version: str = VERSION
    functional: Functional | None = None

    def sections(self) -> list[Section]:
        """What to print of each diagnostic, and of the functional measures."""
        beside = [Section(FUNCTIONAL, self.functional.lines())] if self.functional else []
        return [*super().sections(), *beside]

    @property
    def max_per_block_growth(self) -> float:
        """(a): the largest ‖h_{l+1}‖/‖h_l‖; 1.0 with fewer than two layers."""
        growth = residual_norm.largest(self.residual_norms)
        assert growth is not None
        return growth

    @property
    def residual_stream_exploded(self) -> bool:
        """Whether (a) fires."""
        return bool(residual_norm.fires(self))

    @property
    def bp_grad_at_floor(self) -> bool:
        """Whether (b) fires: ‖g_L‖ below the floor, and not because the output error is small."""
        return bool(grad_norm.fires(self))

    @property
    def reference_drift_dominated(self) -> bool:
        """Whether (c) fires."""
        return bool(direction_stability.fires(self))

    @property
    def frozen_baseline_undercut(self) -> bool | None:
        """Whether (d) fires; None without a control."""
        return frozen_control.fires(self)
