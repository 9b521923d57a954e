"""What a reader must know stands wherever the verdict does: (c) alone is weak, other thresholds are marked."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from runs import log_run
from test_report import report

import fa_tracking
from fa_tracking.cli import main
from fa_tracking.errors import InvalidError
from fa_tracking.protocol import verdicts
from fa_tracking.protocol.diagnostics import direction_stability
from fa_tracking.protocol.thresholds import DiagnosticThresholds

WEAK = "(c) alone is a weak reason"
OTHER = "others than the protocol's"
DRIFT = f"needs walk-back: {direction_stability.WORDING}"


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with a run that (c) alone flags, and one judged under other thresholds; and its database."""
    folder = tmp_path_factory.mktemp("caveats")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    for name, stability in (("weak", 0.9), ("other", 0.1)):
        measured = {"accuracy/test": 0.5, "diagnostics/stability": stability, "diagnostics/grad_gain": 1e-3}
        measured |= {"residual_norm/h0": 1.0, "residual_norm/h1": 1.1, "grad_norm/g0": 1e-3, "grad_norm/g1": 1e-3}
        for seed in (1, 2):
            log_run(client, name, {1: measured}, method="dfa", depth=1, seed=seed)
        other = DiagnosticThresholds(h_norm_explosion_ratio=20) if name == "other" else None
        fa_tracking.audit(name, uri, thresholds=other, pictures=False)
    database = str(folder / "fa.duckdb")
    assert CliRunner().invoke(main, ["export", "--tracking-uri", uri, "--db", database]).exit_code == 0
    return folder, uri


def commands(folder: Path, uri: str, experiment: str) -> dict[str, list[str]]:
    named, database = ["--experiment", experiment], ["--db", str(folder / "fa.duckdb")]
    return {
        "query": ["query", "cross_seed", *named, *database],
        "every run": ["query", "audit_table", *named, *database],
        "table": ["table", "cross_seed", *named, *database],
        "latex": ["table", "cross_seed", *named, *database, "--format", "latex"],
        "report": ["report", *named, *database],
        "gate": ["gate", *named, "--allow-partial", "--tracking-uri", uri],
        "dashboard": ["dashboard", *named, *database, "-o", str(folder / f"{experiment}.html")],
        "chart": ["chart", "verdict_matrix", *named, *database, "-o", str(folder / f"{experiment}.json")],
    }


@pytest.mark.sample(3)
@pytest.mark.parametrize(("experiment", "says", "not_said"), [("weak", WEAK, OTHER), ("other", OTHER, WEAK)])
@pytest.mark.parametrize("place", ["query", "every run", "table", "latex", "report", "gate", "dashboard", "chart"])
def test_every_place_that_shows_a_verdict_says_what_its_reader_must_know(
    place: str, experiment: str, says: str, not_said: str, judged: tuple[Path, str]
) -> None:
    folder, uri = judged
    found = CliRunner().invoke(main, commands(folder, uri, experiment)[place])
    suffix = {"dashboard": "html", "chart": "json"}.get(place)
    text = (folder / f"{experiment}.{suffix}").read_text() if suffix else found.output
    text = one_line(text.replace("&#39;", "'").replace("\\_", "_"))
    assert says in text and not_said not in text


def test_the_audit_its_report_its_page_and_its_note_say_it(judged: tuple[Path, str]) -> None:
    _, uri = judged
    client = MlflowClient(uri)
    for experiment, says in (("weak", WEAK), ("other", "h_norm_explosion_ratio 20, not 50")):
        home = client.get_experiment_by_name(experiment)
        run = client.search_runs([home.experiment_id])[0]
        assert says in run.data.tags["mlflow.note.content"].replace("\\_", "_")
        for suffix in ("txt", "html"):
            assert says in Path(client.download_artifacts(run.info.run_id, f"audit/report.{suffix}")).read_text()
        table = CliRunner().invoke(main, ["audit", "--experiment", experiment, "--tracking-uri", uri, "--no-pictures"])
        assert (WEAK in one_line(table.stdout)) == (experiment == "weak")


def test_a_gate_marks_a_passing_verdict_under_other_thresholds(judged: tuple[Path, str], tmp_path: Path) -> None:
    _, uri = judged
    client = MlflowClient(uri)
    home = client.get_experiment_by_name("other")
    for run in client.search_runs([home.experiment_id]):
        client.set_tag(run.info.run_id, "fa.verdict", "trustworthy")
        client.set_tag(run.info.run_id, "fa.thresholds", json.dumps({"h_norm_explosion_ratio": 20.0}))
    xml = tmp_path / "gate.xml"
    asked = ["gate", "--experiment", "other", "--allow-partial", "--tracking-uri", uri]
    done = CliRunner().invoke(main, [*asked, "--junit", str(xml), "--format", "json"])
    assert done.exit_code == 0, done.output
    assert OTHER in one_line(done.stderr) and "2 of 2 runs" in done.stderr
    shown = [run["verdict"] for cell in json.loads(done.stdout)["cells"] for run in cell["runs"]]
    assert shown == ["trustworthy (other thresholds)"] * 2
    assert [OTHER in (element.text or "") for element in ET.parse(xml).iter("system-out")] == [True, True]


@pytest.mark.parametrize(
    ("verdict", "is_weak"),
    [
        (DRIFT, True),
        (f"{DRIFT} (other thresholds)", True),
        (f"{DRIFT} (by proxy g_3)", True),
        (f"MIXED: 2 × {DRIFT}, 1 × trustworthy", True),
        (f"{DRIFT}; deep blocks fail to beat frozen-random baseline", False),
        (f"{DRIFT} (by proxy g_3); deep blocks fail to beat frozen-random baseline", False),
        (f"needs walk-back: residual stream explodes; {direction_stability.WORDING}", False),
        ("trustworthy", False),
    ],
)
def test_c_alone_is_known_from_a_verdicts_words(verdict: str, is_weak: bool) -> None:
    assert (verdicts.WEAK in verdicts.caveats([verdict])) == is_weak


def test_replay_and_the_python_report_name_the_other_threshold(judged: tuple[Path, str]) -> None:
    _, uri = judged
    said = CliRunner().invoke(main, ["replay", "--experiment", "weak", "--grad-floor", "1e-9", "--tracking-uri", uri])
    assert "g_norm_floor 1e-09, not 1e-07" in one_line(said.stdout)
    plain = CliRunner().invoke(main, ["replay", "--experiment", "weak", "--tracking-uri", uri])
    assert "other thresholds" not in plain.stdout
    assert report(thresholds=DiagnosticThresholds(frozen_acc_margin_pp=5)).caveats == (
        "† under other thresholds than the protocol's: frozen_acc_margin_pp 5, not 2",
    )


@pytest.mark.parametrize("ceiling", [-1.01, 1.5, float("nan"), float("inf")])
def test_a_drift_ceiling_beyond_a_cosine_is_wrong_usage(ceiling: float) -> None:
    with pytest.raises(InvalidError):
        DiagnosticThresholds(stability_drift_ceiling=ceiling)
    asked = CliRunner().invoke(main, ["replay", "--experiment", "x", "--drift-ceiling", str(ceiling)])
    assert asked.exit_code == 2 and "--drift-ceiling" in asked.output and "Traceback" not in asked.output
