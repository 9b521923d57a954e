"""Stops a run whose flag holds: what is published of it will not change, only the time that it costs."""

from collections.abc import Collection

from fa_tracking.errors import UsageError
from fa_tracking.protocol.diagnostics import catalogue, frozen_control
from fa_tracking.protocol.report import DiagnosticReport


class Patience:
    """Whether something has held for ``epochs`` epochs in a row.

    Raises:
        UsageError: less than one epoch.
    """

    def __init__(self, epochs: int) -> None:
        if epochs < 1:
            raise UsageError(f"a patience of {epochs} epochs: it must be 1 or more")
        self.epochs = epochs
        self.held = 0

    def __call__(self, holds: bool) -> bool:
        """Take in one more epoch."""
        self.held = self.held + 1 if holds else 0
        return self.held >= self.epochs


class Abort:
    """Decides when to stop: after ``patience`` epochs in a row in which one of ``flags`` fires.

    Args:
        flags: letters of the diagnostics: n (not finite), a, b, c. Not d: only the audit knows its control.
        patience: epochs.

    Raises:
        UsageError: no such flag, or a patience below one.
    """

    def __init__(self, flags: Collection[str], patience: int = 1) -> None:
        known = [d.FLAG for d in catalogue() if d is not frozen_control]
        unknown = [flag for flag in flags if flag not in known]
        if unknown or not flags:
            raise UsageError(f"cannot abort on {', '.join(unknown) or 'no flag'}: choose among {', '.join(known)}")
        self.flags, self.patience = tuple(flags), patience
        self._holds = Patience(patience)

    def anew(self) -> "Abort":
        """Return the same rule for another run, without any epochs yet."""
        return Abort(self.flags, self.patience)

    @property
    def held(self) -> int:
        """Return in how many epochs in a row, up to the last, one of the flags fired."""
        return self._holds.held

    @held.setter
    def held(self, epochs: int) -> None:
        self._holds.held = epochs

    def __call__(self, report: DiagnosticReport) -> bool:
        """Take in the report of one more epoch."""
        return self._holds(bool(set(self.flags) & set(report.flags)))
