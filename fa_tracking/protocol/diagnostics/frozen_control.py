"""(d) Margin over the frozen control: headline accuracy minus that of matched runs with frozen random blocks."""

from typing import TYPE_CHECKING

from fa_tracking.protocol.table import Threshold

if TYPE_CHECKING:
    from fa_tracking.protocol.measurement import Measurement

ORDER = 4
FLAG = "d"
TITLE = "margin over the frozen control"
WORDING = "deep blocks fail to beat frozen-random baseline"
REQUIRED = False
COLUMN, QUANTITY = "margin_pp", "margin over the frozen control (pp)"
THRESHOLD = Threshold(
    "frozen_acc_margin_pp", 2.0, "below", "--margin-pp", "this margin over the frozen control in percentage points"
)

ROUNDING_PP = 2e-5
"""What two accuracies in [0, 1] that were held and averaged in float32 can be off together, in percentage points. No
test set of fewer than five million samples has two margins so close to each other."""


def value(report: "Measurement") -> float | None:
    """100 · (headline − frozen), percentage points; None without either."""
    if report.headline_acc is None or report.frozen_baseline_acc is None:
        return None
    return 100 * (report.headline_acc - report.frozen_baseline_acc)


def fires(report: "Measurement") -> bool | None:
    margin = value(report)
    return None if margin is None else is_below(margin, report.thresholds.frozen_acc_margin_pp)


def is_below(margin: float, threshold: float) -> bool:
    """Whether a margin is below the threshold by more than the rounding of its accuracies: 2.00 pp is not below 2."""
    return margin < threshold - ROUNDING_PP


def explain(report: "Measurement") -> list[str]:
    margin = value(report)
    headline = "not given" if report.headline_acc is None else f"{report.headline_acc:.4f}"
    if margin is None:
        why = report.control_note or "no frozen control"
        return [f"skipped: {why}", f"headline accuracy {headline}"]
    lines = [
        f"margin = {_shown(margin, report.thresholds.frozen_acc_margin_pp)} pp"
        f"   (fires below {report.thresholds.frozen_acc_margin_pp:g} pp)",
        f"headline accuracy {headline}, frozen control {report.frozen_baseline_acc:.4f}",
    ]
    if report.control_runs:
        lines.append(f"control: mean of {len(report.control_runs)} runs {', '.join(report.control_runs)}")
    if report.control_note:
        lines.append(report.control_note)
    return lines


def _shown(margin: float, threshold: float) -> str:
    """With two decimals, or as many as tell a margin that fires from the threshold."""
    for decimals in range(2, 6):
        shown = f"{margin:+z.{decimals}f}"
        if not is_below(margin, threshold) or float(shown) < threshold:
            return shown
    return shown
