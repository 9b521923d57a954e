"""What `fa-track audit --diff` prints."""

import textwrap
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from fa_tracking.cli._show import say, show, typed, width
from fa_tracking.tracking import names
from fa_tracking.untrusted import one_line

if TYPE_CHECKING:
    from fa_tracking.auditor.differ import Change, Differences, Said
    from fa_tracking.auditor.run import Audit

NONE = "no verdict"


def as_json(found: "Audit", differing: "Differences") -> dict[str, Any]:
    """Everything of a difference, as plain JSON values."""
    problems = [{"run_id": a.run_id, "run_name": a.run_name, "problem": a.problem} for a in found.problems]
    about = {"problems": problems, "unfinished": found.unfinished, "evaluated": found.evaluated}
    return asdict(differing) | about


def changes(differing: "Differences") -> str:
    """A row a run whose verdict would change, below it why; by experiment."""
    rows = [(_words(c.old), _words(c.new), _revisions(c)) for c in differing.changes]
    wide = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    room = max(12, width() - sum(wide) - len("  " + " → " + "  "))
    room = min(room, max((len(one_line(c.run_name)) for c in differing.changes), default=0))
    lines: list[str] = []
    for experiment, members in groupby(differing.changes, key=lambda change: change.experiment):
        lines += [*([""] if lines else []), *_wrapped(f"experiment {one_line(experiment)}", "", "  ")]
        for change in members:
            row = (_words(change.old), _words(change.new), _revisions(change))
            first, *others = textwrap.wrap(one_line(change.run_name) or change.run_id, room)
            old, new, revisions = (f"{text:<{size}}" for text, size in zip(row, wide, strict=True))
            lines += [f"{first:<{room}}  {old} → {new}  {revisions}".rstrip(), *others]
            lines += [line for why in change.why for line in _wrapped(one_line(why), "    ", "      ")]
    return "".join(f"{line}\n" for line in lines)


def conclude(found: "Audit", differing: "Differences", is_shown: bool) -> None:
    """Show the rows, count, and name the command that writes."""
    if is_shown:
        show(changes(differing))
        show("".join(f"{line}\n" for caveat in _caveats(found) for line in _wrapped(caveat, "", "  ")))
    kept = sum(not a.withdrawn for a in found.problems)
    parts = [f"{len(differing.changes)} of {differing.verdicts} verdicts would change"]
    parts += [f"{_runs(differing.never_audited)} never audited"] if differing.never_audited else []
    parts += [f"{_runs(kept)} not measured"] if kept else []
    say(f"{'; '.join(parts)}. Nothing was written.")
    outdated = dict.fromkeys(change.experiment for change in differing.changes)
    unaudited = dict.fromkeys(a.experiment for a in found.runs if names.TAG_VERDICT not in a.before)
    if waiting := [*outdated, *(e for e in unaudited if e not in outdated)]:
        further = f"   # then {', '.join(map(one_line, waiting[1:]))}" if waiting[1:] else ""
        say(f"next: {typed('audit', '--experiment', waiting[0])}{further}")
    else:
        say(f"next: {typed('export')}, then {typed('query', 'cross_seed')}")


def _caveats(found: "Audit") -> list[str]:
    """What a reader of the new verdicts must know."""
    return list(dict.fromkeys(caveat for a in found.runs if a.report for caveat in a.report.caveats))


def _runs(number: int) -> str:
    return "1 run was" if number == 1 else f"{number} runs were"


def _words(said: "Said | None") -> str:
    """A verdict in a word, as in the audit's table."""
    from fa_tracking.protocol.report import TRUSTWORTHY

    if said is None:
        return NONE
    word = "✓" if said.verdict == TRUSTWORTHY else f"⚑ {' '.join(said.flags)}" if said.flags else "? inconclusive"
    return one_line(f"{word} partial" if said.evidence == "partial" else word)


def _revisions(change: "Change") -> str:
    new = change.new.protocol_version if change.new else ""
    return one_line(f"revision {change.old.protocol_version or '?'} → {new or '–'}")


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(text, width(), initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
