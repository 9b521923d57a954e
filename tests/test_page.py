"""The dashboard in a real browser: board, filters, linked selection, keyboard, paper, phone; and what it may weigh."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from conftest import empty_database

from fa_tracking.dashboards import charts
from fa_tracking.dashboards import page as dashboard
from fa_tracking.dashboards.draw import answers
from fa_tracking.dashboards.page import page as drawn_page
from fa_tracking.dashboards.page import write_html
from fa_tracking.errors import UsageError

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = "browser"

Cli = Callable[..., Any]

NAME = "</script><script>document.title = 'run'</script>"
METHOD = """it's "<b>mine</b>" & yours"""
SECRET = "s3cret"
THRESHOLDS = {"h_norm_explosion_ratio": 50.0, "g_norm_floor": 1e-7, "stability_drift_ceiling": 0.3}

MEANS = """
import altair as alt
TITLE = "Means over seeds"
QUERY = "cross_seed"
def draw(rows):
    shown = rows[["method", "architecture", "width", "accuracy_mean"]]
    return alt.Chart(shown).mark_bar().encode(x="method:N", y="accuracy_mean:Q")
def describe(rows):
    return f"{len(rows)} cells."
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs as an export would write them: a study of eight, one of another store, a hundred of a hundred epochs."""
    path = tmp_path_factory.mktemp("page") / "r.duckdb"
    with empty_database(path) as connection:
        for seed in (1, 2, 3):
            write(connection, "study", "bp", seed, accuracy=0.8 + seed / 100)
            write(connection, "study", "dfa", seed, accuracy=0.5 + seed / 100, growth=400.0, flags="a")
        write(connection, "study", METHOD, 1, width=32, accuracy=math.nan, growth=math.inf, flags="n,a", name=NAME)
        write(connection, "study", "bp", 4, status="RUNNING", audited=False)
        write(connection, "remote", "bp", 1, source=f"https://me:{SECRET}@lab.example/mlflow/")
        write(connection, "begun", "bp", 1)
        write(connection, "begun", "dfa", 1, status="RUNNING", audited=False)
        for seed in range(100):
            write(connection, "large", "dfa" if seed % 2 else "bp", seed, epochs=100)
    return path


def write(
    connection: duckdb.DuckDBPyConnection,
    experiment: str,
    method: str,
    seed: int,
    *,
    width: int = 16,
    epochs: int = 2,
    accuracy: float = 0.5,
    growth: float = 1.5,
    flags: str = "",
    name: str | None = None,
    status: str = "FINISHED",
    audited: bool = True,
    source: str = "sqlite:////store/mlflow.db",
) -> None:
    run_id = f"{experiment} {method} {seed}"
    params = {"method": method, "architecture": "resmlp", "width": width, "depth": 2, "epochs": epochs}
    about = {"run_id": run_id, "source": source, "experiment": experiment, "status": status, "seed": seed}
    insert(
        connection, "runs", **about, **params, run_name=name or f"{method} {seed}", cell=f"{method} {width} {epochs}"
    )
    connection.execute(
        "insert into metrics select $run, 'accuracy/test', e, sin(e * $seed), '2026-01-01' from range($to) t(e)",
        {"run": run_id, "seed": seed, "to": epochs + 1},
    )
    connection.execute(
        "insert into layers (run_id, step, layer, residual_norm, grad_norm) "
        "select $run, e, layer, exp(sin(e * $seed)), exp(cos(e * $seed)) from range($to) t(e), range(2) l(layer)",
        {"run": run_id, "seed": seed, "to": epochs + 1},
    )
    if audited:
        verdict = f"needs walk-back: {flags}" if flags else "trustworthy"
        fires = {f"fires_{letter}": letter in flags for letter in "nabc"} | {"frozen_acc_margin_pp": 2.0}
        found = {"headline_accuracy": accuracy, "max_block_growth": growth, "deepest_grad_norm": 1e-3, "stability": 0.1}
        about = {"run_id": run_id, "verdict": verdict, "flags": flags, "evidence": "full"}
        insert(connection, "audits", **about, **found, **fires, **THRESHOLDS)


def insert(connection: duckdb.DuckDBPyConnection, table: str, **row: Any) -> None:
    connection.execute(f"insert into {table} ({', '.join(row)}) values ({', '.join('?' * len(row))})", [*row.values()])


@pytest.fixture(scope="module")
def study(database: Path) -> str:
    """The address of the page of the study."""
    out = database.with_name("study.html")
    write_html("study", out, database)
    return out.as_uri()


def visit(page: "Page", address: str) -> "Page":
    page.goto(address)
    page.wait_for_function("document.documentElement.dataset.drawn")
    return page


def seen(page: "Page") -> list[str]:
    """The runs that the board shows."""
    return [row.get_attribute("data-run") or "" for row in page.locator("tr.run").all() if row.is_visible()]


def marks(page: "Page", chart: str = "audit_panels") -> list[float]:
    """The opacity of every point of a chart."""
    points = f"#{chart} .mark-symbol.role-mark path"
    return page.eval_on_selector_all(points, "all => all.map(p => Number(p.getAttribute('opacity') ?? 1))")


def test_every_chart_is_drawn_described_and_has_its_query_behind_it(browser_page: "Page", study: str) -> None:
    page = visit(browser_page, study)
    drawn = page.locator("figure").count()
    assert drawn >= 2 and page.locator("figure .picture[role=img] svg").count() == drawn
    audit = page.locator("#audit_panels")
    assert "7 runs: " in (audit.locator(".picture").get_attribute("aria-label") or "")
    assert not audit.locator("pre").is_visible()
    audit.locator("summary").click()
    assert "runs_of('study')" in audit.locator("pre").inner_text()
    assert "Query audit_table: 7 rows, 7 runs" in audit.locator("summary").inner_text()
    assert audit.locator("tbody tr").count() == 7
    assert {"NaN", "+∞"} <= set(audit.locator("tbody tr td").all_inner_texts())


def test_the_board_says_what_the_audit_found_and_nothing_more(browser_page: "Page", study: str) -> None:
    page = visit(browser_page, study)
    assert page.locator(".tally").inner_text().split() == [
        "✓",
        "3",
        "trustworthy",
        "⚑",
        "4",
        "flagged",
        "–",
        "1",
        "not",
        "audited",
    ]
    cell = page.locator("tr.cell", has_text="dfa").inner_text()
    assert "0.520 ± 0.010" in cell and "n = 3" in cell and "a×3" in cell
    odd = page.locator("tr.run", has_text=NAME)
    assert odd.locator("td").nth(2).inner_text() == "NaN" and odd.locator("strong").inner_text() == "+∞"
    pick = odd.locator(".pick")
    assert pick.inner_text() == "⚑ n a" and (pick.get_attribute("aria-label") or "").endswith("needs walk-back: n,a")
    assert "running" in page.locator('[data-run="study bp 4"]').inner_text()


def test_names_are_text_wherever_they_stand(browser_page: "Page", study: str) -> None:
    page = visit(browser_page, study)
    assert page.title() == "study · FA-Track"
    assert page.locator(".name", has_text=NAME).count() == 1 and page.locator("main b").count() == 0
    page.locator("label", has_text="mine").click()
    assert seen(page) == [f"study {METHOD} 1"]
    assert METHOD in "".join(page.locator("#trajectories svg text").all_text_contents())


def test_filters_change_board_charts_and_address(browser_page: "Page", study: str) -> None:
    page = visit(browser_page, study)
    every = len(marks(page))
    page.locator("[name=method][value=dfa]").check()
    page.locator("[name=seed][value='2']").check()
    assert seen(page) == ["study dfa 2"]
    assert page.locator("#shown").inner_text() == "1 of 8 runs shown"
    page.wait_for_function("document.querySelectorAll('#audit_panels .mark-symbol.role-mark path').length == 3")
    assert page.locator("tbody.partial .seeds").is_visible()
    shared = page.url
    page.goto("about:blank")
    assert seen(visit(page, shared)) == ["study dfa 2"] and len(marks(page)) == 3 < every
    page.get_by_role("button", name="Show all").click()
    assert len(seen(page)) == 8 and "#" not in page.url
    page.wait_for_function(f"document.querySelectorAll('#audit_panels .mark-symbol.role-mark path').length == {every}")


def test_a_chart_that_cannot_follow_a_filter_says_so_and_one_without_data_says_why(
    browser_page: "Page", database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zz_means.py").write_text(MEANS)
    (tmp_path / "zz_nothing.py").write_text(MEANS.replace("Means over", "Of no").replace("cross_seed", "diverged"))
    monkeypatch.setattr(charts, "__path__", [*charts.__path__, str(tmp_path)])
    out = tmp_path / "means.html"
    write_html("remote", out, database)
    page = visit(browser_page, out.as_uri())
    assert "the query diverged has no rows for remote" in page.locator("#empty").inner_text()
    (tmp_path / "zz_nothing.py").unlink()
    write_html("study", out, database)
    visit(page, out.as_uri())
    bars, note = "#zz_means .mark-rect.role-mark path", page.locator("#zz_means .deaf")
    page.locator("[name=method][value=dfa]").check()
    page.wait_for_function(f"document.querySelectorAll('{bars}').length == 1")
    assert not note.is_visible()
    page.locator("[name=seed][value='2']").check()
    note.wait_for()
    assert note.inner_text() == "Empty under the filter by seed: each mark here stands for several runs."
    assert page.locator(bars).count() == 0  # a mean over seeds is none of one seed
    assert not page.locator("#audit_panels .deaf").is_visible()


def test_a_picked_run_is_picked_everywhere(browser_page: "Page", study: str) -> None:
    page = visit(browser_page, study)
    panels = len(marks(page)) // 7
    page.locator('[data-run="study dfa 1"] td').nth(2).click()
    page.wait_for_function("document.querySelector('#audit_panels .mark-symbol.role-mark path[opacity=\"0.08\"]')")
    assert sum(opacity > 0.5 for opacity in marks(page)) == panels + 1
    assert "1 picked" in page.locator("#shown").inner_text()
    page.keyboard.press("Escape")
    page.wait_for_function("!document.querySelector('#audit_panels .mark-symbol.role-mark path[opacity=\"0.08\"]')")
    assert page.locator("tr.picked").count() == 0
    page.locator("#audit_panels .mark-symbol.role-mark path").first.click()
    page.locator("tr.picked").wait_for()
    first = page.locator("tr.picked").get_attribute("data-run")
    page.locator("#audit_panels .mark-symbol.role-mark path").nth(2).click(modifiers=["Control"])
    page.wait_for_function("document.querySelectorAll('tr.picked').length == 2")
    again = visit(page, page.url)
    assert first in [row.get_attribute("data-run") for row in again.locator("tr.picked").all()]


def test_everything_is_within_reach_of_the_keyboard(browser_page: "Page", study: str) -> None:
    page = visit(browser_page, study)
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Skip to the charts" and page.locator(":focus").is_visible()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert "chart" in (page.locator(":focus").get_attribute("class") or "")
    page.locator("[name=method]").first.focus()
    page.keyboard.press("Space")
    assert "of 8 runs shown" in page.locator("#shown").inner_text() and len(seen(page)) == 4
    page.locator(".pick:visible").first.focus()
    page.keyboard.press("Space")
    assert page.locator(".pick[aria-pressed=true]").count() == 1
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("tr.picked").get_attribute("data-run") == "study bp 2"
    fold = page.locator(".fold:visible").first
    fold.press("Enter")
    assert seen(page) == [] and fold.get_attribute("aria-expanded") == "false"


def test_paper_has_the_board_and_the_charts_and_no_controls(browser_page: "Page", study: str) -> None:
    page = visit(browser_page, study)
    page.locator("#audit_panels summary").click()
    assert not page.locator(".wide:visible").count()
    page.emulate_media(media="print")
    for control in ("#filters", "nav", ".save", "#audit_panels pre"):
        assert not page.locator(control).first.is_visible()
    assert len(seen(page)) == 8 and page.locator("figure svg").first.is_visible()
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_a_phone_shows_all_of_it_without_scrolling_sideways(browser_page: "Page", study: str) -> None:
    browser_page.set_viewport_size({"width": 360, "height": 740})
    page = visit(browser_page, study)
    for details in page.locator(".answer summary").all():
        details.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    hint = page.locator("#audit_panels .wide")  # a chart that is wider scrolls in its box, and says so
    assert hint.is_visible() and "sideways" in hint.inner_text()
    for text in page.locator("tr.run td").all():
        box = text.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= 360


def test_links_lead_to_the_runs_in_mlflow_and_carry_no_password(
    browser_page: "Page", database: Path, study: str
) -> None:
    link = visit(browser_page, study).locator('[data-run="study bp 1"] a')
    assert link.get_attribute("href") == "http://127.0.0.1:5000/#/runs/study bp 1"
    assert "mlflow ui --backend-store-uri sqlite:////store/mlflow.db" in browser_page.locator("#board").inner_text()
    with answers("remote", database) as answer:
        html = drawn_page("remote", answer)
        assert 'href="https://lab.example/mlflow/#/runs/remote bp 1"' in html and SECRET not in html
        assert 'href="http://other:5000/#/runs/' in drawn_page("remote", answer, f"http://me:{SECRET}@other:5000/")
        with pytest.raises(UsageError, match="begin with http"):
            drawn_page("remote", answer, "javascript:alert(1)")


@pytest.mark.matrix
def test_a_page_is_drawn_while_a_method_has_no_finished_run_yet(database: Path) -> None:
    out = database.with_name("begun.html")
    write_html("begun", out, database)
    assert "begun dfa 1" in out.read_text()


@pytest.mark.matrix
def test_the_script_of_a_page_is_kept_and_made_again_where_it_was_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "fa-track").write_text("no folder")
    dashboard.bundle.cache_clear()
    whole = dashboard.bundle()
    assert "vegaEmbed" in whole
    (tmp_path / "fa-track").unlink()
    dashboard.bundle.cache_clear()
    assert dashboard.bundle() == whole
    (kept,) = (tmp_path / "fa-track").iterdir()
    for damaged in (b"", kept.read_bytes()[:-20]):
        kept.write_bytes(damaged)
        dashboard.bundle.cache_clear()
        assert dashboard.bundle() == whole
        assert len(kept.read_bytes()) > len(damaged)
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda _: pytest.fail("it is kept"))
    dashboard.bundle.cache_clear()
    assert dashboard.bundle() == whole


@pytest.mark.matrix
def test_a_hundred_runs_of_a_hundred_epochs_are_a_page_of_a_few_megabytes(database: Path) -> None:
    out = database.with_name("large.html")
    write_html("large", out, database)
    assert 1e6 < out.stat().st_size < 4e6


@pytest.mark.matrix
def test_the_command_takes_the_address_of_mlflow(workspace: Path, database: Path, cli: Cli) -> None:
    asked = ["dashboard", "--experiment", "study", "--db", str(database), "-o", "page.html", "--mlflow-url"]
    assert cli(*asked, "http://lab:5000").stdout == "page.html\n"
    assert 'href="http://lab:5000/#/runs/' in (workspace / "page.html").read_text()
    refused = cli(*asked, "lab")
    assert refused.returncode == 2 and "begin with http:// or https://" in refused.stderr
