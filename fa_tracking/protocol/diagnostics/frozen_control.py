"""(d) Margin over the frozen control: headline accuracy minus that of matched runs with frozen random blocks."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fa_tracking.protocol.partial import Report

ORDER = 4
FLAG = "d"
TITLE = "margin over the frozen control"
WORDING = "deep blocks fail to beat frozen-random baseline"
REQUIRED = False


def value(report: "Report") -> float | None:
    """100 · (headline − frozen), percentage points; None without either."""
    if report.headline_acc is None or report.frozen_baseline_acc is None:
        return None
    return 100 * (report.headline_acc - report.frozen_baseline_acc)


def fires(report: "Report") -> bool | None:
    margin = value(report)
    return None if margin is None else margin < report.thresholds.frozen_acc_margin_pp


def explain(report: "Report") -> list[str]:
    margin = value(report)
    headline = "not given" if report.headline_acc is None else f"{report.headline_acc:.4f}"
    if margin is None:
        why = report.control_note or "no frozen control"
        return [f"skipped: {why}", f"headline accuracy {headline}"]
    lines = [
        f"margin = {margin:+.2f} pp   (fires below {report.thresholds.frozen_acc_margin_pp:g} pp)",
        f"headline accuracy {headline}, frozen control {report.frozen_baseline_acc:.4f}",
    ]
    if report.control_runs:
        lines.append(f"control: mean of {len(report.control_runs)} runs {', '.join(report.control_runs)}")
    if report.control_note:
        lines.append(report.control_note)
    return lines
