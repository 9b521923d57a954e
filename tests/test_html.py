"""Every page escapes what it is given, loads nothing, and says why where it takes markup as it is."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from fa_tracking import DiagnosticReport, html
from fa_tracking.auditor.page import page
from fa_tracking.publishing.document import Heading, Items, as_html
from fa_tracking.publishing.publication import Table

ROOT = Path(__file__).parent.parent
TEMPLATES = [*ROOT.glob("fa_tracking/templates/*.j2"), *ROOT.glob("dashboards/assets/*.j2")]
EVIL = "<script src='//evil'></script>\"'>\u202e\x1b[31m &amp;"


def document(text: str) -> str:
    table = Table(text, [text, text], [[text, text]], [True, False])
    return as_html([Heading(text, 1), Items((text, text)), text, table])


def run_report(text: str) -> str:
    measured = {"residual_norms": [10.0, 20.0], "bp_grad_norms": [1e-3, 1e-9], "headline_acc": 0.6}
    report = DiagnosticReport(
        **measured, method_name=text, notes=text, stability_layer=1, cross_batch_stability=0.1, frozen_baseline_acc=None
    )
    return page(report, text, None, {text: text})


def experiments(text: str) -> str:
    row = ({"experiment_id": "1", "name": text}, Counter({text: 2}))
    names: dict[str, Any] = {"title": text, "server": text, "now": text, "caveats": [text], "others": {"1"}}
    return html.render("experiments.html.j2", rows=[row], columns=[text], marks={}, **names)


@pytest.mark.parametrize("made", [document, run_report, experiments])
def test_a_page_says_every_text_and_runs_none(made: Callable[[str], str]) -> None:
    said = made(EVIL)
    assert "<script" not in said and "&lt;script src=&#39;//evil&#39;&gt;" in said
    assert "&amp;amp;" in said and "&amp;lt;" not in said  # escaped once, not twice
    assert said.startswith("<!doctype html>\n") and said.endswith("</html>\n")


@pytest.mark.parametrize("made", [document, run_report])
def test_a_page_turns_no_text_around(made: Callable[[str], str]) -> None:
    assert not set(made(EVIL)) & {"\u202e", "\x1b"}


@pytest.mark.parametrize("made", [document, run_report, experiments])
def test_a_page_is_one_file(made: Callable[[str], str]) -> None:
    said = made("plain")
    assert not re.search(r"\bsrc\s*=|url\(|@import|https?://", said)
    assert set(re.findall(r"<link[^>]*>", said)) <= {'<link rel="icon" href="data:,">'}
    assert said.count("<style>") == 1 and (ROOT / "fa_tracking/templates/page.css").read_text() in said


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_markup_is_taken_as_it_is_only_where_a_comment_says_why(template: Path) -> None:
    text = template.read_text()
    assert len(re.findall(r"\|\s*safe\b", text)) == len(re.findall(r"\{# safe: [^#]+#\}\n.*\|\s*safe\b", text))
    assert "autoescape" not in text and "<style" not in text.replace('<style>\n{% include "page.css" %}', "")


def test_a_page_without_a_value_that_it_needs_is_not_made() -> None:
    with pytest.raises(UndefinedError, match="'blocks' is undefined"):
        html.render("document.html.j2", title="t")
