from fa_tracking.protocol import PROTOCOL, VERSION, diagnostics
from fa_tracking.protocol.report import INCONCLUSIVE, NOT_BP, TRUSTWORTHY
from fa_tracking.protocol.table import Evidence
from fa_tracking.protocol.thresholds import DiagnosticThresholds
from fa_tracking.protocol.verdicts import WALK_BACK
from reference_pages._markdown import docstring, table

INTRODUCTION = f"""# Diagnostics

Protocol {PROTOCOL}, measurement revision {VERSION}, one file each in `fa_tracking/protocol/diagnostics/`. No flag:
`{TRUSTWORTHY}`. Flags: `{WALK_BACK.strip()}` and their wordings, in this order. A required measurement that is missing:
`{INCONCLUSIVE[Evidence.FULL].strip()}` and its name; where the gradient is none of BP: `{NOT_BP}`. What is measured, and why: [the
protocol](../explanation/protocol.md).
"""


def page() -> str:
    found = diagnostics.catalogue()
    rows = [(f"`{_name(d)}`", d.FLAG, d.TITLE, d.WORDING, "yes" if d.REQUIRED else "no") for d in found]
    parts = [
        INTRODUCTION,
        table(("file", "flag", "measures", "says in the verdict", "required"), rows),
        *(f"## `{_name(d)}`\n\n{docstring(d)}" for d in found),
        f"## Thresholds\n\n{docstring(DiagnosticThresholds)}",
        table(("threshold", "default"), [(f"`{t.name}`", f"{t.default:g}") for t in diagnostics.thresholds()]),
        "How they were chosen: [thresholds](../explanation/thresholds.md).",
        f"## A diagnostic's file\n\n{docstring(diagnostics)}",
    ]
    return "\n\n".join(part.strip() for part in parts)


def _name(diagnostic: object) -> str:
    return diagnostic.__name__.rpartition(".")[2]  # type: ignore[attr-defined]
