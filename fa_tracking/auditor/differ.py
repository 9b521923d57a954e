"""Which verdicts of a store an audit would change, and why. Nothing is written."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from fa_tracking.auditor.run import Audit, Audited
from fa_tracking.protocol.diagnostics import catalogue, frozen_control, grad_norm, residual_norm
from fa_tracking.protocol.report import DiagnosticReport
from fa_tracking.protocol.table import Evidence, Kind, Reference
from fa_tracking.tracking import names
from fa_tracking.tracking.audited import Stored, read

BY: dict[str, str] = {Evidence.FULL: "its model", Evidence.PARTIAL: "what it logged"}
"""What a verdict was made by, according to its evidence."""


@dataclass(frozen=True)
class Said:
    """A verdict as it stands, or as it would stand, beside a run."""

    verdict: str
    flags: tuple[str, ...]
    evidence: str
    protocol_version: str


@dataclass(frozen=True)
class Change:
    """A run whose verdict an audit would change; ``new``: None where it would have none. ``why``: a line a reason."""

    run_id: str
    run_name: str
    experiment: str
    old: Said
    new: Said | None
    why: tuple[str, ...]


@dataclass(frozen=True)
class Differences:
    """What an audit would change, of how many verdicts; and how many runs have none yet."""

    changes: tuple[Change, ...]
    verdicts: int
    never_audited: int


def differences(found: Audit) -> Differences:
    """Hold what ``audit(…, write=False)`` found against the verdicts that the runs carry."""
    audited = [a for a in found.runs if names.TAG_VERDICT in a.before]
    changes = tuple(change for a in audited if (change := _change(a)))
    return Differences(changes, len(audited), len(found.runs) - len(audited))


def _change(audited: Audited) -> Change | None:
    tags, report, new = audited.before, audited.report, None
    flags = tuple(filter(None, tags.get(names.TAG_FLAGS, "").split(",")))
    evidence, version = tags.get(names.TAG_EVIDENCE, Evidence.FULL), tags.get(names.TAG_PROTOCOL_VERSION, "")
    old = Said(tags[names.TAG_VERDICT], flags, evidence, version)
    if report is not None:
        new = Said(report.verdict, report.flags, report.evidence, report.protocol_version)
        if (new.verdict, new.flags) == (old.verdict, old.flags):
            return None
        why = tuple(_Reasons(old, read(tags), report).lines())
    elif audited.withdrawn:
        why = (audited.problem or "",)
    else:
        return None
    return Change(audited.run_id, audited.run_name, audited.experiment, old, new, why)


@dataclass(frozen=True)
class _Reasons:
    """Why a report says something else than the tags of an earlier audit."""

    old: Said
    stored: Stored
    report: DiagnosticReport

    def lines(self) -> Iterator[str]:
        found = [line for d in catalogue() if self._differs(d) for line in self._of(d)]
        if self.old.evidence != self.report.evidence:
            then = BY.get(self.old.evidence, f"{self.old.evidence} evidence")
            yield f"judged by {then} then, by {BY[self.report.evidence]} now"
        yield from found
        if not found and self.report.reference is Reference.NOT_BP:
            yield f"the reference gradient is {Reference.NOT_BP}"
        elif not found:
            yield f"it said: {self.old.verdict}"

    def _differs(self, diagnostic: ModuleType) -> bool:
        """Whether it has a part in the change: its flag, or how far its number is known where a verdict asks for it."""
        flag = diagnostic.FLAG
        if (flag in self.old.flags) != (flag in self.report.flags):
            return True
        is_partial = Evidence.PARTIAL in (self.old.evidence, self.report.evidence)
        known = self.stored.kinds.get(flag), self.report.kinds.get(flag)
        return (diagnostic.REQUIRED or is_partial) and None not in known and known[0] != known[1]

    def _of(self, diagnostic: ModuleType) -> Iterator[str]:
        flag, title = diagnostic.FLAG, f"({diagnostic.FLAG}) {diagnostic.TITLE}"
        first = diagnostic.explain(self.report)[0]
        if not hasattr(diagnostic, "THRESHOLD"):
            yield f"{title}: {first}"
            return
        then, now = self.stored.value(diagnostic), diagnostic.value(self.report)
        used, limit = self.stored.threshold(diagnostic), self.report.thresholds.at(diagnostic.THRESHOLD)
        is_same = then is not None and now is not None and math.isclose(then, now, rel_tol=1e-6)
        if now is None:
            yield f"{title}: {_number(then)} → {first}"
        elif flag == residual_norm.FLAG and residual_norm.of_the_class_token_alone(self.report):
            stream = f"the whole stream grows by {self.report.stream_growth:.4g}"
            yield f"{title}: {_told(then, now)}: growth of the class token alone, {stream}"
        elif flag == grad_norm.FLAG and grad_norm.explained_by_small_error(self.report):
            yield f"{title}: {_told(then, now)}: small gradient explained by small error; {self._at_chance()}"
        elif used not in (None, limit):
            yield f"{title}: {_told(then, now)}, its threshold {used:g} → {limit:g}"
        elif flag == grad_norm.FLAG and is_same and now < limit:
            yield f"{title}: {_number(now)}, not explained by small error any more; {self._at_chance()}"
        elif flag == frozen_control.FLAG and is_same:
            below = "is" if frozen_control.is_below(now, limit) else "is not"
            yield f"{title}: {_number(now)} pp {below} below {limit:g} by more than its accuracies are rounded"
        else:
            yield f"{title}: {_told(then, now)}"

    def _at_chance(self) -> str:
        """‖g_L‖ were the error that of a uniform output, then and now."""
        then = grad_norm.at_chance(self.stored.number("grad_gain"), self.stored.number("chance_error"))
        now = grad_norm.at_chance(self.report.grad_gain, self.report.chance_error)
        return f"at chance it is {_told(then, now)}"


def _told(then: float | None, now: float | None) -> str:
    """Both numbers, with as many digits as tell them apart."""
    if then == now:
        return f"{_number(now)} as before"
    for digits in range(4, 17):
        before, after = _number(then, digits), _number(now, digits)
        if before != after:
            break
    return f"{before} → {after}"


def _number(value: float | None, digits: int = 4) -> str:
    return Kind.NOT_MEASURED.value if value is None else f"{value:z.{digits}g}"
