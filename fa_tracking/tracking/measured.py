"""What was measured of a network, by its names in MLflow: as metrics, and as an audit's tags, read back here alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fa_tracking import untrusted
from fa_tracking.protocol import verdicts
from fa_tracking.tracking import names

if TYPE_CHECKING:
    from fa_tracking.protocol.alignment import Alignment
    from fa_tracking.protocol.functional_report import Functional
    from fa_tracking.protocol.report import DiagnosticReport


@dataclass(frozen=True)
class Stored:
    """Holds what a run's last audit stored in its tags. Anybody may write a tag, so an unreadable tag counts as empty.

    Attributes:
        verdict: None: the run has none.
        measured: as ``auditor/write.py`` stores it, by name.
        thresholds: by their names in a report.
    """

    verdict: str | None
    measured: Mapping[str, Any]
    thresholds: Mapping[str, Any]

    @property
    def shown_verdict(self) -> str | None:
        """Return the verdict, with a mark if the thresholds are not the protocol's."""
        return None if self.verdict is None else verdicts.marked(self.verdict, self.thresholds)

    @property
    def epoch(self) -> int | None:
        """Return the verdict's epoch; None if the tags do not say."""
        try:
            return int(self.measured["epoch"])
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    @property
    def fired(self) -> Mapping[str, bool | None]:
        """Whether each diagnostic fired, by its letter; None also of a bound or a proxy that did not fire."""
        return _mapping(self.measured.get("fired"))

    @property
    def kinds(self) -> Mapping[str, str]:
        """How far each diagnostic's number was known, by its letter."""
        return {flag: str(kind) for flag, kind in _mapping(self.measured.get("kinds")).items()}

    @property
    def inexact(self) -> Mapping[str, Any]:
        """The numbers that are bounds or proxies, by letter."""
        return _mapping(self.measured.get("inexact"))

    def number(self, name: str) -> float | None:
        """What was measured under a name; None where it was not."""
        return number(self.measured.get(name))


def read(tags: Mapping[str, str]) -> Stored:
    """What the last audit of the run with these tags stored."""
    verdict = tags.get(names.TAG_VERDICT)
    return Stored(verdict, _parsed(tags, names.TAG_MEASURED), _parsed(tags, names.TAG_THRESHOLDS))


def number(value: Any) -> float | None:
    """A number as an audit stores it, NaN and infinities as words; None where it is none."""
    try:
        return float(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None


def _parsed(tags: Mapping[str, str], key: str) -> Mapping[str, Any]:
    try:
        return _mapping(untrusted.parse_json(tags.get(key, "")))
    except ValueError:
        return {}


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}


def report_metrics(report: "DiagnosticReport") -> dict[str, float]:
    scalars = {
        names.MAX_BLOCK_GROWTH: report.max_per_block_growth,
        names.DEEPEST_GRAD_NORM: report.bp_grad_norms[-1],
        names.GRAD_GAIN: report.grad_gain,
        names.STREAM_GROWTH: report.stream_growth,
        names.CHANCE_ERROR: report.chance_error,
        names.STABILITY: report.cross_batch_stability,
        **{f"diagnostics/{name}": value for name, value in report.extra.items()},
    }
    return {
        **{key: value for key, value in scalars.items() if value is not None},
        **{names.residual_norm(layer): v for layer, v in enumerate(report.residual_norms) if v is not None},
        **{names.grad_norm(layer): v for layer, v in enumerate(report.bp_grad_norms) if v is not None},
    }


def alignment_metrics(found: "Alignment") -> dict[str, float]:
    series = (
        (names.alignment, found.gamma),
        (names.alignment_pooled, found.pooled),
        (names.alignment_null, found.null_mean),
        (names.alignment_null_sd, found.null_sd),
    )
    values = {name(layer): v for name, by_layer in series for layer, v in enumerate(by_layer) if v is not None}
    return {**values, names.ALIGNMENT_MISSING: float(found.missing)}


def functional_metrics(found: "Functional") -> dict[str, float]:
    series = [(names.perturbation, "_float32", found.rule.rho_float32)]
    for of, effect in (("", found.rule), ("_bp", found.bp), ("_random", found.random)):
        series += [(names.perturbation, of, effect.rho), (names.nudge, of, effect.nudge)]
    return {name(layer, of): v for name, of, by_layer in series for layer, v in enumerate(by_layer) if v is not None}
