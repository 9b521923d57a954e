"""Writes what an audit found beside its run: tags, note, report artifacts; and takes a verdict back."""

import json
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from fa_tracking import markdown
from fa_tracking.auditor.evidence.logged_numbers import Log, course_keys, layers_of, read
from fa_tracking.auditor.page import page
from fa_tracking.auditor.pictures import pictures
from fa_tracking.errors import InvalidError
from fa_tracking.protocol.knockout import Knockout
from fa_tracking.protocol.report import DiagnosticReport
from fa_tracking.protocol.table import Reference
from fa_tracking.scratch import scratch
from fa_tracking.tracking import audited, names, store
from fa_tracking.tracking.possible import refuse_impossible
from fa_tracking.untrusted import printable_lines

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


NOTE_WIDTH = 78
"""Of its lines: MLflow breaks none, and a long one pushes the tags beside the note off the page."""


@dataclass(frozen=True)
class Finding:
    """What an audit found of one run.

    Attributes:
        epoch: that the report is of.
        sha256: of the file of weights; None where there is none, as where the evidence is what the run logged.
        log: what the run logged, where that is the evidence.
    """

    report: DiagnosticReport
    epoch: int
    sha256: str | None
    knockout: Knockout
    log: Log | None = None


def write(client: "MlflowClient", run: "Run", found: Finding, pictured: bool = True) -> None:
    """Tags, note and ``audit/report.{txt,json,html}``; what an earlier audit wrote is replaced.

    Args:
        pictured: whether the report has pictures. What its course is drawn of is read from the store where ``found``
            holds no log.
    """
    run_id, report, sha256 = run.info.run_id, found.report, found.sha256
    further = {"Γ by layer": _alignment_lines(client, run, found.epoch), "block knock-out": str(found.knockout)}
    knockout = None if found.knockout.problem else found.knockout.to_dict()
    measured = audited.measured(report, found.epoch, knockout)
    if cut := (measured["functional"] or {}).get("cut"):
        further["functional measures in the results database"] = (
            f"without {cut}, for which the tag {names.TAG_MEASURED} has no room: they stand here and in "
            f"{names.AUDIT}/report.json"
        )
    whole = "\n\n".join([str(report), *(f"{title}\n{lines}" for title, lines in further.items())]) + "\n"
    text = printable_lines(whole)
    told = {**report.to_dict(), "knockout": found.knockout.to_dict()}
    content = json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False)
    values = {
        names.TAG_VERDICT: report.verdict,
        names.TAG_FLAGS: ",".join(report.flags),
        names.TAG_EVIDENCE: report.evidence,
        names.TAG_CONTROL_RUNS: _cut(",".join(report.control_runs)),
        names.TAG_PROTOCOL_VERSION: report.protocol_version,
        names.TAG_THRESHOLDS: json.dumps(report.to_dict()["thresholds"]),
        names.TAG_MEASURED: json.dumps(measured, allow_nan=False),
        **({names.TAG_CHECKPOINT_SHA256: sha256} if sha256 else {}),
        **({names.TAG_REFERENCE: Reference.NOT_BP.value} if report.reference is Reference.NOT_BP else {}),
        names.TAG_AUDITED_AT: datetime.now(UTC).isoformat(timespec="milliseconds"),
        names.TAG_NOTE: _note(report, text),
    }
    drawn = pictures(report, found.log or read(client, run, course_keys(run.data.metrics))) if pictured else None
    html = page(report, run.info.run_name or run_id, drawn, further)
    outdated = [names.TAG_CHECKPOINT_SHA256] if sha256 is None else []
    if report.reference is not Reference.NOT_BP:
        outdated.append(names.TAG_REFERENCE)  # with it a report of logs is NOT_BP too, and keeps it
    _remove(client, run, outdated)  # never beside the new verdict
    _write(client, run_id, {"txt": text, "json": content + "\n", "html": html}, values)


def is_audited(run: "Run") -> bool:
    """Whether a run carries anything of an audit."""
    return bool(audited.TAGS & run.data.tags.keys())


def withdraw(client: "MlflowClient", run: "Run", problem: str) -> None:
    """Take an earlier verdict off a run that can no longer be audited, and say why in its report."""
    if not is_audited(run):
        return
    text = printable_lines(f"no verdict: {problem}\n")
    reports = {"txt": text, "json": json.dumps({"problem": problem}) + "\n", "html": f"<pre>{escape(text)}</pre>\n"}
    _remove(client, run, [names.TAG_VERDICT, names.TAG_NOTE])  # first: half taken back, there is no verdict
    _write(client, run.info.run_id, reports, {})
    _remove(client, run, audited.TAGS)


def _remove(client: "MlflowClient", run: "Run", tags: Iterable[str]) -> None:
    with store.store_errors():
        for key in tags:
            if key in run.data.tags:
                client.delete_tag(run.info.run_id, key)


def _write(client: "MlflowClient", run_id: str, reports: dict[str, str], tags: dict[str, str]) -> None:
    from mlflow.entities import RunTag

    with store.store_errors(), scratch() as folder:
        for suffix, content in reports.items():
            (folder / f"report.{suffix}").write_text(content, encoding="utf-8")
        client.log_artifacts(run_id, str(folder), names.AUDIT)
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def _note(report: DiagnosticReport, text: str) -> str:
    """The verdict and a row a diagnostic, what fires first, for MLflow folds the rest away; then the whole report."""
    fired_first = sorted(report.sections(), key=lambda section: not section.flag)
    rows = [(f"⚑ {s.heading}" if s.flag else s.heading, s.lines[0]) for s in fired_first]
    whole = "\n".join(textwrap.fill(line, NOTE_WIDTH, subsequent_indent=" " * 8) for line in text.splitlines())
    fence = markdown.fence(whole)
    said = "".join(f"{markdown.escaped(caveat)}\n\n" for caveat in report.caveats)
    head = f"**{report.verdict}**\n\n{said}{markdown.table(('diagnostic', 'measured'), rows)}"
    return _cut(f"{head}\nThe whole report:\n\n{fence}\n{whole}", f"\n{fence}\n")


def _cut(text: str, end: str = "") -> str:
    """MLflow cuts a long tag without a word; here it is said, and where the whole stands."""
    said = f"… cut here; whole in {names.AUDIT}/report.json"
    room = names.TAG_LIMIT - len(end)
    return text + end if len(text) <= room else text[: room - len(said)] + said + end


def _alignment_lines(client: "MlflowClient", run: "Run", epoch: int) -> str:
    """Γ as it was logged in training at the checkpoint's epoch; the auditor does not know the method's rule."""
    if names.ALIGNMENT_MISSING not in run.data.metrics:
        return "not available: no local credit was logged"

    layers = sorted(layers_of(run.data.metrics))
    kinds = (names.alignment, names.alignment_null, names.alignment_null_sd)
    wanted = [names.ALIGNMENT_MISSING, *(key(layer) for layer in layers for key in kinds)]
    found = store.values_at(client, run, wanted, epoch)
    lines = [f"logged in training at epoch {epoch}: mean over samples, beside the null of fresh feedback"]
    for layer in layers:
        gamma, null, spread = (found.get(key(layer)) for key in kinds)
        beside = "" if null is None else f"   null {null:+z.3f}" + ("" if spread is None else f" ± {spread:.3f}")
        try:
            refuse_impossible({key(layer): found.get(key(layer)) for key in kinds})
            lines.append(f"l{layer}: not available" if gamma is None else f"l{layer}: {gamma:+z.3f}{beside}")
        except InvalidError as error:
            lines.append(f"l{layer}: not available: what was logged is impossible: {error}")
    if missing := found.get(names.ALIGNMENT_MISSING):
        lines.append(f"layers without Γ, their gradient being below the floor: {missing:.0f}")
    return "\n".join(lines)
