"""What a gate asks for, and whether a stored verdict meets it."""

from collections.abc import Mapping
from dataclasses import dataclass

from fa_tracking.errors import UsageError
from fa_tracking.protocol.diagnostics import catalogue
from fa_tracking.protocol.table import Evidence, Kind
from fa_tracking.protocol.verdicts import head
from fa_tracking.tracking import names
from fa_tracking.tracking.audited import Stored, read

VERDICTS = ("trustworthy", "walk-back", "inconclusive")
"""What a gate can ask for: the heads of the verdicts."""

NOT_FINITE = "n"


@dataclass(frozen=True)
class Requirement:
    """What a gate asks for.

    Attributes:
        verdicts: those of ``VERDICTS`` that pass; empty: any.
        forbidden: letters of diagnostics that must have been measured and must not fire. With any of them, ``n`` too.
        methods: only these; empty: all. Each must have a run.
        min_seeds: distinct seeds that must pass in every cell; with 1, the runs say it all.
        allow_partial: whether a verdict on partial evidence can pass; then what is known by a bound or a proxy, and did
            not fire, counts as measured.
        controls: whether frozen controls are judged, too.
    """

    verdicts: tuple[str, ...] = ("trustworthy",)
    forbidden: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    min_seeds: int = 1
    allow_partial: bool = False
    controls: bool = False

    def __post_init__(self) -> None:
        known = [d.FLAG for d in catalogue()]
        if unknown := [flag for flag in self.forbidden if flag not in known]:
            raise UsageError(f"no flag {', '.join(map(repr, unknown))}: choose among {', '.join(known)}")

    def __str__(self) -> str:
        asked = " or ".join(self.verdicts)
        flags = f"without the flags {', '.join(self.flags)}" if self.flags else ""
        return " ".join(part for part in (asked, flags) if part)

    @property
    def flags(self) -> tuple[str, ...]:
        """``forbidden``, and ``n`` with them: of a run that diverged no other flag means anything."""
        return tuple(dict.fromkeys((NOT_FINITE, *self.forbidden))) if self.forbidden else ()

    def falls_short(self, tags: Mapping[str, str], verdict: str) -> str:
        """Why a run's verdict does not meet the requirement; empty where it does."""
        evidence = tags.get(names.TAG_EVIDENCE)
        if evidence != Evidence.FULL and not self.allow_partial:
            return f"{evidence or 'no word on its'} evidence: {verdict}"
        if self.verdicts and _head(verdict) not in self.verdicts:
            return verdict
        fired = self.fired(read(tags))
        if unmeasured := [flag for flag in self.flags if fired.get(flag) is None]:
            return f"not measured: {', '.join(unmeasured)}; {verdict}"
        return verdict if any(fired[flag] for flag in self.flags) else ""

    def fired(self, stored: Stored) -> dict[str, bool | None]:
        """Whether each diagnostic fired, by its letter, as the audit stored it; empty where that cannot be read.

        The audit stores None of a bound or a proxy that did not fire; where partial evidence can pass, that is False.
        """
        inexact = {flag for flag, kind in stored.kinds.items() if kind in (Kind.BOUND, Kind.PROXY)}
        passes = inexact if self.allow_partial else set()
        return {flag: False if fires is None and flag in passes else fires for flag, fires in stored.fired.items()}


def _head(verdict: str) -> str:
    """The one of ``VERDICTS`` that a verdict is; trustworthy has no more words, the others have."""
    said = head(verdict)
    return "" if (":" in verdict) == (said == VERDICTS[0]) else said.removeprefix("needs ")
