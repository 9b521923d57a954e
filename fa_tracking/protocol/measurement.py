"""What was measured of one trained network, or is known of it: numbers, and nothing that follows from them."""

import math
from dataclasses import field
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict
from pydantic.dataclasses import dataclass

from fa_tracking.protocol import VERSION
from fa_tracking.protocol.functional_report import Functional
from fa_tracking.protocol.table import Evidence, Reference

STRICT = ConfigDict(extra="forbid", ser_json_inf_nan="strings")


def is_share(accuracy: float | None) -> float | None:
    """The accuracy, unless it is a finite number outside [0, 1], which is a ValueError."""
    if accuracy is not None and math.isfinite(accuracy) and not 0 <= accuracy <= 1:
        raise ValueError("an accuracy is a share in [0, 1], not a percentage")
    return accuracy


def _is_norm(norm: float) -> float:
    if norm < 0:
        raise ValueError("a norm is not negative")
    return norm


Accuracy = Annotated[float | None, AfterValidator(is_share)]
Norm = Annotated[float, AfterValidator(_is_norm)]


@dataclass(frozen=True, config=STRICT)
class Measurement:
    """The numbers of a report. One that is not known is None; ``DiagnosticReport`` says what each of them is."""

    method_name: str
    notes: str
    residual_norms: tuple[float | None, ...]
    bp_grad_norms: tuple[float | None, ...]
    stability_layer: int | None
    cross_batch_stability: float | None
    headline_acc: Accuracy
    frozen_baseline_acc: Accuracy
    thresholds: Any = None
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
    evidence: Evidence = Evidence.FULL
    max_block_growth: float | None = None
    given: dict[str, float] = field(default_factory=dict)
