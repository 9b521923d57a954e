"""What MLflow's own UI shows of audited runs, in a real browser; and the summary run, which nobody counts."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from mlflow import MlflowClient
from runs import log_run
from servers import tracking_server

import fa_tracking
from fa_tracking.checks.gate import gate
from fa_tracking.checks.replay import replay
from fa_tracking.checks.requirement import Requirement
from fa_tracking.dashboards.page import write_html
from fa_tracking.publishing.summary import log_summary
from fa_tracking.results.database import ask, connect, find_query
from fa_tracking.results.export.export import export
from fa_tracking.tracking import names

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, FrameLocator, Page, Request

pytest_plugins = "browser"
pytestmark = pytest.mark.browser

EXPERIMENT = "seen"
NASTY = '**bold** | <img src="http://example.org/x"> `tick` & co'
HEALTHY, EXPLODED, DIVERGED = [8.0, 16.0, 30.0], [8.0, 900.0, 1e6], [8.0, math.nan, math.inf]
RUNS = {"healthy": HEALTHY, NASTY: EXPLODED, "exploded": EXPLODED, "diverged": DIVERGED}


class Seen(NamedTuple):
    """A store with audited runs and its summary run; ``runs``: ids by name."""

    uri: str
    database: Path
    runs: dict[str, str]
    summary: str


@pytest.fixture(scope="module")
def seen(workspace: Path) -> Seen:
    """Runs that only logged numbers, each of two epochs: nothing is trained."""
    uri, database = f"sqlite:///{workspace / 'mlflow.db'}", workspace / "fa_results.duckdb"
    client = MlflowClient(uri)
    runs = {name: logged_run(client, name, seed, norms) for seed, (name, norms) in enumerate(RUNS.items())}
    audited = fa_tracking.audit(EXPERIMENT, uri)
    assert not audited.problems
    export(database, uri)
    page = workspace / "page.html"
    write_html(EXPERIMENT, page, database)
    return Seen(uri, database, runs, log_summary(EXPERIMENT, page, database, uri))


def logged_run(client: MlflowClient, name: str, seed: int, norms: list[float]) -> str:
    logged = {}
    for epoch in (0, 1):
        logged[epoch] = {names.residual_norm(layer): norm if epoch else 8.0 for layer, norm in enumerate(norms)}
        logged[epoch] |= {names.grad_norm(layer): 10.0 ** -(3 + layer) for layer in range(3)}
        logged[epoch] |= {names.DEEPEST_GRAD_NORM: 1e-5, names.STABILITY: 0.1, names.ACCURACY_TEST: 0.2 + 0.1 * epoch}
    return log_run(client, EXPERIMENT, logged, name=name, method=name, architecture="net", depth=2, seed=seed)


def verdicts(seen: Seen) -> dict[str, str]:
    client = MlflowClient(seen.uri)
    return {name: client.get_run(run).data.tags[names.TAG_VERDICT] for name, run in seen.runs.items()}


@pytest.fixture(scope="module")
def address(seen: Seen, chromium: "Browser") -> Iterator[str]:
    """Of the experiment in `mlflow server`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")  # else its UI reports every click
        with tracking_server(seen.uri) as url:
            yield f"{url}/#/experiments/1"


@pytest.fixture(scope="module")
def context(chromium: "Browser") -> "Iterator[BrowserContext]":
    with chromium.new_context(viewport={"width": 1500, "height": 1000}, locale="en-GB") as opened:
        opened.set_default_timeout(45_000)  # the UI is some megabytes of script
        yield opened


@pytest.fixture
def ui(context: "BrowserContext", address: str) -> "Iterator[Page]":
    """A page. At its end the test fails of what was asked of another machine, of any request of a previewed file, and
    of what it threw or told the console as an error. What MLflow's own scripts tell it is left out: they ask for a user
    whom a server without login does not know."""
    problems: list[str] = []
    known = (address.partition("#")[0], "blob:", "data:")
    page = context.new_page()
    page.on("request", lambda r: None if r.url.startswith(known) and not _of_ours(r) else problems.append(r.url))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" and not _of_mlflow(m) else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    page.close()
    assert problems == []


def _of_ours(request: "Request") -> bool:
    """Whether a previewed file asks for it: MLflow shows a file in a frame, from memory."""
    return request.frame.parent_frame is not None and not request.url.startswith(("blob:", "data:"))


def _of_mlflow(said: "ConsoleMessage") -> bool:
    return "/ajax-api/" in said.location["url"] or "/static-files/" in said.location["url"]


def preview(ui: "Page", address: str, run: str, artifact: str) -> "FrameLocator":
    ui.goto(f"{address}/runs/{run}/artifacts/{artifact}")
    return ui.frame_locator("iframe.mlflow-html-iframe")


def test_a_runs_page_shows_the_verdict_as_tags_and_the_report_as_its_note(ui: "Page", address: str, seen: Seen) -> None:
    ui.goto(f"{address}/runs/{seen.runs[NASTY]}")
    verdict = verdicts(seen)[NASTY]
    assert verdict.startswith("needs walk-back: residual stream exploded")
    ui.get_by_text(f"fa.verdict: {verdict}").wait_for()
    ui.get_by_text("fa.flags: a").wait_for()
    note = ui.locator("table", has_text="max per-block growth")
    note.wait_for()
    assert "⚑ (a) max per-block growth" in note.inner_text()
    ui.get_by_role("button", name="Expand description").click()
    report = ui.locator("pre", has_text="FA-Track diagnostic report")
    assert f"method: {NASTY}" in report.inner_text()


def test_the_runs_table_filters_and_sorts_by_verdict(ui: "Page", address: str, seen: Seen) -> None:
    found = verdicts(seen)
    ui.goto(f"{address}/runs?orderByKey=tags.%60fa.verdict%60&orderByAsc=true")
    rows = ui.locator(".ag-center-cols-container, .ag-pinned-left-cols-container").get_by_role("row")
    ui.get_by_text("5 matching runs").wait_for()
    ui.get_by_role("button", name="Sort: fa.verdict").wait_for()
    shown = [text for text in rows.all_inner_texts() if text.strip()]
    order = [name for text in shown for name in found if name in text]
    assert [found[name] for name in order] == sorted(found.values())
    search = ui.get_by_placeholder("metrics.rmse")
    search.fill("tags.\"fa.verdict\" LIKE 'needs walk-back: residual%'")
    search.press("Enter")
    ui.get_by_text("2 matching runs").wait_for()
    assert {name for name in RUNS for text in rows.all_inner_texts() if name in text} == {NASTY, "exploded"}


def test_the_report_previews_with_its_charts_drawn(ui: "Page", address: str, seen: Seen) -> None:
    page = preview(ui, address, seen.runs[NASTY], "audit/report.html")
    page.get_by_role("heading", name=NASTY).wait_for()
    assert page.locator("img").count() == 0
    charts = page.locator(".pictures > [role=img]")
    assert charts.count() == 5
    assert "‖h_l‖ by layer: 8 to 1e+06; fires at layer 1, 2." in (charts.first.get_attribute("aria-label") or "")
    line, flag = charts.first.locator(".mark-line path"), charts.first.locator(".mark-symbol path[fill='#D55E00']")
    assert (line.bounding_box() or {})["width"] > 100
    assert flag.count() == 2


def test_what_an_axis_cannot_hold_is_spelled_in_the_preview(ui: "Page", address: str, seen: Seen) -> None:
    page = preview(ui, address, seen.runs["diverged"], "audit/report.html")
    chart = page.locator(".pictures > [role=img]").first
    chart.wait_for()
    assert {"NaN", "+∞"} <= {*chart.locator("text").all_text_contents()}
    assert chart.locator(".mark-symbol path").count() == 1
    assert "2 not finite" in (chart.get_attribute("aria-label") or "")


def test_the_summary_run_tells_the_verdicts_and_previews_the_dashboard(ui: "Page", address: str, seen: Seen) -> None:
    ui.goto(f"{address}/runs/{seen.summary}")
    ui.get_by_text("4 finished runs in 4 cells").wait_for()
    ui.get_by_role("cell", name=NASTY).wait_for()
    page = preview(ui, address, seen.summary, names.DASHBOARD)
    page.get_by_role("heading", name=EXPERIMENT).first.wait_for()
    page.locator("svg .mark-symbol path, canvas").first.wait_for()


def test_there_is_one_summary_and_nobody_counts_it_as_a_run(seen: Seen, tmp_path: Path) -> None:
    page = tmp_path / "other.html"
    page.write_text("<p>newer</p>")
    client = MlflowClient(seen.uri)
    before = client.get_run(seen.summary)
    content = Path(client.download_artifacts(seen.summary, names.DASHBOARD, str(tmp_path))).read_text()
    try:
        assert log_summary(EXPERIMENT, page, seen.database, seen.uri) == seen.summary
        run = client.get_run(seen.summary)
        assert (run.info.status, run.info.run_name) == ("FINISHED", "summary")
        assert (
            Path(client.download_artifacts(seen.summary, names.DASHBOARD, str(tmp_path))).read_text() == "<p>newer</p>"
        )
    finally:
        client.log_text(seen.summary, content, names.DASHBOARD)
    assert len(client.search_runs(["1"])) == len(RUNS) + 1
    assert before.data.tags[names.TAG_SUMMARY]
    assert {run.run_id for run in fa_tracking.audit(EXPERIMENT, seen.uri).runs} == {*seen.runs.values()}
    assert {run.run_id for run in gate(EXPERIMENT, Requirement(), seen.uri).runs} == {*seen.runs.values()}
    assert {run.run_id for run in replay(EXPERIMENT, seen.uri).runs} == {*seen.runs.values()}
    assert export(seen.database, seen.uri).runs == len(RUNS)
    with connect(seen.database) as connection:
        told = ask(connection, find_query("runs"), EXPERIMENT)
        assert len(told.fetchall()) == len(RUNS)
