"""What an audit stores in a run's tags: its keys, written and read here alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fa_tracking import untrusted
from fa_tracking.protocol import verdicts
from fa_tracking.protocol.diagnostics import catalogue, finite, stored
from fa_tracking.protocol.table import Kind
from fa_tracking.spelled import plain
from fa_tracking.tracking import names

if TYPE_CHECKING:
    from fa_tracking.protocol.report import DiagnosticReport

TAGS = {
    names.TAG_FLAGS,
    names.TAG_EVIDENCE,
    names.TAG_CONTROL_RUNS,
    names.TAG_PROTOCOL_VERSION,
    names.TAG_THRESHOLDS,
    names.TAG_MEASURED,
    names.TAG_CHECKPOINT_SHA256,
    names.TAG_AUDITED_AT,
}
"""Of an audit, besides the verdict and the note."""

NUMBERS = {
    "epoch": "",
    "headline_accuracy": "headline_acc",
    "control_accuracy": "frozen_baseline_acc",
    "margin_pp": "margin_pp",
    "max_block_growth": "max_per_block_growth",
    "stream_growth": "stream_growth",
    "deepest_residual_norm": "residual_norms",
    "deepest_grad_norm": "bp_grad_norms",
    "grad_gain": "grad_gain",
    "chance_error": "chance_error",
    "reference": "reference",
    "stability": "cross_batch_stability",
}
"""The keys of ``names.TAG_MEASURED`` that are columns of the table audits too, and where a report's JSON has them: of a
list, the last. The epoch is the auditor's."""


def further() -> tuple[ModuleType, ...]:
    """The diagnostics without columns of their own: an audit stores their numbers and thresholds by letter."""
    return tuple(d for d in catalogue() if d not in (finite, *stored()))


def measured(report: "DiagnosticReport", epoch: int, knockout: Mapping[str, Any] | None) -> dict[str, Any]:
    """What ``names.TAG_MEASURED`` holds of a report; null where a number is not known exactly.

    The functional measures stand beside the others to six digits, as far as a tag has room.
    """
    from fa_tracking.protocol.functional_report import in_short  # not sooner: pydantic takes a while to import

    full = report.to_dict() | {"": epoch}
    inexact = {d.FLAG: plain(d.value(report)) for d in catalogue() if _is_inexact(report, d.FLAG)}
    fired = {d.FLAG: d.fires(report) for d in catalogue()}
    numbers = {key: _last(full[name]) for key, name in NUMBERS.items()}
    numbers |= {d.COLUMN: None for d in stored() if d.FLAG in inexact}
    scalars = {
        **numbers,
        "extra": full["extra"],
        "knockout": knockout,
        "fired": {flag: fires if fires or flag not in inexact else None for flag, fires in fired.items()},
        "kinds": full["kinds"],
        "inexact": inexact,
    }
    if more := further():
        scalars["further"] = {d.FLAG: {"value": _exact(d, report), "threshold": _threshold(d, report)} for d in more}
    room = names.TAG_LIMIT - len(json.dumps({**scalars, "functional": None}))
    return {**scalars, "functional": in_short(report.functional, room) if report.functional else None}


def _is_inexact(report: "DiagnosticReport", flag: str) -> bool:
    return report.kinds.get(flag) in (Kind.BOUND, Kind.PROXY)


def _exact(diagnostic: ModuleType, report: "DiagnosticReport") -> Any:
    return None if _is_inexact(report, diagnostic.FLAG) else plain(diagnostic.value(report))


def _threshold(diagnostic: ModuleType, report: "DiagnosticReport") -> float | None:
    return report.thresholds.at(diagnostic.THRESHOLD) if hasattr(diagnostic, "THRESHOLD") else None


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, list) else value


@dataclass(frozen=True)
class Stored:
    """What a run's last audit stored in its tags. Anybody may write a tag: what cannot be read is empty.

    Attributes:
        verdict: None: the run has none.
        measured: as ``measured`` makes it, by key.
        thresholds: by their names in a report.
    """

    verdict: str | None
    measured: Mapping[str, Any]
    thresholds: Mapping[str, Any]

    @property
    def shown_verdict(self) -> str | None:
        """The verdict with the mark of other thresholds than the protocol's."""
        return None if self.verdict is None else verdicts.marked(self.verdict, self.thresholds)

    @property
    def epoch(self) -> int | None:
        """The epoch that the verdict is of; None where it does not say."""
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

    @property
    def further(self) -> Mapping[str, Mapping[str, Any]]:
        """Of the diagnostics without columns of their own, by letter: the number and the threshold."""
        found = _mapping(self.measured.get("further"))
        return {flag: _mapping(said) for flag, said in found.items()}

    def number(self, key: str) -> float | None:
        """What was measured under a key; None where it was not."""
        return number(self.measured.get(key))

    def value(self, diagnostic: ModuleType) -> float | None:
        """A diagnostic's number, also of a bound or a proxy; None where it was not measured."""
        flag, is_stored = diagnostic.FLAG, diagnostic in stored()
        own = self.measured.get(diagnostic.COLUMN) if is_stored else self.further.get(flag, {}).get("value")
        return number(self.inexact.get(flag) if own is None else own)

    def threshold(self, diagnostic: ModuleType) -> float | None:
        """Where a diagnostic fired; None where that is not known."""
        if diagnostic in stored():
            return number(self.thresholds.get(diagnostic.THRESHOLD.name))
        return number(self.further.get(diagnostic.FLAG, {}).get("threshold"))


def read(tags: Mapping[str, str]) -> Stored:
    """What the last audit of the run with these tags stored."""
    try:
        measured = parsed(tags, names.TAG_MEASURED)
    except ValueError:
        measured = {}
    try:
        used = parsed(tags, names.TAG_THRESHOLDS)
    except ValueError:
        used = {}
    return Stored(tags.get(names.TAG_VERDICT), measured, used)


def parsed(tags: Mapping[str, str], key: str) -> Mapping[str, Any]:
    """What a tag of JSON says; nothing where there is none.

    Raises:
        ValueError: it is no object.
    """
    found = untrusted.parse_json(tags.get(key, "{}"))
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    return found


def number(value: Any) -> float | None:
    """A number as an audit stores it, NaN and infinities as words; None where it is none."""
    try:
        return float(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}
