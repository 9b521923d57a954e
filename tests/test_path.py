"""The whole path on a real SQLite store: train, audit, export, query, draw."""

import json
import math
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
import torch
from conftest import tiny
from mlflow import MlflowClient
from shell import FA_TRACK, users_environment

import fa_tracking
from fa_tracking import DiagnosticReport, DiagnosticThresholds
from fa_tracking.dashboards.draw import answers, draw_all
from fa_tracking.dashboards.page import write_html
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.results.compare import compare, compare_family
from fa_tracking.results.database import ask, connect, find_query
from fa_tracking.results.export.export import export
from fa_tracking.tracking.abort import Abort
from fa_tracking.trainers.options import RunOptions
from fa_tracking.trainers.tracked import train

FIRST = {"experiment": "first", "thresholds": DiagnosticThresholds(stability_drift_ceiling=1.0), "pictures": False}


@pytest.fixture(scope="module")
def runs(workspace: Path) -> dict[str, str]:
    """Run ids: BP and DFA with a frozen control each, the latter over two seeds."""
    uri = f"sqlite:///{workspace / 'mlflow.db'}"
    made = {}
    for method in ("bp", "dfa"):
        for frozen in (False, True):
            for seed in (1, 2) if frozen else (1,):
                config = tiny(method, frozen_blocks=frozen, seed=seed, epochs=1)
                made[f"{method}{'-frozen' if frozen else ''}-{seed}"] = train(config, "first", uri)
    return made


def tags(uri: str, run_id: str) -> dict[str, str]:
    return MlflowClient(uri).get_run(run_id).data.tags


def test_a_run_holds_every_metric_of_the_design_at_every_epoch(runs: dict[str, str], uri: str) -> None:
    client = MlflowClient(uri)
    metrics = client.get_run(runs["dfa-1"]).data.metrics
    layers = [f"{kind}{n}" for n in range(3) for kind in ("residual_norm/h", "grad_norm/g", "alignment/l")]
    nulls = [f"{kind}/l{n}" for n in range(3) for kind in ("alignment_null", "alignment_null_sd", "alignment_pooled")]
    scalars = ["accuracy/test", "accuracy/train", "loss/train", "time/epoch_seconds", "time/diagnostics_seconds"]
    scalars += [f"diagnostics/{name}" for name in ("max_block_growth", "deepest_grad_norm", "stability", "grad_gain")]
    assert {*layers, *nulls, *scalars} <= metrics.keys()
    assert [m.step for m in client.get_metric_history(runs["dfa-1"], "residual_norm/h2")] == [0, 1]
    assert not any(key.startswith("alignment/") for key in client.get_run(runs["bp-1"]).data.metrics)


def test_the_audit_measures_what_training_logged(runs: dict[str, str], uri: str) -> None:
    result = fa_tracking.audit(**FIRST, tracking_uri=uri)
    assert not result.problems
    for audited in result.runs:
        metrics = MlflowClient(uri).get_run(audited.run_id).data.metrics
        assert audited.report is not None
        assert audited.report.residual_norms[-1] == pytest.approx(metrics["residual_norm/h2"], rel=1e-6)
        assert audited.report.bp_grad_norms[-1] == pytest.approx(metrics["diagnostics/deepest_grad_norm"], rel=1e-5)
        assert audited.report.headline_acc == metrics["accuracy/test"]


def test_the_control_is_the_mean_over_seeds_of_runs_that_the_verdict_names(runs: dict[str, str], uri: str) -> None:
    fa_tracking.audit(**FIRST, tracking_uri=uri)
    client = MlflowClient(uri)
    controls = [runs["dfa-frozen-1"], runs["dfa-frozen-2"]]
    expected = sum(client.get_run(c).data.metrics["accuracy/test"] for c in controls) / 2
    found = tags(uri, runs["dfa-1"])
    assert sorted(found["fa.control_runs"].split(",")) == sorted(controls)
    assert json.loads(found["fa.measured"])["control_accuracy"] == pytest.approx(expected)
    assert tags(uri, controls[0])["fa.control_runs"] == ""


def test_an_audit_leaves_tags_a_note_and_reports(runs: dict[str, str], uri: str, tmp_path: Path) -> None:
    fa_tracking.audit(**FIRST | {"pictures": True}, tracking_uri=uri)
    client, run_id = MlflowClient(uri), runs["bp-1"]
    found = tags(uri, run_id)
    assert found["fa.evidence"] == "full"
    assert found["fa.verdict"] in found["mlflow.note.content"]
    folder = Path(client.download_artifacts(run_id, "audit", str(tmp_path)))
    whole = json.loads((folder / "report.json").read_text())
    assert whole["knockout"] == json.loads(found["fa.measured"])["knockout"] and whole["knockout"]["samples"] > 0
    report = DiagnosticReport.from_dict(whole)
    assert report.verdict == found["fa.verdict"]
    assert str(report) in (folder / "report.txt").read_text()
    page = (folder / "report.html").read_text()
    assert found["fa.verdict"] in page
    assert "<svg" in page and not any(loads in page for loads in ("<script", "href=", "src=", "url("))
    filtered = client.search_runs(["1"], filter_string=f"tags.\"fa.verdict\" = '{found['fa.verdict']}'")
    assert run_id in [r.info.run_id for r in filtered]


@pytest.mark.matrix
def test_without_pictures_a_report_says_so_and_is_the_same_otherwise(
    runs: dict[str, str], uri: str, tmp_path: Path
) -> None:
    pages, verdicts = [], []
    for pictures in (True, False):
        fa_tracking.audit(**FIRST | {"pictures": pictures}, tracking_uri=uri)
        folder = MlflowClient(uri).download_artifacts(runs["dfa-1"], "audit", str(tmp_path))
        pages.append((Path(folder) / "report.html").read_text())
        verdicts.append(tags(uri, runs["dfa-1"])["fa.verdict"])
    assert verdicts[0] == verdicts[1]
    assert "<svg" in pages[0] and "--no-pictures" not in pages[0]
    assert "<svg" not in pages[1] and "--no-pictures" in pages[1]
    assert re.sub(
        r'<div class="pictures">.*?</div>\s*<p class="note">[^<]*</p>\s*', "", pages[0], flags=re.DOTALL
    ) == re.sub(r'<p class="note">Audited without[^<]*</p>\s*', "", pages[1])


def test_auditing_again_with_other_thresholds_updates_the_verdict(runs: dict[str, str], uri: str) -> None:
    fa_tracking.audit("first", uri, thresholds=DiagnosticThresholds(h_norm_explosion_ratio=0.1))
    assert tags(uri, runs["bp-1"])["fa.verdict"].startswith("needs walk-back: residual stream exploded")
    assert json.loads(tags(uri, runs["bp-1"])["fa.thresholds"])["h_norm_explosion_ratio"] == 0.1
    fa_tracking.audit(**FIRST, tracking_uri=uri)
    assert "exploded" not in tags(uri, runs["bp-1"])["fa.verdict"]


def checkpoint_folder(uri: str, run_id: str) -> Path:
    return Path(MlflowClient(uri).get_run(run_id).info.artifact_uri.removeprefix("file://")) / "checkpoints/epoch_0001"


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 100), "does not match its checksum"),
        (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is broken"),
        (
            lambda f: (f / "config.json").write_text(
                (f / "config.json").read_text().replace("trainers:resmlp", "os:x")
            ),
            "no entry point of the group",
        ),
        (
            lambda f: (f / "config.json").write_text(
                (f / "config.json").read_text().replace('"width": 16', '"width": 1000000000')
            ),
            "does not fit the weights",
        ),
    ],
)
def test_a_broken_checkpoint_is_named_loses_its_verdict_and_the_others_go_on(
    damage: Callable[[Path], object], says: str, workspace: Path, uri: str
) -> None:
    experiment = f"broken {says}"
    broken, whole = (train(tiny("bp", seed=s, epochs=1), experiment, uri) for s in (1, 2))
    fa_tracking.audit(experiment, uri)
    damage(checkpoint_folder(uri, broken))
    result = fa_tracking.audit(experiment, uri)
    assert [(a.run_id, says in (a.problem or "")) for a in result.problems] == [(broken, True)]
    assert "fa.verdict" not in tags(uri, broken)
    assert "fa.verdict" in tags(uri, whole)


def test_data_that_is_not_at_hand_takes_no_verdict_away(workspace: Path, uri: str, tmp_path: Path) -> None:
    from test_data import write_images

    write_images(tmp_path)
    run_id = train(tiny("bp", dataset="birds", epochs=1), "birds", uri, RunOptions(data_dir=str(tmp_path)))
    fa_tracking.audit("birds", uri)
    verdict = tags(uri, run_id)["fa.verdict"]
    with pytest.raises(UsageError, match="does not exist"):
        fa_tracking.audit("birds", uri, data_dir="/nowhere")
    (tmp_path / "test.parquet").unlink()
    words = [*FA_TRACK, "audit", "--experiment", "birds"]  # this process holds the data that it has read
    done = subprocess.run(words, cwd=workspace, capture_output=True, text=True, check=False, env=users_environment())
    assert done.returncode == 1 and "holds no train.parquet" in done.stderr
    assert tags(uri, run_id)["fa.verdict"] == verdict


def test_a_diverged_or_unmatched_control_is_no_baseline(workspace: Path, uri: str) -> None:
    good = train(tiny("bp", epochs=1, width=12), "diverged", uri)  # of a width that no other run of this store has
    train(tiny("bp", epochs=1, width=12, frozen_blocks=True, lr=1e30), "diverged", uri)
    report = next(a.report for a in fa_tracking.audit("diverged", uri).runs if a.run_id == good)
    assert report is not None and report.frozen_baseline_undercut is None
    assert re.fullmatch(r"no control is whole; left out: \w{32} diverged", report.control_note)
    train(tiny("bp", epochs=1, frozen_blocks=True, width=8), "diverged", uri)
    report = next(a.report for a in fa_tracking.audit("diverged", uri).runs if a.run_id == good)
    assert report is not None and report.frozen_baseline_acc is None


def test_somebody_elses_loop_can_be_tracked_and_a_failure_marks_the_run(workspace: Path, uri: str) -> None:
    from test_diagnose import Hooked, float_batches

    with fa_tracking.start_run(experiment="own", tracking_uri=uri, method="mine", seed=1, note="x") as run:
        report = run.log_epoch(
            0,
            Hooked(),
            float_batches(),
            accuracy=0.2,
            credit=lambda model, seen: [g.clone() for g in seen.grads],
            metrics={"loss/train": math.nan, "mine/huge": math.inf},
        )
        run.log_checkpoint(Hooked(), feedback={"B": torch.ones(2)}, epoch=0)
    assert report.headline_acc == 0.2
    data = MlflowClient(uri).get_run(run.run_id).data
    assert data.metrics["alignment/l0"] == pytest.approx(1.0)
    assert math.isnan(data.metrics["loss/train"])
    assert data.params["note"] == "x"
    (audited,) = fa_tracking.audit("own", uri).runs
    assert audited.report is not None and audited.report.evidence == "partial"
    assert audited.report.residual_norms == pytest.approx(report.residual_norms, rel=1e-6)
    assert "saved without factory=, see docs/how-to/audit-your-own.md" in audited.report.notes
    assert audited.knockout and "saved without factory=" in (audited.knockout.problem or "")
    with (
        pytest.raises(ZeroDivisionError),
        fa_tracking.start_run(experiment="own", tracking_uri=uri, method="mine", seed=2) as run,
    ):
        _ = 1 / 0
    assert MlflowClient(uri).get_run(run.run_id).info.status == "FAILED"


def test_a_checkpoint_without_factory_is_a_problem_where_nothing_was_logged_or_it_is_damaged(
    workspace: Path, uri: str
) -> None:
    from test_diagnose import Hooked, float_batches

    with fa_tracking.start_run(experiment="silent", tracking_uri=uri, method="mine", seed=1) as run:
        run.log_checkpoint(Hooked(), epoch=0)
    (silent,) = fa_tracking.audit("silent", uri).runs
    assert silent.problem and "saved without factory=" in silent.problem and "no diagnostics" in silent.problem
    with fa_tracking.start_run(experiment="broken", tracking_uri=uri, method="mine", seed=1) as run:
        run.log_epoch(0, Hooked(), float_batches())
        run.log_checkpoint(Hooked(), epoch=0)
    next(workspace.rglob(f"{run.run_id}/artifacts/checkpoints/epoch_0000/model.safetensors")).write_bytes(b"0")
    (broken,) = fa_tracking.audit("broken", uri).runs
    assert broken.problem and "it is damaged" in broken.problem


def test_gamma_is_missing_below_the_floor_and_its_number_is_said(workspace: Path, uri: str) -> None:
    from test_diagnose import Hooked, float_batches

    with fa_tracking.start_run(experiment="floor", tracking_uri=uri, method="mine", seed=1) as run:
        run.log_epoch(
            0,
            Hooked(),
            float_batches(),
            credit=lambda model, seen: list(seen.grads),
            thresholds=DiagnosticThresholds(g_norm_floor=1e9),
        )
    metrics = MlflowClient(uri).get_run(run.run_id).data.metrics
    assert not any(key.startswith("alignment") for key in metrics)
    assert metrics["diagnostics/alignment_missing"] == 4


def test_the_git_commit_and_versions_stand_on_every_run(runs: dict[str, str], uri: str) -> None:
    found = tags(uri, runs["bp-1"])
    assert found["fa.version"]
    assert found["fa.torch"] == torch.__version__
    assert found["fa.deterministic"] == "true"


def rows(database: Path, sql: str) -> list[tuple]:
    with connect(database) as connection:
        return connection.sql(sql).fetchall()


def test_exporting_the_same_store_twice_gives_identical_rows(runs: dict[str, str], uri: str, tmp_path: Path) -> None:
    fa_tracking.audit(**FIRST, tracking_uri=uri)
    database = tmp_path / "r.duckdb"
    tables = ("runs", "params", "tags", "metrics", "layers", "audits")
    export(database, uri, "first")
    first = {t: rows(database, f"select * from {t} order by all") for t in tables}
    export(database, uri, "first")
    assert {t: rows(database, f"select * from {t} order by all") for t in tables} == first
    assert len(first["runs"]) == len(first["audits"]) == len(runs)
    assert rows(database, "select distinct width, depth, frozen_blocks from runs order by 3") == [
        (16, 2, False),
        (16, 2, True),
    ]
    assert rows(database, "select count(*) from layers where residual_norm is null") == [(0,)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.duckdb"]


def test_nan_and_infinity_reach_the_database_as_what_they_are(workspace: Path, uri: str, tmp_path: Path) -> None:
    with fa_tracking.start_run(experiment="numbers", tracking_uri=uri, method="m", seed=1) as run:
        run.log_metrics({"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1e300}, 0)
    export(tmp_path / "r.duckdb", uri, "numbers")
    found = rows(tmp_path / "r.duckdb", "select value from metrics order by key")
    assert math.isnan(found[0][0])
    assert [v for (v,) in found[1:]] == [math.inf, -math.inf, 1e300]


def test_an_export_of_one_experiment_keeps_the_others(runs: dict[str, str], uri: str, tmp_path: Path) -> None:
    train(tiny("bp", epochs=0), "second", uri)
    export(tmp_path / "r.duckdb", uri, "first")
    export(tmp_path / "r.duckdb", uri, "second")
    assert rows(tmp_path / "r.duckdb", "select distinct experiment from runs order by 1") == [("first",), ("second",)]


@pytest.fixture
def database(runs: dict[str, str], uri: str, tmp_path: Path) -> Path:
    fa_tracking.audit(**FIRST, tracking_uri=uri)
    export(tmp_path / "r.duckdb", uri, "first")
    return tmp_path / "r.duckdb"


def test_a_database_without_the_macros_of_the_queries_gets_them_at_the_next_export(database: Path, uri: str) -> None:
    with duckdb.connect(str(database)) as connection:
        connection.execute("drop macro table cells_of")
    for is_repaired in (False, True):
        with connect(database) as connection:
            if is_repaired:
                assert ask(connection, find_query("cross_seed"), "first").fetchall()
            else:
                with pytest.raises(FATrackError, match="`fa-track export` brings it up to date"):
                    ask(connection, find_query("cross_seed"), "first")
        export(database, uri)


def test_cross_seed_is_mean_and_sample_deviation_over_the_seeds(database: Path, runs: dict[str, str], uri: str) -> None:
    client = MlflowClient(uri)
    values = [client.get_run(runs[f"dfa-frozen-{s}"]).data.metrics["accuracy/test"] for s in (1, 2)]
    with connect(database) as connection:
        relation = ask(connection, find_query("cross_seed"), "first")
        cells = [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]
    cell = next(c for c in cells if c["method"] == "dfa" and c["frozen_blocks"])
    assert (cell["n"], cell["seeds"]) == (2, "1 2")
    assert cell["accuracy_mean"] == pytest.approx(sum(values) / 2)
    assert cell["accuracy_sd"] == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
    alone = next(c for c in cells if c["method"] == "bp" and not c["frozen_blocks"])
    assert (alone["n"], alone["accuracy_sd"]) == (1, None)


def test_two_cells_are_compared_over_their_seeds(database: Path, runs: dict[str, str], uri: str) -> None:
    accuracy = {name: MlflowClient(uri).get_run(run).data.metrics["accuracy/test"] for name, run in runs.items()}
    with connect(database) as connection:
        found = compare(connection, "accuracy/test", "method=dfa,frozen_blocks=true", "method=bp,frozen_blocks=True")
        expected = [accuracy[f"dfa-frozen-{s}"] - accuracy[f"bp-frozen-{s}"] for s in (1, 2)]
        assert found.difference is not None and found.difference.paired
        assert found.difference.mean == pytest.approx(sum(expected) / 2)
        assert "paired t over 2 common seeds" in found.sentence()
        assert found.also_differ == ()
        alone = compare(connection, "accuracy/test", "method=dfa,frozen_blocks=false", "method=bp,frozen_blocks=False")
        one_cell = r"2 cells, .* trainable_blocks \(0, 2\): name one, as method=dfa,trainable_blocks=0 does"
        for wrong, says in (("method=dfa", one_cell), ("x", "no selection")):
            with pytest.raises(UsageError, match=says):
                compare(connection, "accuracy/test", wrong, "method=bp,frozen_blocks=False")
        family = compare_family(
            connection, "accuracy/test", "method=dfa,frozen_blocks=true", ["method=bp,frozen_blocks=True"] * 2
        )
    assert alone.difference is None
    assert [c.p_holm for c in family] == [pytest.approx(min(1.0, 2 * found.difference.p))] * 2
    assert json.loads(json.dumps(family[0].to_dict(), allow_nan=False))["difference"]["n_a"] == 2


@pytest.mark.sample(1)
@pytest.mark.parametrize("change", ["update schema_digest set digest = 'x'", "drop table schema_digest"])
def test_a_database_of_another_version_is_named_and_kept(change: str, database: Path, uri: str) -> None:
    with duckdb.connect(str(database)) as connection:
        connection.execute(change)
    before = database.read_bytes()
    with pytest.raises(UsageError, match="another version"):
        export(database, uri)
    assert database.read_bytes() == before


def test_a_folder_of_parquet_is_asked_like_a_database(database: Path, tmp_path: Path) -> None:
    with duckdb.connect(str(database)) as connection:
        for (table,) in connection.execute("select table_name from information_schema.tables").fetchall():
            connection.execute(f"copy {table} to '{tmp_path / table}.parquet'")
    (empty := tmp_path / "empty").mkdir()
    answers = []
    for source in (database, tmp_path):
        with connect(source) as connection:
            answers.append(ask(connection, find_query("audit_table"), "first").fetchall())
    assert answers[0] == answers[1] and answers[0]
    with pytest.raises(UsageError, match="holds no runs"):
        connect(empty)


def test_first_flag_finds_the_epoch_and_counts_what_was_saved(workspace: Path, uri: str, tmp_path: Path) -> None:
    from mlflow.entities import Metric, RunTag

    client = MlflowClient(uri)
    run_id = train(tiny("bp", epochs=0), "flags", uri)
    fa_tracking.audit("flags", uri)
    series = {
        "diagnostics/max_block_growth": [1, 2, 50, 51, 60],
        "diagnostics/deepest_grad_norm": [1e-3, 9e-8, 9e-8, 9e-8, math.nan],
        "diagnostics/grad_gain": [1e-3, 1e-3, 1e-8, 1e-8, 1e-8],
        "accuracy/test": [0.1, 0.2, 0.3, 0.4, 0.5],
    }
    points = [Metric(k, v, 10**13, step) for k, values in series.items() for step, v in enumerate(values)]
    client.log_batch(run_id, metrics=points, tags=[RunTag("x", "y")])
    export(tmp_path / "r.duckdb", uri, "flags")
    with connect(tmp_path / "r.duckdb") as connection:
        relation = ask(connection, find_query("first_flag"), "flags")
        row = dict(zip(relation.columns, relation.fetchall()[0], strict=True))
    assert (row["growth_epoch"], row["grad_floor_epoch"], row["not_finite_epoch"]) == (3, 2, 4)
    assert (row["first_epoch"], row["accuracy_at_first"], row["final_epoch"]) == (2, 0.3, 4)
    assert row["epochs_saved"] == pytest.approx(0.5)


def test_a_run_whose_flag_holds_stops_and_keeps_what_it_has(workspace: Path, uri: str) -> None:
    run_id = train(tiny("bp", epochs=6, lr=1e30), "aborted", uri, RunOptions(abort=Abort(["n"], patience=2)))
    run = MlflowClient(uri).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert (run.data.tags["fa.aborted_at"], run.data.tags["fa.aborted_for"]) == ("2", "n")
    assert [a.path for a in MlflowClient(uri).list_artifacts(run_id, "checkpoints")] == ["checkpoints/epoch_0002"]
    (audited,) = fa_tracking.audit("aborted", uri).runs
    assert audited.report is not None and "aborted at epoch 2 of 6" in audited.report.notes
    whole = train(tiny("bp", epochs=1, lr=1e30), "aborted", uri, RunOptions(abort=Abort(["n"], patience=1)))
    assert "fa.aborted_at" not in tags(uri, whole)


def test_a_flag_must_hold_for_the_whole_patience() -> None:
    def report(growth: float) -> DiagnosticReport:
        return DiagnosticReport("m", "", [1.0, growth], [1.0, 1.0], 0, 0.0, None, None)

    abort = Abort(["a", "b"], patience=2)
    assert [abort(report(g)) for g in (100.0, 1.0, 100.0, 100.0)] == [False, False, False, True]
    for flags, patience in ((["d"], 1), (["x"], 1), ([], 1), (["a"], 0)):
        with pytest.raises(UsageError):
            Abort(flags, patience)


def test_the_knockout_stands_beside_the_verdict(runs: dict[str, str], uri: str, database: Path) -> None:
    removed = dict(rows(database, f"select removed, accuracy from knockouts where run_id = '{runs['dfa-1']}'"))
    assert removed.keys() == {"none", "all", "0", "1"}
    with connect(database) as connection:
        found = ask(connection, find_query("block_knockout"), "first").df().set_index("run_id")
    assert len(found) == len(runs)
    row = found.loc[runs["dfa-1"]]
    assert (row["whole"], row["without_all"]) == (removed["none"], removed["all"])
    assert row["worst_single"] == min(removed["0"], removed["1"]) == removed[row["worst_block"]]
    assert f"without any block: {removed['all']:.4f}" in tags(uri, runs["dfa-1"])["mlflow.note.content"]


@pytest.mark.matrix
def test_the_dashboard_is_one_file_that_needs_no_network(database: Path, runs: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    write_html("first", out, database)
    page = out.read_text()
    assert page.count("vegaEmbed(") >= 1
    assert 'src="http' not in page
    assert page.count('href="http') == page.count('href="http://127.0.0.1:5000/#/runs/') == len(runs)  # links to MLflow
    with answers("first", database) as answer:
        drawn = draw_all("first", answer)
        assert len(answer("cross_seed")) == 4
    assert [d.name for d in drawn[:1]] == ["verdict_matrix"]
    points = [v for d in drawn[:1] for data in d.specification["datasets"].values() for v in data if "run_id" in v]
    assert {p["run_id"] for p in points} >= {*map(str, rows(database, "select run_id from runs")[0])}


def test_a_chart_says_what_an_axis_cannot_hold() -> None:
    import pandas as pd

    from fa_tracking.dashboards.charts import audit_panels

    base = {"architecture": "resmlp", "width": 8, "depth": 2, "epochs": 1, "lr": 0.1}
    base |= {
        "method": "m",
        "augmentation": "none",
        "penalty": 0.0,
        "frozen_blocks": False,
        "verdict": "trustworthy",
        "accuracy": 0.5,
    }
    base |= {"margin_pp": None, "stability": math.nan, "h_norm_explosion_ratio": 50.0, "g_norm_floor": 1e-7}
    base |= {"stability_drift_ceiling": 0.3, "frozen_acc_margin_pp": 2.0}
    frame = pd.DataFrame(
        [
            {**base, "seed": 1, "run_id": "r1", "growth": math.inf, "grad_norm": 0.0},
            {**base, "seed": 2, "run_id": "r2", "growth": 2.0, "grad_norm": 1e-3},
        ],
        dtype=object,
    )
    text = json.dumps(audit_panels.draw(frame).to_dict())
    assert '"edge": "+\\u221e"' in text
    assert '"edge": "0"' in text
    assert text.count('"edge": "NaN"') == 2
    assert "2 of 2 not measured" in text
