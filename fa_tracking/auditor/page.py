"""The report of one run as a page of its own: no script, no second file, so that MLflow's preview shows it."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from fa_tracking.auditor.pictures import EXPLAINED
from fa_tracking.protocol.report import TRUSTWORTHY, DiagnosticReport, Section
from fa_tracking.untrusted import printable_lines

if TYPE_CHECKING:
    from dashboards.run_charts import Picture

NO_PICTURES = "Audited without pictures: fa-track audit draws the run's norms and course unless told --no-pictures."
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
body { color: #1b1b1b; background: #fff }
h1 { font-size: 1.3rem; margin-bottom: .2rem } h2 { font-size: 1rem; margin: 1.4rem 0 .2rem }
pre { font: 13px/1.5 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 }
.verdict { border-left: .4rem solid; padding: .6rem 1rem; margin: 1rem 0; font-weight: 600 }
.good { border-color: #0072b2; background: #eaf4fa } .bad { border-color: #d55e00; background: #fdf0e6 }
.pictures { display: flex; flex-wrap: wrap; gap: .5rem 1rem } .pictures svg { max-width: 100%; height: auto }
.pictures div { break-inside: avoid } .note { color: #444; font-size: 13px; margin: .3rem 0 0 }
.flag { color: #a34700; font-weight: 600 }
"""


def page(report: DiagnosticReport, title: str, drawn: "Sequence[Picture] | None", further: Mapping[str, str]) -> str:
    """HTML of a report, of its pictures and of ``further`` sections, lines by title.

    Every text from the run is escaped, and what cannot be printed of it replaced; the pictures hold none. ``drawn``:
    None where none were asked for.
    """
    good = report.verdict == TRUSTWORTHY
    sections = [*report.sections(), *(Section(heading, [lines]) for heading, lines in further.items())]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_shown(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{_shown(title)}</h1><p>{_shown('; '.join([report.notes, *report.remarks]))}</p>"
        f'<p class="verdict {"good" if good else "bad"}">{"✓" if good else "⚑"} {_shown(report.verdict)}</p>'
        f"{_notes(report.caveats)}"
        f"{_pictures(drawn)}{''.join(map(_section, sections))}</body></html>\n"
    )


def _notes(lines: Sequence[str]) -> str:
    return "".join(f'<p class="note">{_shown(line)}</p>' for line in lines)


def _pictures(drawn: "Sequence[Picture] | None") -> str:
    if drawn is None:
        return f'<p class="note">{NO_PICTURES}</p>'
    if not drawn:
        return ""
    each = "".join(f'<div role="img" aria-label="{_shown(p.description)}">{p.svg}</div>' for p in drawn)
    return f'<div class="pictures">{each}</div><p class="note">{EXPLAINED}</p>'


def _section(section: Section) -> str:
    flag = f'<p class="flag">⚑ FLAG: {_shown(section.flag)}</p>' if section.flag else ""
    lines = _shown("\n".join(section.lines))
    return f"<h2>{_shown(section.heading)}</h2><pre>{lines}</pre>{flag}"


def _shown(text: str) -> str:
    return escape(printable_lines(text))
