"""The export against real stores: SQLite, PostgreSQL and MariaDB directly, and through a real tracking server."""

import json
import math
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import duckdb
import pytest
import servers
from click.testing import CliRunner
from mlflow import MlflowClient
from runs import RUNNING, log_run
from stores import new_store

from fa_tracking.cli import main
from fa_tracking.errors import UsageError
from fa_tracking.results.database import connect
from fa_tracking.results.export import sources
from fa_tracking.results.export.export import export
from fa_tracking.results.export.parquet import write_parquet
from fa_tracking.results.export.sources import open_source
from fa_tracking.results.export.sources import sql as direct
from fa_tracking.results.export.sources.sql import SqlSource
from fa_tracking.tracking.address import without_password

TABLES = ("runs", "params", "tags", "metrics", "layers", "audits", "knockouts", "functional")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with two experiments, and every number that is hard to carry."""
    uri = new_store(tmp_path_factory.mktemp("store"))
    client = MlflowClient(uri)
    for name in ("one", "it's two"):
        experiment = client.create_experiment(name)
        for seed in range(3):
            add_run(client, experiment, seed)
    return uri


def add_run(client: MlflowClient, experiment: str, seed: int, finish: bool = True) -> str:
    values = enumerate((0.5, math.nan, math.inf, -math.inf, 1e-300))
    logged = {step: {"residual_norm/h0": value, "accuracy/test": seed + step} for step, value in values}
    about = {"name": f"run {seed}", "tags": {"note": "Γ ‖h‖"}, "status": "FINISHED" if finish else RUNNING}
    return log_run(client, client.get_experiment(experiment).name, logged, **about, method="dfa", seed=seed)


@pytest.fixture(scope="module")
def server(uri: str) -> Iterator[str]:
    """A real tracking server on loopback over the same store."""
    with servers.tracking_server(uri) as address:
        yield address


def content(database: Path) -> dict[str, list[tuple]]:
    """Every table as sorted text, so that NaN equals NaN; without the column that names the source."""
    with duckdb.connect(str(database), read_only=True) as connection:
        found = {}
        for table in TABLES:
            columns = "* exclude (source)" if table == "runs" else "*"
            rows = connection.execute(f"select columns({columns})::varchar from {table}").fetchall()
            found[table] = sorted(rows, key=str)
        return found


@pytest.mark.server
def test_direct_and_through_a_server_the_tables_are_identical(uri: str, server: str, tmp_path: Path) -> None:
    said: list[str] = []
    export(tmp_path / "direct.duckdb", uri, say=said.append)
    export(tmp_path / "server.duckdb", server, say=said.append)
    directly, served = content(tmp_path / "direct.duckdb"), content(tmp_path / "server.duckdb")
    assert directly == served
    assert not said
    values = [row[3] for row in directly["metrics"] if row[1] == "residual_norm/h0"]
    assert sorted(set(values)) == ["-inf", "0.5", "1e-300", "inf", "nan"]
    assert len(directly["runs"]) == 6 and len(directly["metrics"]) == 60


@pytest.mark.server
@pytest.mark.parametrize("database", [servers.postgresql, servers.mysql])
def test_other_databases_give_the_tables_that_the_client_gives(
    database: Callable[[], AbstractContextManager[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database() as uri:
        client = MlflowClient(uri)
        experiment = client.create_experiment("it's 100 % :here")
        first, second = (add_run(client, experiment, seed) for seed in (1, 2))
        said: list[str] = []
        assert export(tmp_path / "d.duckdb", uri, "it's 100 % :here", say=said.append).read == 2
        client.log_metric(first, "residual_norm/h0", 7.0, step=0)  # late, and not the last point of its key
        assert export(tmp_path / "d.duckdb", uri, say=said.append).read == 1
        assert export(tmp_path / "d.duckdb", uri, say=said.append).read == 0
        assert not said
        monkeypatch.setattr(sources, "KNOWN_SCHEMAS", frozenset())
        export(tmp_path / "c.duckdb", uri)
    found = content(tmp_path / "d.duckdb")
    assert found == content(tmp_path / "c.duckdb")
    assert {row[3] for row in found["metrics"] if row[0] == second} >= {"-inf", "inf", "nan", "1e-300"}


def test_a_second_export_reads_only_what_is_new_or_changed(tmp_path: Path) -> None:
    uri, database = new_store(tmp_path), tmp_path / "r.duckdb"
    client = MlflowClient(uri)
    experiment = client.create_experiment("grows")
    old, going = add_run(client, experiment, 1), add_run(client, experiment, 2, finish=False)
    assert (export(database, uri).read, export(database, uri).read) == (2, 0)
    client.set_tag(old, "fa.note", "late")
    client.log_metric(going, "accuracy/test", 0.25, step=2)  # out of order: not the last point of its key
    new = add_run(client, experiment, 3)
    done = export(database, uri)
    assert (done.runs, done.read, done.removed) == (3, 2, 0)
    whole = tmp_path / "whole.duckdb"
    export(whole, uri)
    assert content(database) == content(whole)
    client.delete_run(old)
    assert export(database, uri).removed == 1
    assert not [row for row in content(database)["metrics"] if row[0] == old]
    client.restore_run(old)
    assert export(database, uri).read == 1
    assert content(database) == content(whole)
    assert export(database, uri, full=True).read == 3
    assert {row[0] for row in content(database)["runs"]} == {old, going, new}


def test_the_client_too_reads_only_what_is_new_or_changed(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "KNOWN_SCHEMAS", frozenset())
    said: list[str] = []
    first = export(tmp_path / "r.duckdb", uri, say=said.append)
    assert first.read == 6 and export(tmp_path / "r.duckdb", uri).read == 0
    assert len(said) == 1 and "not known here" in said[0] and "slower" in said[0]


def test_one_experiment_is_brought_up_to_date_by_itself(uri: str, tmp_path: Path) -> None:
    database = tmp_path / "r.duckdb"
    assert export(database, uri, "it's two").runs == 3
    assert export(database, uri, "one").read == 3
    assert export(database, uri).read == 0


def test_an_export_that_is_killed_leaves_the_old_database_whole(uri: str, tmp_path: Path) -> None:
    database = tmp_path / "r.duckdb"
    export(database, uri, "one")
    before = content(database)
    program = (
        "import os, sys\nfrom fa_tracking.results.export import carry, export as e\n"
        "carry.files = lambda *_: os.kill(os.getpid(), 9)\n"  # on the way to derive.sql, when metrics have been written
        "e.refuse_other_files = lambda *_: None\n"
        "e.export(sys.argv[1], sys.argv[2])\n"
    )
    command = [sys.executable, "-c", program, str(database), uri]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert content(database) == before


def test_a_run_in_training_never_waits_for_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = new_store(tmp_path)
    client = MlflowClient(uri)
    run = add_run(client, client.create_experiment("busy"), 1, finish=False)
    monkeypatch.setattr(direct, "CHUNK", 2)
    source = open_source(uri, print)
    reading = source.metrics([run, "another", "a third"])
    next(reading)
    client.log_metric(run, "accuracy/test", 9.0, step=9)  # between two chunks the store is free
    assert sum(table.num_rows for table in reading) >= 8


def test_a_copy_as_parquet_answers_as_the_database_does_and_replaces_only_itself(uri: str, tmp_path: Path) -> None:
    database, copy = tmp_path / "r.duckdb", tmp_path / "copy"
    export(database, uri)
    for _ in range(2):
        write_parquet(database, copy)
    with connect(database) as there, connect(copy) as here:
        for table in TABLES:
            rows = [sorted(map(str, c.execute(f"from {table}").fetchall())) for c in (there, here)]
            assert rows[0] == rows[1]
        assert here.execute("select count(distinct experiment) from runs").fetchone() == (2,)
    part = duckdb.sql(f"from read_parquet('{copy}/metrics/experiment=one/data.parquet')").fetchall()
    assert part == sorted(part, key=lambda row: (row[1], row[0], row[2]))
    (copy / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match="other things"):
        write_parquet(database, copy)
    assert (copy / "mine.txt").read_text() == "kept"


def test_a_password_in_the_address_of_a_store_goes_no_further() -> None:
    assert without_password("postgresql://me:s3cret@host:5432/runs") == "postgresql://me@host:5432/runs"
    assert SqlSource("mysql+pymysql://me:s3cret@host/runs").uri == "mysql+pymysql://me@host/runs"
    assert without_password("sqlite:////a:b@c.db") == "sqlite:////a:b@c.db"


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("fa.measured", "{not JSON"),
        ("fa.measured", "[]"),
        ("fa.measured", '{"epoch": "last"}'),
        ("fa.measured", '{"knockout": {"whole": 0.5}}'),
        ("fa.thresholds", '{"g_norm_floor": "low"}'),
        ("fa.audited_at", "yesterday"),
    ],
)
def test_a_run_whose_audit_cannot_be_read_is_named_each_time_and_the_others_are_exported(
    tag: str, value: str, tmp_path: Path
) -> None:
    uri, database, said = new_store(tmp_path), str(tmp_path / "r.duckdb"), []
    client = MlflowClient(uri)
    experiment = client.create_experiment("mixed")
    good, bad = (add_run(client, experiment, seed) for seed in (1, 2))
    knockout = {"samples": 8, "whole": 0.5, "without_all": "NaN", "without": [0.25, 0.5]}
    audit = {"fa.measured": json.dumps({"epoch": 4, "stability": "NaN", "fired": {"a": True}, "knockout": knockout})}
    audit |= {"fa.verdict": "needs walk-back: (a)", "fa.audited_at": "2026-01-01T00:00:00+00:00"}
    for run in (good, bad):
        for key, told in audit.items():
            client.set_tag(run, key, told)
    client.set_tag(bad, tag, value)
    for _ in range(2):  # the second time the run has not changed
        assert export(database, uri, say=said.append).unreadable == 1
    assert len(said) == 2 and all(line.startswith(f"{bad} (run 2) stands as not audited: ") for line in said)
    with connect(database) as connection:
        told = connection.execute("select run_id, epoch, isnan(stability), fires_a, fires_b from audits").fetchall()
        assert told == [(good, 4, True, True, None)]
        assert connection.execute("select run_id, count(*) from knockouts group by all").fetchall() == [(good, 4)]
        assert connection.execute("select count(distinct run_id), count(*) from metrics").fetchone() == (2, 20)
    done = CliRunner().invoke(main, ["export", "--tracking-uri", uri, "--db", database])
    assert (done.exit_code, bad in done.stderr) == (1, True)
    client.set_tag(bad, tag, audit.get(tag, "{}"))
    assert export(database, uri).unreadable == 0


AT_ONCE = """
import sys
from multiprocessing import get_context
from mlflow import MlflowClient
from fa_tracking.tracking import store

def first(uri, barrier):
    barrier.wait()
    client = store.client(uri)
    run = client.create_run(store.experiment_id(client, "one")).info.run_id
    client.log_metric(run, "accuracy/test", 0.5, step=1)

fork = get_context("fork")  # MLflow is imported once
barrier = fork.Barrier(3)
processes = [fork.Process(target=first, args=(sys.argv[1], barrier)) for _ in range(3)]
for process in processes: process.start()
for process in processes: process.join()
sys.exit(any(process.exitcode for process in processes))
"""


@pytest.mark.faults
def test_processes_that_begin_at_once_make_one_new_store_between_them(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    command = [sys.executable, "-c", AT_ONCE, uri]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert export(tmp_path / "r.duckdb", uri, "one").metrics == 3


@pytest.mark.faults
def test_ten_thousand_audited_runs_fit_into_the_memory_that_an_export_takes(tmp_path: Path) -> None:
    uri = new_store(tmp_path)
    client = MlflowClient(uri)
    first = add_run(client, client.create_experiment("many"), 0)
    numbers = ("headline_accuracy", "control_accuracy", "margin_pp", "max_block_growth", "deepest_residual_norm")
    numbers += ("deepest_grad_norm", "grad_gain", "stability")
    limits = ("h_norm_explosion_ratio", "g_norm_floor", "stability_drift_ceiling", "frozen_acc_margin_pp")
    knockout = {"samples": 9, "whole": 0.5, "without_all": 0.25, "without": [0.125] * 20}
    fired = dict.fromkeys("nabcd", False)
    measured = {"epoch": 4, "fired": fired, "knockout": knockout, **dict.fromkeys(numbers, 0.123456789012345)}
    thresholds = dict.fromkeys(limits, 1e-7)
    tags = {"fa.verdict": "trustworthy", "fa.measured": json.dumps(measured), "fa.thresholds": json.dumps(thresholds)}
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        columns = [row[1] for row in store.execute("pragma table_info(runs)") if row[1] != "run_uuid"]
        names = ", ".join(columns)
        store.execute(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 9999) "
            f"insert into runs (run_uuid, {names}) select printf('%032d', i), {names} from n, runs where run_uuid = ?",
            (first,),
        )
        for key, value in tags.items():
            store.execute("insert into tags (key, value, run_uuid) select ?, ?, run_uuid from runs", (key, value))
    export(tmp_path / "r.duckdb", uri)
    with connect(tmp_path / "r.duckdb") as connection:
        asked = "select count(*), count(epoch), bool_or(fires_a), min(g_norm_floor), max(stability) from audits"
        assert connection.sql(asked).fetchall() == [(10_000, 10_000, False, 1e-7, 0.123456789012345)]
        assert connection.sql("select count(*), sum(accuracy) from knockouts").fetchall() == [(220_000, 32_500)]
