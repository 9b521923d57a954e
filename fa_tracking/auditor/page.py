"""The report of one run as a page of its own: no script, no second file, so that MLflow's preview shows it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fa_tracking import html
from fa_tracking.auditor.pictures import EXPLAINED
from fa_tracking.protocol.report import TRUSTWORTHY, DiagnosticReport, Section

if TYPE_CHECKING:
    from fa_tracking.dashboards.run_charts import Picture

NO_PICTURES = "Audited without pictures: fa-track audit draws the run's norms and course unless told --no-pictures."


def page(report: DiagnosticReport, title: str, drawn: "Sequence[Picture] | None", further: Mapping[str, str]) -> str:
    """HTML of a report, of its pictures and of ``further`` sections, lines by title.

    Every text from the run is escaped, and what cannot be printed of it replaced; the pictures hold none. ``drawn``:
    None where none were asked for.
    """
    return html.render(
        "run_report.html.j2",
        title=title,
        remarks=[report.notes, *report.remarks],
        is_good=report.verdict == TRUSTWORTHY,
        verdict=report.verdict,
        caveats=report.caveats,
        pictures=drawn,
        no_pictures=NO_PICTURES,
        explained=EXPLAINED,
        sections=[*report.sections(), *(Section(heading, [lines]) for heading, lines in further.items())],
    )
