"""What is said around a verdict, wherever it is shown: the mark of other thresholds, and what a reader must know."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from fa_tracking.protocol.diagnostics import direction_stability, thresholds

THRESHOLDS = {threshold.name: threshold.default for threshold in thresholds()}
"""The protocol's own, by their names in a report and in the database."""
WALK_BACK = "needs walk-back: "
OTHER_THRESHOLDS = " (other thresholds)"
"""The end of a verdict that is shown, where it was judged under other thresholds than the protocol's."""

WEAK = (
    "(c) alone is a weak reason to walk back: it fires on healthy networks too; see The thresholds and their "
    "calibration, docs/explanation/thresholds.md"
)
OTHERS = (
    "(other thresholds), †: judged under others than the protocol's, which the tag fa.thresholds and the report name"
)

_C_ALONE = re.compile(rf"{WALK_BACK}{re.escape(direction_stability.WORDING)}(?! \(by proxy[^;]*\);)(?!;)")


def marked(verdict: str, used: Mapping[str, Any]) -> str:
    """A verdict with the mark of other thresholds, where it needs one; what is not known of them makes no mark."""
    extra = used.get("extra")
    known = {**used, **extra} if isinstance(extra, Mapping) else used
    other = any(known.get(name, value) not in (None, value) for name, value in THRESHOLDS.items())
    return f"{verdict}{OTHER_THRESHOLDS}" if other else verdict


def head(verdict: str) -> str:
    """A verdict without its reasons and its mark: ``trustworthy``, ``needs walk-back``, ``inconclusive``."""
    return verdict.partition(":")[0].removesuffix(OTHER_THRESHOLDS)


def caveats(verdicts: Iterable[str]) -> list[str]:
    """What a reader of these verdicts must know, a line each; also of several in one text, as in MIXED."""
    shown = [*verdicts]
    lines = [WEAK] if any(_C_ALONE.search(verdict) for verdict in shown) else []
    return lines + ([OTHERS] if any(OTHER_THRESHOLDS in verdict for verdict in shown) else [])
