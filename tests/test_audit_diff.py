"""``fa-track audit --diff``: which verdicts of a real store would change and why, and that nothing is written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import tiny
from mlflow import MlflowClient
from stores import new_store
from test_partial import log_old

import fa_tracking
from fa_tracking.auditor.differ import differences
from fa_tracking.cli import main
from fa_tracking.errors import UsageError
from fa_tracking.tracking.audited import TAGS
from fa_tracking.trainers.tracked import train

WALK_BACK = "needs walk-back: deep blocks fail to beat frozen-random baseline"
HEALTHY = {"max_block_growth": 2.0, "deepest_grad_norm": 1e-3, "grad_gain": 1e-3, "stability": 0.1}


def logged(accuracy: float = 0.57, **changes: float) -> dict[int, dict[str, float]]:
    """The one epoch of a run that logs no checkpoint."""
    return {1: {f"diagnostics/{k}": v for k, v in {**HEALTHY, **changes}.items()} | {"accuracy/test": accuracy}}


def metric(client: MlflowClient, run_id: str, name: str, value: float) -> None:
    client.log_metric(run_id, f"diagnostics/{name}", value, step=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The runs of a store that an earlier revision has audited, by what becomes of them; and its address."""
    uri = new_store(tmp_path_factory.mktemp("store"))
    client = MlflowClient(uri)

    def run(name: str, experiment: str, series: Mapping[int, Mapping[str, float]], **given: float) -> str:
        found = log_old(uri, experiment, series, given, method="dfa", depth=4, seed=1)
        client.set_tag(found, "mlflow.runName", name)
        return found

    runs = {
        "token": run("token", "vit", logged(max_block_growth=4e3)),
        "classes": run("classes", "vit", logged(deepest_grad_norm=5e-8, grad_gain=1.02e-7)),
        "feedback": run("feedback", "vit", logged(deepest_grad_norm=1e-9, grad_gain=1e-9, stability=0.9)),
        "healthy": run("healthy", "vit", logged()),
        "margin": run("margin", "mlp", logged(), control_accuracy=0.55),
        "gone": run("gone", "mlp", {1: {"accuracy/test": 0.5}}),
        "impossible": run("impossible", "mlp", logged()),
        "evaluated": run("evaluated", "mlp", logged()),
    }
    for experiment in ("vit", "mlp"):
        fa_tracking.audit(experiment, uri, pictures=False)
    metric(client, runs["token"], "stream_growth", 1.5)
    metric(client, runs["classes"], "chance_error", 0.9995)
    client.set_tag(runs["feedback"], "fa.reference_gradient", "not BP's")
    for key, value in {"fa.verdict": WALK_BACK, "fa.flags": "d"}.items():
        client.set_tag(runs["margin"], key, value)  # 57 − 55 is 1.9999999999999907 in doubles
    for key, value in client.get_run(runs["healthy"]).data.tags.items():
        if key in {*TAGS, "fa.verdict"}:
            client.set_tag(runs["gone"], key, value)
    metric(client, runs["impossible"], "max_block_growth", -1.0)
    client.set_tag(runs["evaluated"], "fa.evaluated", "a model")
    for run_id in runs.values():
        client.set_tag(run_id, "fa.protocol_version", "1.0")
    never = run("never", "vit", logged())
    log_old(uri, "vit", logged(), status="RUNNING", method="dfa", seed=9)
    return {**runs, "never": never, "uri": uri}


def diffed(uri: str, *args: str, columns: int = 80) -> Result:
    return CliRunner().invoke(main, ["audit", "--diff", "--tracking-uri", uri, *args], env={"COLUMNS": str(columns)})


def snapshot(uri: str) -> dict[str, Any]:
    """Every file of a store by its bytes and times, every tag and artifact of its runs, and its experiments."""
    folder, client = Path(uri.removeprefix("sqlite:///")).parent, MlflowClient(uri)
    experiments = client.search_experiments()
    runs = client.search_runs([e.experiment_id for e in experiments])
    return {
        "experiments": [(e.name, e.last_update_time) for e in experiments],
        "tags": {r.info.run_id: dict(r.data.tags) for r in runs},
        "artifacts": {r.info.run_id: [a.path for a in client.list_artifacts(r.info.run_id, "audit")] for r in runs},
        "files": {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()},
    }


def by_name(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {change["run_name"]: change for change in found["changes"]}


def test_every_verdict_that_would_change_is_listed_with_why_and_nothing_is_written(store: dict[str, str]) -> None:
    before = snapshot(store["uri"])
    done = diffed(store["uri"])
    assert snapshot(store["uri"]) == before
    assert done.exit_code == 1, done.output  # two runs cannot be measured
    assert max(map(len, done.stdout.splitlines())) <= 80
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "token ⚑ a partial → ✓ partial revision 1.0 → 1.1" in lines
    assert "margin ⚑ d partial → ✓ partial revision 1.0 → 1.1" in lines
    assert any(line.startswith("gone ✓ partial → no verdict revision 1.0 → –") for line in lines)
    said = " ".join(lines)
    assert (
        "(a) max per-block growth: 4000 as before: growth of the class token alone, the whole stream grows by 1.5"
        in said
    )
    assert (
        "(b) deepest gradient norm: 5e-08 as before: small gradient explained by small error; at chance it is "
        "9.69e-08 → 1.019e-07"
    ) in said
    for number in ("(b) deepest gradient norm: 1e-09", "(c) cross-batch direction stability: 0.9"):
        assert f"{number} → not measured: the reference gradient is not BP's" in said
    assert "(d) margin over the frozen control: 2 pp is not below 2 by more than its accuracies are rounded" in said
    assert "no checkpoint, and no diagnostics were logged" in said
    assert not any(line.startswith(("healthy", "never", "impossible", "evaluated")) for line in lines)
    assert "5 of 7 verdicts would change; 1 run was never audited; 1 run was not measured" in done.stderr
    assert "unchanged, because MLflow's evaluator judged them: 1 runs" in done.stderr
    assert "not audited, because they have not finished: 1 RUNNING" in done.stderr
    assert "a norm is not negative" in done.stderr
    next_lines = [line for line in done.stderr.splitlines() if line.startswith("next: ")]
    assert next_lines == [
        f"next: fa-track audit --experiment mlp --tracking-uri {store['uri']}   # then vit"
    ] or next_lines == [f"next: fa-track audit --experiment vit --tracking-uri {store['uri']}   # then mlp"]


def test_one_experiment_and_json(store: dict[str, str]) -> None:
    done = diffed(store["uri"], "--experiment", "vit", "--format", "json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert by_name(found).keys() == {"token", "classes", "feedback"}
    assert (found["verdicts"], found["never_audited"], found["problems"]) == (4, 1, [])
    feedback = by_name(found)["feedback"]
    assert (feedback["run_id"], feedback["experiment"]) == (store["feedback"], "vit")
    assert (feedback["old"]["flags"], feedback["new"]["flags"]) == (["b", "c"], [])
    assert feedback["new"]["verdict"] == "inconclusive: the reference gradient is not BP's"
    assert (feedback["old"]["protocol_version"], feedback["new"]["protocol_version"]) == ("1.0", "1.1")
    assert "3 of 4 verdicts would change; 1 run was never audited" in done.stderr
    assert "next: fa-track audit --experiment vit" in done.stderr


def test_other_thresholds_are_a_reason_of_their_own(store: dict[str, str]) -> None:
    found = json.loads(
        diffed(store["uri"], "--experiment", "vit", "--explosion-ratio", "1.5", "--format", "json").stdout
    )
    (why,) = by_name(found)["healthy"]["why"]
    assert why == "(a) max per-block growth: 2 as before, its threshold 50 → 1.5"


def test_processes_find_the_same_differences(store: dict[str, str]) -> None:
    here = fa_tracking.audit(None, store["uri"], write=False)
    there = fa_tracking.audit(None, store["uri"], write=False, executor="local")
    assert differences(here) == differences(there) and len(differences(here).changes) == 5


def test_an_audit_and_a_diff_need_a_store_that_is_there(tmp_path: Path) -> None:
    empty = CliRunner().invoke(main, ["audit", "--tracking-uri", f"sqlite:///{tmp_path}/none.db"])
    assert empty.exit_code == 2 and empty.stderr.count("\n") == 1 and "there is no store" in empty.stderr
    with pytest.raises(UsageError, match="one experiment"):
        fa_tracking.audit(None)
    for uri in (f"sqlite:///{tmp_path}/none.db", str(tmp_path / "folder")):
        done = diffed(uri)
        assert done.exit_code == 2 and "there is no store" in done.stderr
    assert not [*tmp_path.iterdir()]


def test_an_audit_afterwards_gives_the_verdicts_that_were_foretold(tmp_path: Path) -> None:
    uri = new_store(tmp_path)
    client = MlflowClient(uri)
    whole = train(tiny("bp", epochs=1), "after", uri)
    fa_tracking.audit("after", uri, pictures=False)
    assert differences(fa_tracking.audit("after", uri, write=False)).changes == ()
    foretold = client.get_run(whole).data.tags["fa.verdict"]
    for key, value in {"fa.verdict": WALK_BACK, "fa.flags": "d", "fa.evidence": "partial"}.items():
        client.set_tag(whole, key, value)
    before = snapshot(uri)
    (change,) = differences(fa_tracking.audit(None, uri, write=False)).changes
    assert snapshot(uri) == before
    assert change.new is not None and change.new.verdict == foretold
    assert change.why[0] == "judged by what it logged then, by its model now"
    fa_tracking.audit("after", uri, pictures=False)
    assert client.get_run(whole).data.tags["fa.verdict"] == change.new.verdict
    done = diffed(uri)
    assert done.exit_code == 0 and done.stdout == ""
    assert "0 of 1 verdicts would change" in done.stderr and "next: fa-track export" in done.stderr
