"""Where the diagnostics fire: the protocol's thresholds, or others."""

from dataclasses import field
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from fa_tracking.protocol.diagnostics import direction_stability, frozen_control, grad_norm, residual_norm, thresholds
from fa_tracking.protocol.measurement import STRICT
from fa_tracking.protocol.ranges import refusing
from fa_tracking.protocol.table import Threshold

_A, _B, _C, _D = (d.THRESHOLD for d in (residual_norm, grad_norm, direction_stability, frozen_control))


@refusing
@dataclass(frozen=True, config=STRICT)
class DiagnosticThresholds:
    """Holds the value at which each diagnostic fires. Comparisons are strict: a value equal to its threshold does not
    fire.

    Attributes:
        g_norm_floor: (b) fires below this ‖g_L‖, for the mean loss over a batch of 128.
        h_norm_explosion_ratio: (a) fires above this per-block growth.
        stability_drift_ceiling: (c) fires above this mean pairwise cosine, in [-1, 1].
        frozen_acc_margin_pp: (d) fires below this margin, in percentage points.
        extra: thresholds of diagnostics beyond the four, by name; a missing one is the diagnostic's own.
    """

    g_norm_floor: Annotated[float, Field(ge=_B.least, allow_inf_nan=False)] = _B.default
    h_norm_explosion_ratio: Annotated[float, Field(ge=_A.least, allow_inf_nan=False)] = _A.default
    stability_drift_ceiling: Annotated[float, Field(ge=_C.least, le=_C.most, allow_inf_nan=False)] = _C.default
    frozen_acc_margin_pp: Annotated[float, Field(allow_inf_nan=False)] = _D.default
    extra: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = field(default_factory=dict, hash=False)

    @model_validator(mode="after")
    def _are_known(self) -> Self:
        known = {t.name: t for t in thresholds() if t.name not in self.__dataclass_fields__}
        for name, value in self.extra.items():
            if name not in known:
                raise ValueError(f"{name!r} is the threshold of no diagnostic that is installed here")
            if not known[name].least <= value <= known[name].most:
                raise ValueError(f"{name} = {value:g} is not in [{known[name].least:g}, {known[name].most:g}]")
        return self

    @classmethod
    def of(cls, values: dict[str, float]) -> "DiagnosticThresholds":
        """Make thresholds from ``values`` by name; the others are the protocol's own.

        Raises:
            ValueError: a threshold cannot have this value; the message names it.
        """
        own = {name: value for name, value in values.items() if name in cls.__dataclass_fields__}
        return cls(**own, extra={name: value for name, value in values.items() if name not in own})

    def at(self, threshold: Threshold) -> float:
        """Return the value of this threshold."""
        value: float = getattr(self, threshold.name, self.extra.get(threshold.name, threshold.default))
        return value


def other_thresholds(used: DiagnosticThresholds) -> list[str]:
    """Which thresholds are not the protocol's, in a line; none where all are."""
    others = [f"{t.name} {used.at(t):g}, not {t.default:g}" for t in thresholds() if used.at(t) != t.default]
    return [f"† under other thresholds than the protocol's: {'; '.join(others)}"] if others else []
