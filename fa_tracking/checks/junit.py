"""A gate as JUnit XML, which CI servers read: a suite a cell, a testcase a run."""

import re
from xml.etree import ElementTree as ET

from fa_tracking.checks.gate import FAILS, LEFT_OUT, NO_VERDICT, Gate, Judged, JudgedCell

ELEMENTS = {FAILS: "failure", NO_VERDICT: "error", LEFT_OUT: "skipped"}
"""What a testcase holds of a run that does not pass."""

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(gate: Gate) -> bytes:
    """The XML; what a cell lacks in seeds is one more testcase of its suite, what the gate lacks a suite of its own."""
    suites = [_cell(gate, cell) for cell in gate.cells]
    if gate.problems:
        cases = [_failed(gate, "gate", f"problem {i}", why) for i, why in enumerate(gate.problems, start=1)]
        suites.append(_suite("gate", cases))
    root = ET.Element("testsuites", name=_text(f"fa-track gate {gate.experiment}"))
    root.extend(suites)
    _count(root, [case for suite in suites for case in suite.iter("testcase")])
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _cell(gate: Gate, cell: JudgedCell) -> ET.Element:
    seeds = [_failed(gate, cell.name, "seeds", cell.why)] if cell.why else []
    suite = _suite(cell.name, [*(_case(gate, cell, run) for run in cell.runs), *seeds])
    properties = ET.Element("properties")
    for key, value in sorted(cell.params.items()):
        ET.SubElement(properties, "property", name=_text(key), value=_text(value))
    suite.insert(0, properties)
    return suite


def _suite(name: str, cases: list[ET.Element]) -> ET.Element:
    suite = ET.Element("testsuite", name=_text(name))
    suite.extend(cases)
    _count(suite, cases)
    return suite


def _count(element: ET.Element, cases: list[ET.Element]) -> None:
    element.set("tests", str(len(cases)))
    for attribute, tag in {"failures": "failure", "errors": "error", "skipped": "skipped"}.items():
        element.set(attribute, str(sum(case.find(tag) is not None for case in cases)))
    element.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")


def _case(gate: Gate, cell: JudgedCell, run: Judged) -> ET.Element:
    case = _bare(gate, cell.name, f"{run.run_name} ({run.run_id})")
    if run.seconds is not None:
        case.set("time", f"{run.seconds:.3f}")
    if run.outcome in ELEMENTS:
        _say(case, ELEMENTS[run.outcome], run.why, run.outcome)
    if run.caveats:
        ET.SubElement(case, "system-out").text = _text("\n".join(run.caveats))
    return case


def _failed(gate: Gate, where: str, name: str, why: str) -> ET.Element:
    case = _bare(gate, where, name)
    _say(case, "failure", why, FAILS)
    return case


def _bare(gate: Gate, where: str, name: str) -> ET.Element:
    experiment, suite = (part.replace(".", "·") for part in (gate.experiment, where))  # readers split at dots
    return ET.Element("testcase", classname=_text(f"{experiment}.{suite}"), name=_text(name))


def _say(case: ET.Element, tag: str, why: str, kind: str) -> None:
    element = ET.SubElement(case, tag, message=_text(why))
    if tag != "skipped":
        element.set("type", kind)
        element.text = _text(why)


def _text(text: str) -> str:
    """A text without the characters that XML cannot hold, not even escaped."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
