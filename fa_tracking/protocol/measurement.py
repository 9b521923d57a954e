"""What was measured of one trained network, or is known of it: numbers, and nothing that follows from them."""

from dataclasses import field
from typing import Any, Self

from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass

from fa_tracking.protocol import VERSION
from fa_tracking.protocol.functional_report import Functional
from fa_tracking.protocol.ranges import Accuracy, Cosine, Count, Norm, same_length
from fa_tracking.protocol.table import Evidence, Reference

STRICT = ConfigDict(extra="forbid", ser_json_inf_nan="strings")


@dataclass(frozen=True, config=STRICT)
class Measurement:
    """The numbers of a report. One that is not known is None; ``DiagnosticReport`` says what each of them is."""

    method_name: str
    notes: str
    residual_norms: tuple[Norm | None, ...]
    bp_grad_norms: tuple[Norm | None, ...]
    stability_layer: Count | None
    cross_batch_stability: Cosine | None
    headline_acc: Accuracy | None
    frozen_baseline_acc: Accuracy | None
    thresholds: Any = None
    grad_gain: Norm | None = None
    n_batches: Count | None = None
    control_runs: tuple[str, ...] = ()
    control_note: str = ""
    extra: dict[str, float | None] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    stream_growth: Norm | None = None
    chance_error: Norm | None = None
    reference: Reference | None = None
    states: tuple[str, ...] = ()
    protocol_version: str = VERSION
    functional: Functional | None = None
    evidence: Evidence = Evidence.FULL
    max_block_growth: Norm | None = None
    given: dict[str, float] = field(default_factory=dict)

    @model_validator(mode="after")
    def _has_layers_of_one_number(self) -> Self:
        if self.evidence is Evidence.PARTIAL and self.stability_layer is None:
            return self  # the number of layers is not known
        layers = {
            "residual_norms": len(self.residual_norms),
            "bp_grad_norms": len(self.bp_grad_norms),
            "states": len(self.states),
            "functional": len(self.functional.gamma) if self.functional else 0,
        }
        same_length(layers)
        return self
