"""FA-Track: diagnostics, tracking, audit and results database for feedback-alignment research.

Names are loaded on first use: importing this package imports neither torch nor mlflow.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fa_tracking.auditor.run import audit as audit
    from fa_tracking.checks.replay import replay as replay
    from fa_tracking.protocol.diagnose import diagnose as diagnose
    from fa_tracking.protocol.report import DiagnosticReport as DiagnosticReport
    from fa_tracking.protocol.report import PartialReport as PartialReport
    from fa_tracking.protocol.thresholds import DiagnosticThresholds as DiagnosticThresholds
    from fa_tracking.results.database import connect as connect
    from fa_tracking.tracking.checkpoint import DataSource as DataSource
    from fa_tracking.tracking.opening import resume_run as resume_run
    from fa_tracking.tracking.opening import start_run as start_run

_HOMES = {
    "DataSource": "fa_tracking.tracking.checkpoint",
    "DiagnosticReport": "fa_tracking.protocol.report",
    "DiagnosticThresholds": "fa_tracking.protocol.thresholds",
    "PartialReport": "fa_tracking.protocol.report",
    "audit": "fa_tracking.auditor.run",
    "connect": "fa_tracking.results.database",
    "diagnose": "fa_tracking.protocol.diagnose",
    "replay": "fa_tracking.checks.replay",
    "resume_run": "fa_tracking.tracking.opening",
    "start_run": "fa_tracking.tracking.opening",
}

__all__ = [
    "DataSource",
    "DiagnosticReport",
    "DiagnosticThresholds",
    "PartialReport",
    "audit",
    "connect",
    "diagnose",
    "replay",
    "resume_run",
    "start_run",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'fa_tracking' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
