"""What becomes of points that runs logged twice, late, under absurd names, or not at all, on their way to an answer."""

import json
import math
import shlex
import sqlite3
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from runs import RUNNING, log_run
from servers import tracking_server
from stores import new_store

import fa_tracking
from fa_tracking import cells
from fa_tracking.auditor.evidence import logged_numbers
from fa_tracking.checks.gate import gate
from fa_tracking.checks.requirement import Requirement
from fa_tracking.errors import UsageError
from fa_tracking.results.compare import compare
from fa_tracking.results.database import ask, connect, find_query, run_sql
from fa_tracking.results.export.carry import Exported
from fa_tracking.results.export.export import export
from fa_tracking.tracking import names
from fa_tracking.tracking import store as stores

NOW = 1_700_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> str:
    return new_store(tmp_path)


def run(uri: str, points: list[tuple[str, float, int, int]] = [], experiment: str = "e", **params: Any) -> str:  # noqa: B006
    """A finished run of three healthy epochs, and further points: key, value, milliseconds after NOW, step."""
    client = MlflowClient(uri)
    said = {"method": "dfa", "architecture": "net", "seed": 1, "depth": 1, "frozen_blocks": False, **params}
    healthy = {
        "residual_norm/h0": 1.0,
        "residual_norm/h1": 2.0,
        "grad_norm/g0": 1e-3,
        "grad_norm/g1": 1e-3,
        "diagnostics/max_block_growth": 2.0,
        "diagnostics/deepest_grad_norm": 1e-3,
    }
    usual = {step: {"accuracy/test": 0.1 * step, **healthy} for step in (1, 2, 3)}
    run_id = log_run(client, experiment, usual, status=RUNNING, ended=NOW, **said)
    log(uri, run_id, points)
    client.set_terminated(run_id)
    return run_id


def log(uri: str, run_id: str, points: list[tuple[str, float, int, int]]) -> None:
    for key, value, after, step in points:
        MlflowClient(uri).log_batch(run_id, metrics=[Metric(key, value, NOW + after, step)])


def exported(uri: str, database: Path, **how: Any) -> tuple[Exported, list[str]]:
    said: list[str] = []
    return export(database, uri, say=said.append, **how), said


def values(database: Path, key: str) -> list[tuple[int, float]]:
    with connect(database) as connection:
        return run_sql(
            connection, "select step, value from metrics where key = $key order by all", {"key": key}
        ).fetchall()


def of_layer(database: Path, layer: int, column: str) -> list[tuple[int, float]]:
    with connect(database) as connection:
        asked = f"select step, {column} from layers where layer = {layer} order by all"
        return run_sql(connection, asked).fetchall()


def row(database: Path, query: str, experiment: str = "e") -> dict[str, Any]:
    with connect(database) as connection:
        answer = ask(connection, find_query(query), experiment)
        (found,) = answer.fetchall()
        return dict(zip(answer.columns, found, strict=True))


TWICE = [
    ("accuracy/test", 0.9, 5, 2),
    ("accuracy/test", 0.4, 9, 2),  # the last one, and not the largest
    ("residual_norm/h1", 500.0, 5, 2),
    ("residual_norm/h1", 3.0, 9, 2),
    ("grad_norm/g1", 1e-9, 5, 3),
    ("grad_norm/g1", 2e-3, 9, 3),
    ("diagnostics/max_block_growth", 500.0, 5, 2),
    ("diagnostics/max_block_growth", 3.0, 9, 2),
]


@pytest.mark.server
@pytest.mark.parametrize("through", ["the database", "a server", "a folder"])
def test_of_a_value_logged_twice_at_a_step_the_last_counts_everywhere(
    store: str, tmp_path: Path, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = str(tmp_path / "mlruns") if through == "a folder" else store
    run_id = run(uri, TWICE)
    fa_tracking.audit("e", uri, pictures=False)
    database = tmp_path / "r.duckdb"
    if through == "a server":
        with tracking_server(store) as served:
            exported(served, database)
    else:
        exported(uri, database)
    assert values(database, "accuracy/test") == [(1, 0.1), (2, 0.4), (3, pytest.approx(0.3))]
    assert of_layer(database, 1, "residual_norm") == [(1, 2.0), (2, 3.0), (3, 2.0)]
    assert of_layer(database, 1, "grad_norm") == [(1, 1e-3), (2, 1e-3), (3, 2e-3)]
    assert row(database, "first_flag")["growth_epoch"] is None
    client = MlflowClient(uri)
    found = logged_numbers.read(client, client.get_run(run_id)).values
    assert (found[2]["accuracy/test"], found[2]["residual_norm/h1"], found[3]["grad_norm/g1"]) == (0.4, 3.0, 2e-3)
    assert stores.values_at(client, client.get_run(run_id), ["accuracy/test"], 2) == {"accuracy/test": 0.4}
    replayed = fa_tracking.replay("e", uri).runs[0]
    assert replayed.diagnostics["a"].epoch is None and replayed.diagnostics["b"].epoch is None


def test_at_one_millisecond_the_larger_value_and_nan_before_all_count_as_the_later(store: str, tmp_path: Path) -> None:
    twice = [("accuracy/test", 0.9, 0, 1), ("accuracy/test", math.nan, 0, 2), ("accuracy/test", 0.5, 0, 2)]
    run_id = run(store, twice)
    exported(store, tmp_path / "r.duckdb")
    (_, first), (_, second), _ = values(tmp_path / "r.duckdb", "accuracy/test")
    assert first == 0.9 and math.isnan(second)
    client = MlflowClient(store)
    found = logged_numbers.read(client, client.get_run(run_id)).values
    assert found[1]["accuracy/test"] == 0.9 and math.isnan(found[2]["accuracy/test"])


@pytest.mark.server
def test_a_point_that_is_logged_late_to_a_finished_run_reaches_an_incremental_export_of_a_server(
    store: str, tmp_path: Path
) -> None:
    run_id, other, database = run(store), run(store, seed=2), tmp_path / "r.duckdb"
    with tracking_server(store) as served:
        assert exported(served, database)[0].read == 2
        assert exported(served, database)[0].changed == 0
        log(store, run_id, [("accuracy/test", 0.05, 99, 0)])
        again = exported(served, database)[0]
        assert (again.changed, again.read) == (1, 1)
        assert (0, 0.05) in values(database, "accuracy/test")
        log(store, other, [("residual_norm/h1", 77.0, 99, 2)])  # a step that was there
        assert exported(served, database)[0].changed == 1
        assert sorted(of_layer(database, 1, "residual_norm")) == [(1, 2), (1, 2), (2, 2), (2, 77), (3, 2), (3, 2)]
        whole = tmp_path / "whole.duckdb"
        exported(served, whole)
    exported(store, tmp_path / "direct.duckdb")
    for asked in ("accuracy/test", "residual_norm/h1", "grad_norm/g0"):
        assert values(database, asked) == values(whole, asked) == values(tmp_path / "direct.duckdb", asked)


@pytest.mark.server
def test_more_points_than_a_server_hands_out_at_once_are_all_read(store: str, tmp_path: Path) -> None:
    run_id, client = run(store), MlflowClient(store)
    for start in range(0, 26_000, 1000):
        some = [Metric("loss/train", float(i), NOW, i) for i in range(start, start + 1000)]
        client.log_batch(run_id, metrics=some)
    run(store, [("loss/train", 5.0, 0, 1)], seed=2)
    with tracking_server(store) as served:
        done, _ = exported(served, tmp_path / "r.duckdb")
    assert done.metrics == 26_001 + 2 * 21


ABSURD = ["residual_norm/h99999999999", "grad_norm/g10000", "alignment/l007", "nudge/l4294967296", "perturbation/l00"]


@pytest.mark.server
@pytest.mark.parametrize("through", ["the database", "a server"])
def test_an_absurd_name_of_a_metric_is_named_and_stops_nobody(store: str, tmp_path: Path, through: str) -> None:
    run_id = run(store, [(key, 1.5, 0, 1) for key in ABSURD])
    run(store, experiment="other")
    database = tmp_path / "r.duckdb"
    if through == "a server":
        with tracking_server(store) as served:
            done, said = exported(served, database)
    else:
        done, said = exported(store, database)
    assert done.runs == 2
    assert len(said) == len(ABSURD) and all(line.startswith(run_id) for line in said)
    assert sorted(line.split(": ")[1].split(" names")[0] for line in said) == sorted(ABSURD)
    assert values(database, ABSURD[0]) == [(1, 1.5)]
    with connect(database) as connection:
        assert run_sql(connection, "select max(layer), count(*) from layers").fetchall() == [(1, 12)]
    assert exported(store, tmp_path / "again.duckdb")[1] == said


def test_times_that_no_calendar_has_stop_nobody(store: str, tmp_path: Path) -> None:
    client, run_id = MlflowClient(store), run(store)
    client.log_batch(run_id, metrics=[Metric("accuracy/test", 0.7, 9_000_000_000_000_000, 4)])
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("update runs set start_time = -9000000000000000, end_time = 9000000000000000")
    exported(store, tmp_path / "r.duckdb")
    assert values(tmp_path / "r.duckdb", "accuracy/test")[-1] == (4, 0.7)
    assert row(tmp_path / "r.duckdb", "runs")["last_epoch"] == 4


@pytest.mark.sample(2)
@pytest.mark.parametrize("lost", ["residual_norm/h0", "grad_norm/g0", "residual_norm/h1", "accuracy/test"])
def test_first_flag_and_replay_find_what_is_not_finite_in_any_layer_at_the_same_epoch(
    store: str, tmp_path: Path, lost: str
) -> None:
    run(store, [(lost, math.inf if "norm" in lost else math.nan, 9, 2)])
    fa_tracking.audit("e", store, pictures=False)
    exported(store, tmp_path / "r.duckdb")
    found = row(tmp_path / "r.duckdb", "first_flag")
    assert found["not_finite_epoch"] == found["first_epoch"] == 2
    assert fa_tracking.replay("e", store).runs[0].diagnostics["n"].epoch == 2


def test_a_gradient_that_is_not_bps_fires_nothing_in_first_flag_nor_in_replay(store: str, tmp_path: Path) -> None:
    run_id = run(store, [("diagnostics/deepest_grad_norm", 1e-12, 9, 2), ("grad_norm/g0", math.inf, 9, 2)])
    MlflowClient(store).set_tag(run_id, "fa.reference_gradient", "not BP")
    fa_tracking.audit("e", store, pictures=False)
    exported(store, tmp_path / "r.duckdb")
    found = row(tmp_path / "r.duckdb", "first_flag")
    assert (found["grad_floor_epoch"], found["not_finite_epoch"]) == (None, None)
    replayed = fa_tracking.replay("e", store).runs[0]
    assert replayed.diagnostics["b"].epoch is None and replayed.diagnostics["n"].epoch is None


LONG = 10**-1.5  # of 17 digits


def test_a_number_of_any_length_is_read_and_a_penalty_that_says_none_is_not_taken_for_0(
    store: str, tmp_path: Path
) -> None:
    for seed in (1, 2):
        for penalty, more in ((0.0, 0.0), (LONG, 0.2), ("1/3", 0.3), ("", 0.4), ("none", 0.5)):
            numbers = {key: str(1 / 3) for key in ("lr", "weight_decay", "momentum", "clip_norm", "alpha")}
            run(store, [("accuracy/test", 0.1 + more, 9, 3)], seed=seed, penalty=penalty, **numbers)
    fa_tracking.audit("e", store, pictures=False)
    exported(store, tmp_path / "r.duckdb")
    with connect(tmp_path / "r.duckdb") as connection:
        asked = "select distinct lr, weight_decay, momentum, clip_norm, alpha from runs"
        assert run_sql(connection, asked).fetchall() == [(1 / 3,) * 5]
        asked = "select distinct penalty from runs order by all nulls last"
        assert run_sql(connection, asked).fetchall() == [(0.0,), (LONG,), (None,)]
        for query, gain in (("penalty_sweep", "gain_pp"), ("penalty_rescue", "accuracy"), ("penalty_2x2", "penalty")):
            answer = ask(connection, find_query(query), "e")
            rows = [dict(zip(answer.columns, found, strict=True)) for found in answer.fetchall()]
            if query == "penalty_2x2":
                assert [(r["penalty"], r["difference_pp"]) for r in rows] == [(LONG, pytest.approx(20))]
                continue
            assert {r["penalty"] for r in rows} == {0.0, LONG}
            assert len(rows) == (6 if query == "penalty_sweep" else 4)
            wanted = {"gain_pp": 20, "accuracy": 0.3}[gain]
            assert {round(r[gain], 9) for r in rows if r["penalty"] == LONG} == {wanted}
        answer = ask(connection, find_query("cross_seed"), "e")
        also = [dict(zip(answer.columns, found, strict=True))["also"] for found in answer.fetchall()]
        assert sorted(also) == ["", "", 'penalty=""', "penalty=1/3", "penalty=none"]


def test_seeds_of_any_kind_are_named_and_a_run_with_an_empty_one_is_its_own_sample(store: str, tmp_path: Path) -> None:
    for seed in ("a", "1.5", "b"):
        run(store, seed=seed)
    unseeded = [run(store, method="bp", seed=seed) for seed in ("", " ", "")]
    frozen = [run(store, frozen_blocks=True, seed="", architecture="wide", width=8) for _ in range(2)]
    fa_tracking.audit("e", store, pictures=False)
    exported(store, tmp_path / "r.duckdb")
    with connect(tmp_path / "r.duckdb") as connection:
        found = dict(run_sql(connection, "select method, seeds from cells_of('e') where not frozen_blocks").fetchall())
        assert found == {"dfa": "1.5 a b", "bp": " ".join(sorted(unseeded))}
        assert compare(connection, "accuracy/test", "method=bp", "method=dfa,frozen_blocks=0", "e").a.summary.n == 3
    client = MlflowClient(store)
    assert len({cells.sample(client.get_run(r).data.params, r) for r in frozen}) == 2
    cell = next(
        cell for cell in gate("e", Requirement(verdicts=(), allow_partial=True), store).cells if "bp" in cell.name
    )
    assert {*cell.seeds} == {*unseeded} and {judged.seed for judged in cell.runs} == {None}


def test_compare_takes_the_very_value_first_and_its_advice_can_be_followed(store: str, tmp_path: Path) -> None:
    for seed in (1, 2):
        for more, params in enumerate((
            {"activation": "ReLU", "my key ": "v"},
            {"activation": "relu", "my key ": "v"},
            {"activation": "relu", "my key ": "w\u00a0"},
            {"activation": "relu", "my key ": "w"},
        )):  # fmt: skip
            run(store, [("accuracy/test", 0.1 * more + 0.01 * seed, 9, 3)], seed=seed, **params)
        run(store, seed=seed, method="bp", activation="Tanh")
    exported(store, tmp_path / "r.duckdb")
    with connect(tmp_path / "r.duckdb") as connection:

        def mean(selection: str) -> float:
            return compare(connection, "accuracy/test", selection, "method=BP,activation=tanh", "e").a.summary.mean

        assert mean("activation=ReLU") == pytest.approx(0.015)
        assert mean('activation=relu,"my key "=v') == pytest.approx(0.115)
        for asked in ("method=dfa", "activation=RELU", "activation=relu", "method=dfa,activation=relu"):
            with pytest.raises(UsageError) as refused:
                mean(asked)
            advice = shlex.split(str(refused.value).split("name one, as ")[1])[0]
            keys = [pair.split("=")[0] for pair in advice.split(",")]
            assert len(keys) == len({*keys}) and mean(advice) >= 0


def test_where_any_run_of_an_experiment_is_audited_those_that_are_not_are_in_no_comparison(
    store: str, tmp_path: Path
) -> None:
    for seed in (1, 2):
        run(store, seed=seed)
    fa_tracking.audit("e", store, pictures=False)
    for seed in (1, 2, 3):
        run(store, seed=seed, method="fa")
        run(store, seed=seed, method="fa", experiment="of nobody")
        run(store, seed=seed, experiment="of nobody")
    exported(store, tmp_path / "r.duckdb")
    with connect(tmp_path / "r.duckdb") as connection:
        with pytest.raises(UsageError, match=r"all runs of 'method=fa' not audited \(3\): they are in no comparison"):
            compare(connection, "accuracy/test", "method=dfa", "method=fa", "e")
        assert compare(connection, "accuracy/test", "method=dfa", "method=fa", "of nobody").b.summary.n == 3
        with connect(tmp_path / "r.duckdb") as second:  # of the same file, in the same process
            assert run_sql(second, "select count(*) from runs").fetchall() == [(11,)]
            for reaching in ("from read_text('/etc/hosts')", "set lock_configuration = false", "attach 'x.duckdb'"):
                with pytest.raises(duckdb.Error):
                    second.execute(reaching)
        exported(store, tmp_path / "r.duckdb")


def test_the_sources_agree_on_which_parents_are_trainings(store: str, tmp_path: Path) -> None:
    client = MlflowClient(store)
    home = client.get_run(run(store)).info.experiment_id
    for key, tags in (("Diagnostics/best", {}), ("RESIDUAL_NORM/h0", {}), ("accuracy/test", {names.TAG_SUMMARY: "1"})):
        parent = client.create_run(home).info.run_id
        client.log_metric(parent, key, 0.5)
        client.set_terminated(parent)
        client.set_terminated(client.create_run(home, tags={names.TAG_PARENT: parent, **tags}).info.run_id)
    exported(store, tmp_path / "r.duckdb")
    with connect(tmp_path / "r.duckdb") as connection:
        found = {run_id for (run_id,) in run_sql(connection, "select run_id from runs").fetchall()}
    assert found == {training.info.run_id for training in stores.trainings(client, [home])} and len(found) == 4


@pytest.mark.server
@pytest.mark.parametrize("through", ["the database", "a server"])
def test_a_run_that_only_holds_nested_ones_is_no_training(store: str, tmp_path: Path, through: str) -> None:
    client = MlflowClient(store)
    child = run(store, experiment="sweep")
    home = client.get_run(child).info.experiment_id
    parents = {name: str(client.create_run(home, run_name=name).info.run_id) for name in ("empty", "best", "trained")}
    for name, parent in parents.items():
        nested = child if name == "empty" else run(store, experiment="sweep", seed=name)
        client.set_tag(nested, "mlflow.parentRunId", parent)
    client.log_batch(parents["best"], metrics=[Metric("accuracy/test", 0.3, NOW, 0), Metric("best_value", 1, NOW, 0)])
    client.log_batch(
        parents["trained"],
        metrics=[Metric("accuracy/test", 0.3, NOW, 1), Metric("residual_norm/h0", 1.0, NOW, 1)],
        params=[Param("method", "bp"), Param("seed", "9")],
    )
    for parent in parents.values():
        client.set_terminated(parent)
    audited = {found.run_id for found in fa_tracking.audit("sweep", store, pictures=False).runs}
    assert parents["trained"] in audited and len(audited) == 4
    assert len(fa_tracking.replay("sweep", store).runs) == 4
    assert {judged.run_id for judged in gate("sweep", Requirement(), store).runs} == audited
    database = tmp_path / "r.duckdb"
    if through == "a server":
        with tracking_server(store) as served:
            exported(served, database)
    else:
        exported(store, database)
    with connect(database) as connection:
        assert {run for (run,) in run_sql(connection, "select run_id from runs").fetchall()} == audited


def test_the_gate_finds_an_epoch_that_came_a_moment_after_the_verdict(store: str) -> None:
    run_id, client = run(store), MlflowClient(store)
    fa_tracking.audit("e", store, pictures=False)
    asked = Requirement(verdicts=(), allow_partial=True)
    assert gate("e", asked, store).passed
    at = int(time.time() * 1000) + 1
    client.log_batch(run_id, metrics=[Metric("accuracy/test", 0.3, at, 4)])
    (judged,) = gate("e", asked, store).runs
    assert "has logged an epoch since" in judged.why
    fa_tracking.audit("e", store, pictures=False)
    assert gate("e", asked, store).passed


def test_the_gate_looks_at_every_layer_and_at_what_became_of_the_control(store: str) -> None:
    run_id, client = run(store), MlflowClient(store)
    asked = Requirement(verdicts=(), allow_partial=True)
    fa_tracking.audit("e", store, pictures=False)
    assert gate("e", asked, store).passed
    late = int(time.time() * 1000) + 1000
    client.log_batch(run_id, metrics=[Metric("residual_norm/h1", 1e9, late, 3)])
    assert "has logged an epoch since" in gate("e", asked, store).runs[0].why


def test_the_gate_finds_a_control_that_is_another_now_than_the_audit_used(store: str) -> None:
    planned, asked = {"width": 8, "dataset": "d", "epochs": 3, "batch_size": 4}, Requirement((), allow_partial=True)
    client, own = MlflowClient(store), run(store, **planned)
    control, other = (run(store, frozen_blocks=True, seed=seed, **planned) for seed in (1, 2))
    log(store, control, [("accuracy/test", 0.2, 9, 3)])
    client.delete_run(other)

    def why() -> str:
        return next(judged.why for judged in gate("e", asked, store).runs if judged.run_id == own)

    fa_tracking.audit("e", store, pictures=False)
    assert why() == ""
    client.restore_run(other)
    assert "the accuracy of its frozen control was 0.2, and is 0.25" in why()
    fa_tracking.audit("e", store, pictures=False)
    assert why() == ""
    log(store, control, [("accuracy/test", 0.1, 99, 3)])
    assert "the accuracy of its frozen control was 0.25, and is 0.2" in why()
    client.set_tag(own, names.TAG_ABORTED_AT, "2")
    assert "is none any more" in why()


def test_the_gate_finds_an_epoch_beyond_the_judged_one_whatever_its_time(store: str) -> None:
    client, asked = MlflowClient(store), Requirement((), allow_partial=True)
    runs = [run(store, seed=seed) for seed in (1, 2, 3)]
    fa_tracking.audit("e", store, pictures=False)
    started = client.get_run(runs[2]).info.start_time  # of the last of them
    client.log_batch(runs[0], metrics=[Metric("residual_norm/h1", math.nan, started + 1, 9)])
    client.log_batch(runs[1], metrics=[Metric("accuracy/test", 0.5, started + 1, 9)])  # an audit anew judges the same
    client.set_tag(runs[2], names.TAG_EVALUATED, "a frame")
    client.log_batch(runs[2], metrics=[Metric("residual_norm/h1", math.nan, started + 1, 9)])  # beside the frame
    judged = {found.run_id: found.outcome for found in gate("e", asked, store).runs}
    assert [judged[run_id] for run_id in runs] == ["no verdict", "passes", "passes"]
    late = int(time.time() * 1000) + 1000
    client.log_batch(runs[2], metrics=[Metric("diagnostics/stability", 0.999, late, 10)])
    assert "has logged an epoch since" in {found.run_id: found.why for found in gate("e", asked, store).runs}[runs[2]]


def test_a_checkpoint_earlier_than_the_last_logged_epoch_is_not_stale(store: str) -> None:
    run_id, client = run(store), MlflowClient(store)
    fa_tracking.audit("e", store, pictures=False)
    measured = json.loads(client.get_run(run_id).data.tags[names.TAG_MEASURED])
    client.set_tag(run_id, names.TAG_MEASURED, json.dumps({**measured, "epoch": 2}))
    client.set_tag(run_id, names.TAG_EVIDENCE, "full")
    started = client.get_run(run_id).info.start_time
    client.log_batch(run_id, metrics=[Metric(key, 0.1, started, 4) for key in client.get_run(run_id).data.metrics])
    assert gate("e", Requirement(()), store).passed


def test_a_point_that_takes_the_row_of_a_deleted_one_is_exported(store: str, tmp_path: Path) -> None:
    first, second, database = run(store), run(store, seed=2), tmp_path / "r.duckdb"
    exported(store, database)
    with sqlite3.connect(tmp_path / "mlflow.db") as held:  # as `mlflow gc` leaves it
        for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
            held.execute(f"delete from {table} where run_uuid = ?", [second])
    log(store, first, [("accuracy/test", 0.9, 99, 9), ("residual_norm/h1", 99.0, 99, 9)])
    run(store, seed=3)
    exported(store, database)
    with connect(database) as connection:
        asked = "select max(step) from metrics where run_id = $run"
        assert run_sql(connection, asked, {"run": first}).fetchall() == [(9,)]


def test_seeds_that_are_not_whole_are_seeds_and_unaudited_runs_are_in_no_comparison(store: str, tmp_path: Path) -> None:
    for seed, more in (("0.1", 0.0), ("0.2", 0.01), ("0.3", 0.02), ("1_000", 0.03), ("1000", 0.04)):
        run(store, [("accuracy/test", 0.5 + more, 9, 3)], seed=seed)
        run(store, [("accuracy/test", 0.6 + 2 * more, 9, 3)], seed=seed, method="bp")
    fa_tracking.audit("e", store, pictures=False)
    run(store, [("accuracy/test", 0.99, 9, 3)], seed=7)
    run(store, [("accuracy/test", 0.01, 9, 3)], seed=7, method="bp")
    exported(store, tmp_path / "r.duckdb")
    with connect(tmp_path / "r.duckdb") as connection:
        answer = ask(connection, find_query("cross_seed"), "e")
        rows = [dict(zip(answer.columns, found, strict=True)) for found in answer.fetchall()]
        assert [row["n"] for row in rows] == [5, 5]
        compared = compare(connection, "accuracy/test", "method=dfa", "method=bp", "e")
        assert compared.difference.n_a == 5 and compared.difference.mean == pytest.approx(-0.12)
