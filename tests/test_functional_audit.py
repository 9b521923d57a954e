"""Functional measures from a run to the database: by epoch and audit, with and without a rule in the checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, tiny
from mlflow import MlflowClient

import fa_tracking
from fa_tracking.errors import CheckpointError
from fa_tracking.results.database import ask, connect, find_query
from fa_tracking.results.export.export import export
from fa_tracking.results.export.parquet import write_parquet
from fa_tracking.tracking.checkpoint import build_model, read
from fa_tracking.tracking.checkpoint_rule import NoCredit, credit_of
from fa_tracking.trainers.options import RunOptions
from fa_tracking.trainers.tracked import train

pytestmark = pytest.mark.matrix

METHODS = ("bp", "dfa", "fa", "credit_bridge", "state_bridge", "ep")


@pytest.fixture(scope="module")
def runs(workspace: Path) -> dict[str, str]:
    """A run a method, of which DFA was measured in each epoch."""
    uri = f"sqlite:///{workspace / 'mlflow.db'}"
    return {m: train(tiny(m), "functional", uri, RunOptions(functional=m == "dfa")) for m in METHODS}


@pytest.fixture(scope="module")
def reports(runs: dict[str, str], workspace: Path) -> dict[str, dict[str, Any]]:
    """report.json of each method's run."""
    client = MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
    found = fa_tracking.audit("functional", client.tracking_uri, pictures=False)
    assert not found.problems
    return {m: json.loads(Path(client.download_artifacts(r, "audit/report.json")).read_text()) for m, r in runs.items()}


@pytest.fixture(scope="module")
def database(reports: dict[str, dict[str, Any]], workspace: Path) -> Path:
    path = workspace / "functional.duckdb"
    assert export(path, f"sqlite:///{workspace / 'mlflow.db'}").unreadable == 0
    return path


def rows(path: Path, sql: str) -> list[tuple]:
    with connect(path) as connection:
        return connection.sql(sql).fetchall()


def test_an_audit_rebuilds_every_methods_rule_and_measures_its_credit(reports: dict[str, dict[str, Any]]) -> None:
    for method in METHODS:
        found = reports[method]["functional"]
        assert found["samples"] == 360 and all(rho >= 0.99 for rho in found["bp"]["rho"]), method
        if method == "bp":
            assert found["rule"]["rho"] == [None] * 3
            assert found["remarks"] == ["the rule's credit: trainers:bp has no local credit"]
        else:
            assert all(isinstance(v, float) for v in found["rule"]["rho"] + found["rule"]["nudge"]), method
            assert not found["remarks"]


def test_gamma_of_an_audit_is_that_of_the_last_epoch_and_so_are_the_measures(
    reports: dict[str, dict[str, Any]], runs: dict[str, str], uri: str
) -> None:
    logged = MlflowClient(uri).get_run(runs["dfa"]).data.metrics
    found = reports["dfa"]["functional"]
    for layer in range(3):
        assert found["gamma"][layer] == pytest.approx(logged[f"alignment/l{layer}"], abs=1e-6)
        for name, of in (("", "rule"), ("_bp", "bp"), ("_random", "random")):
            assert found[of]["rho"][layer] == pytest.approx(logged[f"perturbation{name}/l{layer}"], abs=1e-6)
            assert found[of]["nudge"][layer] == pytest.approx(logged[f"nudge{name}/l{layer}"], abs=1e-9)
        assert found["rule"]["rho_float32"][layer] == pytest.approx(logged[f"perturbation_float32/l{layer}"], abs=1e-5)
    assert not any("perturbation" in key for key in MlflowClient(uri).get_run(runs["fa"]).data.metrics)


def test_the_database_holds_what_the_reports_say(
    reports: dict[str, dict[str, Any]], runs: dict[str, str], database: Path
) -> None:
    for method, run_id in runs.items():
        told = reports[method]["functional"]
        for credit in ("rule", "bp", "random"):
            found = rows(
                database,
                "select perturbation, perturbation_error, perturbation_float32, nudge, nudge_error, samples from "
                f"functional where run_id = '{run_id}' and credit = '{credit}' order by layer",
            )
            names = ("rho", "rho_error", "rho_float32", "nudge", "nudge_error")
            expected = [*zip(*(told[credit][name] for name in names), strict=True)]
            assert [row[:5] for row in found] == [
                tuple(None if v is None else pytest.approx(v, rel=1e-5) for v in row) for row in expected
            ]
            assert {row[5] for row in found} == {360}
    by_epoch = (
        "select step, count(perturbation), count(nudge_random), count(*) from layers where run_id = '{}' group by 1"
    )
    assert sorted(rows(database, by_epoch.format(runs["dfa"]))) == [(step, 3, 3, 3) for step in range(3)]
    assert {row[1:] for row in rows(database, by_epoch.format(runs["fa"]))} == {(0, 0, 3)}


def test_the_queries_have_them_by_layer_and_rank_the_methods(database: Path, tmp_path: Path) -> None:
    with connect(database) as connection:
        layers = ask(connection, find_query("functional_credit"), "functional").df()
        ranked = ask(connection, find_query("credit_ranking"), "functional").df()
    assert len(layers) == 3 * len(METHODS) and layers["perturbation_bp"].min() >= 0.99
    assert set(ranked["method"]) == set(METHODS) - {"bp"}
    for column, up in (("alignment", False), ("perturbation", False), ("nudge", True)):
        expected = ranked[f"deep_{column}"].rank(ascending=up, method="min")
        assert [*ranked[f"rank_{column}"]] == [*expected]
    deep = layers[(layers["method"] == "ep") & (layers["layer"] > 0)]
    assert ranked.set_index("method")["deep_nudge"]["ep"] == pytest.approx(deep["nudge"].mean())
    write_parquet(database, tmp_path / "copy")
    assert rows(tmp_path / "copy", "select count(*), count(perturbation) from functional") == rows(
        database, "select count(*), count(perturbation) from functional"
    )


def test_the_report_has_the_table_in_all_its_forms(
    reports: dict[str, dict[str, Any]], runs: dict[str, str], uri: str
) -> None:
    client = MlflowClient(uri)
    for form in ("txt", "html"):
        text = Path(client.download_artifacts(runs["dfa"], f"audit/report.{form}")).read_text()
        assert "functional measures of credit" in text and "ρ rule" in text and "360 samples, 32 directions" in text
    report = fa_tracking.DiagnosticReport.from_dict(reports["dfa"])
    assert report.functional is not None and report.to_dict()["functional"] == reports["dfa"]["functional"]
    assert str(report.functional).splitlines()[1].split()[:3] == ["layer", "Γ", "ρ"]


@pytest.fixture
def changed(runs: dict[str, str], uri: str) -> Any:
    """changed(edit): the folder of DFA's checkpoint, its config.json edited until the test ends."""
    client = MlflowClient(uri)
    folder = Path(client.get_run(runs["dfa"]).info.artifact_uri.removeprefix("file://")) / "checkpoints/epoch_0002"
    config = folder / "config.json"
    before = config.read_text()

    def edit(change: Callable[[dict[str, Any]], None]) -> Path:
        found = json.loads(before)
        change(found)
        config.write_text(json.dumps(found))
        return folder

    yield edit
    config.write_text(before)


def test_a_checkpoint_without_a_rule_keeps_its_verdict_and_says_what_is_missing(
    changed: Any, reports: dict[str, dict[str, Any]], runs: dict[str, str], uri: str
) -> None:
    changed(lambda config: config.pop("rule"))
    found = {a.run_id: a for a in fa_tracking.audit("functional", uri, pictures=False, write=False).runs}[runs["dfa"]]
    assert found.report is not None and found.report.verdict == reports["dfa"]["verdict"]
    measures = found.report.functional  # type: ignore[union-attr]
    assert measures is not None and measures.remarks == ("the rule's credit: the checkpoint names no rule",)
    assert measures.rule.rho == measures.gamma == (None, None, None)
    assert [*measures.bp.rho] == pytest.approx(reports["dfa"]["functional"]["bp"]["rho"])


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (
            {"factory": "elsewhere:dfa"},
            "names the rule 'elsewhere:dfa', which is no entry point of the group 'fa_tracking.methods'; installed",
        ),
        ({"factory": "trainers:os.system"}, "no method named 'os.system'"),
        (
            {"factory": "trainers:dfa", "arguments": {"seed": 1, "shell": "rm"}},
            "the rule 'trainers:dfa' does not fit: ",
        ),
        ({"factory": "trainers:fa", "arguments": {"seed": 1}}, "the rule 'trainers:fa' does not fit: "),
    ],
)
def test_a_foreign_or_unfit_rule_is_refused_in_one_line_and_the_verdict_stands(
    rule: dict[str, Any], said: str, changed: Any, reports: dict[str, dict[str, Any]], runs: dict[str, str], uri: str
) -> None:
    folder = changed(lambda config: config.update(rule=rule))
    checkpoint = read(folder)
    with pytest.raises(CheckpointError) as refused:
        credit_of(checkpoint, build_model(checkpoint))
    text = str(refused.value)
    assert text.startswith("checkpoint epoch_0002") and said in text and "\n" not in text
    found = {a.run_id: a for a in fa_tracking.audit("functional", uri, pictures=False, write=False).runs}[runs["dfa"]]
    assert found.report is not None and found.report.verdict == reports["dfa"]["verdict"]
    assert any(said in remark for remark in found.report.functional.remarks)  # type: ignore[union-attr]


def test_a_rule_of_nested_arguments_is_a_broken_config_and_bp_has_no_credit(changed: Any, uri: str) -> None:
    folder = changed(lambda config: config.update(rule={"factory": "trainers:dfa", "arguments": {"seed": [1]}}))
    with pytest.raises(CheckpointError, match=r"config\.json is broken: rule\.arguments\.seed"):
        read(folder)
    folder = changed(lambda config: config.pop("rule"))
    checkpoint = read(folder)
    with pytest.raises(NoCredit, match="the checkpoint names no rule"):
        credit_of(checkpoint, build_model(checkpoint))


def test_the_command_line_measures_each_epoch_where_asked(cli: Cli, runs: dict[str, str], uri: str) -> None:
    small = ("--width", "8", "--depth", "1", "--dataset", "digits", "--epochs", "1", "--experiment", "asked")
    done = cli("train", "dfa", *small, "--functional")
    assert done.returncode == 0, done.stderr
    metrics = MlflowClient(uri).get_run(done.stdout.strip()).data.metrics
    assert {"perturbation/l0", "perturbation_bp/l1", "perturbation_random/l1", "nudge/l1"} <= metrics.keys()
    assert metrics["perturbation_bp/l1"] >= 0.99
