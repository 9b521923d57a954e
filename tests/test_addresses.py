"""Stores where people have them: in folders of any name, old, damaged, carried elsewhere; who reads changes nothing."""

import contextlib
import hashlib
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import tiny
from mlflow import MlflowClient
from stores import new_store

import fa_tracking
from fa_tracking.cli import _check_store, main
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.results.export.export import export
from fa_tracking.results.export.sources.sql import KNOWN_SCHEMAS
from fa_tracking.results.files import together
from fa_tracking.scratch import scratch
from fa_tracking.tracking import _mlflow_compat, address, schema
from fa_tracking.tracking import store as stores
from fa_tracking.trainers.tracked import train

ODD = ["my project", "Küche", "50%25 done", "what?", "a#b", "c++ & 'x'"]


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ODD)
def test_every_command_works_in_a_folder_of_any_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / name
    here.mkdir()
    new_store(here)
    monkeypatch.chdir(here)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)  # as an earlier test has left it
    run = CliRunner().invoke
    train(tiny("bp"), "e", None)
    for command in (
        ["audit", "--experiment", "e", "--no-pictures"],
        ["gate", "--experiment", "e", "--require", "trustworthy", "--require", "walk-back"],
        ["replay", "--experiment", "e"],
        ["export"],
        ["query", "runs", "--experiment", "e"],
        ["report", "--experiment", "e", "-o", "report.md"],
        ["chart", "trajectories", "--experiment", "e", "-o", "chart.svg"],
        ["doctor"],
    ):
        done = run(main, command)
        assert done.exit_code == 0, (command, done.stdout, done.stderr)
    assert sorted(p.name for p in here.iterdir()) == sorted(
        ["mlflow.db", "mlruns", "fa_results.duckdb", "report.md", "chart.svg"]
    )
    # MLflow makes an empty folder of the percent-encoded name beside it
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and here not in p.parents]
    again = MlflowClient().tracking_uri  # as MLflow spells it, percent-encoded
    assert address.place(again) == here / "mlflow.db" and address.place(address.absolute(again)) == here / "mlflow.db"


@pytest.mark.parametrize(
    ("uri", "is_shared", "place"),
    [
        ("sqlite:///a.db", False, "a.db"),
        ("sqlite:////x/my%20project/a.db", False, "/x/my project/a.db"),
        ("sqlite:////x/my project/a.db", False, "/x/my project/a.db"),
        ("sqlite:///a.db?timeout=5", False, "a.db"),
        ("file:///x/a%20b/mlruns", False, "/x/a b/mlruns"),
        ("/x/a#b?/mlruns", False, "/x/a#b?/mlruns"),
        ("mlruns", False, "mlruns"),
        ("./a:b", False, "a:b"),
        ("http://u:p@h:5000/x", True, None),
        ("postgresql+psycopg2://u:p%40@h/d", True, None),
        ("mysql+pymysql://h/d", True, None),
        ("databricks", True, None),
        ("databricks-uc", True, None),
        ("databricks://profile", True, None),
        ("uc:https://h", True, None),
    ],
)
def test_an_address_says_where_a_store_is_and_whether_others_write_to_it(
    uri: str, is_shared: bool, place: str | None
) -> None:
    assert address.is_shared(uri) == is_shared
    assert address.place(uri) == (None if place is None else Path(place))


def test_a_password_is_shown_to_nobody() -> None:
    assert address.without_password("postgresql://u:se%40cret@h/d") == "postgresql://u@h/d"
    assert address.without_login("https://u:secret@h:1/x") == "https://h:1/x"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://h/d?user=u&password=secret", "postgresql://h/d?user=u"),
        ("postgresql://h/d?sslpassword=secret", "postgresql://h/d"),
        ("postgresql://h/d?pass%77ord=secret&user=u", "postgresql://h/d?user=u"),
        ("mysql://h/d?PASSWD=secret&charset=utf8", "mysql://h/d?charset=utf8"),
        ("http://h:5000/x?access_token=secret#f", "http://h:5000/x#f"),
        ("http://u:secret@h:5000", "http://u@h:5000"),
        ("mssql+pyodbc:///?odbc_connect=UID%3Du%3BPWD%3Dsecret", "mssql+pyodbc:///"),
        ("postgresql://u:sec/ret@h/d", "postgresql://u@h/d"),
        ("postgresql://u:sec?ret#@h/d", "postgresql://u@h/d"),
        ("postgresql://u:sec@ret@h/d", "postgresql://u@h/d"),
        ("sqlite:///a.db?timeout=5", "sqlite:///a.db?timeout=5"),
        ("./what?password=x", "./what?password=x"),
    ],
)
def test_a_secret_anywhere_in_an_address_is_shown_to_nobody(uri: str, shown: str) -> None:
    assert address.without_password(uri) == shown


def test_a_file_in_sqlites_own_words_is_refused_and_the_right_ones_are_said(tmp_path: Path) -> None:
    uri = f"sqlite:///file:{tmp_path}/mlflow.db?uri=true&mode=ro"
    done = CliRunner().invoke(main, ["gate", "--experiment", "e", "--tracking-uri", uri])
    assert done.exit_code == 2 and f"write it as a path alone, sqlite:///{tmp_path}/mlflow.db" in done.stderr


def fingerprints(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


READS = [
    ["gate", "--experiment", "e"],
    ["replay", "--experiment", "e"],
    ["study", "status", "demo"],
    ["audit", "--experiment", "e", "--diff"],
    ["doctor"],
    ["export"],
]


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store that an earlier MLflow has left: one migration back."""
    monkeypatch.chdir(tmp_path)
    uri = new_store(tmp_path)
    train(tiny("bp"), "e", uri)
    before = next(
        down
        for text in _mlflow_compat.migrations()
        if (found := dict(re.findall(r"^(revision|down_revision) = ['\"](\w+)", text, re.MULTILINE)))
        and found["revision"] == schema.version(uri)
        and (down := found.get("down_revision"))
    )
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("update alembic_version set version_num = ?", [before])
    return uri


@pytest.mark.parametrize("command", READS, ids=lambda c: " ".join(c[:2]))
def test_who_reads_an_older_store_leaves_it_as_it_is_and_says_what_an_upgrade_does(
    older: str, tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", older)
    monkeypatch.setenv("FA_TRACK_DB", str(tmp_path / "r.duckdb"))
    before = fingerprints(tmp_path)
    done = CliRunner().invoke(main, command)
    after = fingerprints(tmp_path)
    assert before == {name: digest for name, digest in after.items() if name != "r.duckdb"}
    if command == ["export"]:
        assert done.exit_code == 0 and "1 runs" in done.stdout
    else:
        assert "mlflow db upgrade" in " ".join((done.stderr + done.stdout).split())
        assert done.exit_code == 1
    if command[0] not in ("export", "doctor"):
        assert len(done.stderr.splitlines()) == 1 and "older than that of MLflow" in done.stderr


FOREIGN = {
    "no version": "create table photos (name)",
    "an empty version": "create table photos (name); create table alembic_version (version_num)",
    "another's version": "create table studies (name); create table alembic_version (version_num); "
    "insert into alembic_version values ('v3.2.0.a')",
    "a version alone": f"create table alembic_version (version_num); insert into alembic_version values "
    f"('{next(iter(KNOWN_SCHEMAS))}')",
    "another's version table": "create table alembic_version (x)",
    "some names of MLflow's": "create table runs (x); create table experiments (x)",
    "nothing": "create table x (a); drop table x",
}


@pytest.mark.parametrize("kind", [*FOREIGN, "no database"])
def test_a_database_of_others_is_refused_in_one_line_and_left_as_it_is(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "theirs.db"
    if kind == "no database":
        file.write_text("somebody's words " * 100)
    else:
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.executescript(FOREIGN[kind])
    before, uri = fingerprints(tmp_path), f"sqlite:///{file}"
    for command in [c for c in READS if c[0] not in ("study", "doctor")]:
        done = CliRunner().invoke(main, [*command, "--tracking-uri", uri])
        assert done.exit_code == 1 and len(done.stderr.splitlines()) == 1, (command, done.stderr)
        assert "holds no tables of MLflow's" in done.stderr
    looked_at = _check_store.store(uri).check
    assert looked_at.state == _check_store.PROBLEM and "holds no tables of MLflow's" in looked_at.found
    assert "mlflow" not in looked_at.command
    if kind != "nothing":
        with pytest.raises(FATrackError, match="holds no tables of MLflow's"):
            stores.client(uri)  # of one that writes
    assert fingerprints(tmp_path) == before


@pytest.mark.parametrize("begun", ["", "an empty file", "no table"])
def test_who_writes_makes_a_store_where_nothing_is_yet(begun: str, tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    if begun == "an empty file":
        file.touch()
    elif begun:
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.executescript(FOREIGN["nothing"])
    stores.client(f"sqlite:///{file}").create_experiment("e")
    assert schema.version(f"sqlite:///{file}")


@pytest.mark.parametrize("command", [c for c in READS if c[0] not in ("doctor", "study")], ids=lambda c: c[0])
def test_who_reads_makes_no_store(tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    done = CliRunner().invoke(main, command)
    assert done.exit_code in (1, 2) and "there is no store" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_study_of_which_nothing_is_trained_is_all_missing_and_makes_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    done = CliRunner().invoke(main, ["study", "status", "demo"])
    assert done.exit_code == 0 and "missing" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of files with two runs."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    for method in ("bp", "dfa"):
        train(tiny(method), "e", f"file://{tmp_path}/mlruns")
    return tmp_path / "mlruns"


@pytest.mark.parametrize("damage", ["empty", "missing", "garbled", "a list", "an experiment without one"])
def test_a_damaged_file_of_a_store_is_named_in_one_line(files: Path, damage: str, tmp_path: Path) -> None:
    meta = next(files.glob("*/*/meta.yaml"))
    if damage == "an experiment without one":
        meta = files / "999" / "meta.yaml"
        meta.parent.mkdir()
    elif damage == "missing":
        meta.unlink()
    else:
        meta.write_text({"empty": "", "garbled": "a: [1, {", "a list": "- a\n- b\n"}[damage])
    for command in (["audit", "--experiment", "e"], ["gate", "--experiment", "e"], ["replay", "--experiment", "e"]):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 1 and "Traceback" not in done.stderr
        assert f"the MLflow store is damaged: {meta}" in done.stderr and len(done.stderr.splitlines()) == 1
    with pytest.raises(FATrackError, match="is damaged"):
        export(tmp_path / "r.duckdb")
    said = " ".join(CliRunner().invoke(main, ["doctor"]).stdout.split())
    assert "damaged" in said and meta.name in said


def test_doctor_says_how_a_store_of_files_is_opened_and_carried_over(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    said = " ".join(CliRunner().invoke(main, ["doctor"]).stdout.split())
    assert "mlflow migrate-filestore" in said and "MLFLOW_ALLOW_FILE_STORE=true" in said
    assert "MLFLOW_TRACKING_USERNAME" not in said


def test_a_store_that_was_carried_elsewhere_keeps_its_verdicts_and_is_diagnosed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    monkeypatch.chdir(there)
    run_id = train(tiny("bp"), "e", new_store(there))
    fa_tracking.audit("e", f"sqlite:///{there}/mlflow.db", pictures=False)
    monkeypatch.chdir(tmp_path)
    there.rename(here)
    uri = f"sqlite:///{here}/mlflow.db"
    before = MlflowClient(uri).get_run(run_id).data.tags
    (found,) = fa_tracking.audit("e", uri, pictures=False).runs
    assert found.problem and f"its artifacts are at {there / 'mlruns'}, which is not here" in found.problem
    assert MlflowClient(uri).get_run(run_id).data.tags == before and not there.exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(here)
    said = " ".join(CliRunner().invoke(main, ["doctor"]).stdout.split())
    assert "1 run: the artifacts are at" in said and "which is not here" in said
    there.symlink_to(here)
    assert fa_tracking.audit("e", uri, pictures=False).runs[0].problem is None


def test_a_store_without_artifacts_is_not_taken_for_one_that_was_carried_away(tmp_path: Path) -> None:
    assert address.lost(f"{tmp_path}/mlruns/0/{'a' * 32}/artifacts") is None
    assert address.lost("s3://bucket/0/run/artifacts") is None
    assert address.lost("/not/here/mlruns/0/run/artifacts") == Path("/not/here/mlruns")


def test_files_that_are_being_written_are_not_deleted_by_another_command(tmp_path: Path) -> None:
    with together(tmp_path) as folder:
        (folder / "page.html").write_text("whole")
        with scratch(tmp_path):  # of another command, which clears away what killed ones have left
            pass
        assert (folder / "page.html").exists()
    assert (tmp_path / "page.html").read_text() == "whole"
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


TOGETHER = """
import os
import torch
import fa_tracking
from fa_tracking.protocol.batches import evaluation_batches

torch.manual_seed(0)
x, y = torch.randn(200, 6), torch.randint(0, 3, (200,))
model = torch.nn.Sequential(torch.nn.Linear(6, 8), *[torch.nn.Linear(8, 8) for _ in range(3)], torch.nn.Linear(8, 3))
batches = [(x[i : i + 50], y[i : i + 50]) for i in range(0, 200, 50)]
with fa_tracking.start_run(experiment="e", method="bp", seed=1, architecture="mlp") as run:
    report = run.log_epoch(1, model, batches, accuracy=0.3, layers=["1", "2", "3"])
    run.log_checkpoint(model)
    run.flush()
    print("rank", os.environ["RANK"], bool(run.run_id), report.verdict, flush=True)
"""


@pytest.mark.cluster
def test_under_torchrun_rank_zero_alone_writes_one_run_and_all_ranks_have_the_report(tmp_path: Path) -> None:
    uri = new_store(tmp_path)
    (tmp_path / "train.py").write_text(TOGETHER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train.py"]
    env = {**os.environ, "MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = sorted(line.split(" ", 3) for line in done.stdout.splitlines() if line.startswith("rank"))
    assert [(rank, named) for _, rank, named, _ in lines] == [("0", "True"), ("1", "False")]
    assert lines[0][3] == lines[1][3]
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("e").experiment_id])
    assert run.info.status == "FINISHED" and run.data.metrics["accuracy/test"] == 0.3
    assert [a.path for a in client.list_artifacts(run.info.run_id, "checkpoints")] == ["checkpoints/epoch_0001"]


def test_a_name_that_stands_for_no_store_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no store"):
        fa_tracking.audit("e", f"sqlite:///{tmp_path}/none.db")
    assert not list(tmp_path.iterdir())


def test_an_older_store_is_exported_where_it_has_all_that_is_read_and_else_refused(older: str, tmp_path: Path) -> None:
    before = fingerprints(tmp_path)
    assert export(tmp_path / "r.duckdb", older).runs == 1
    (tmp_path / "r.duckdb").unlink()
    assert fingerprints(tmp_path) == before
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("drop table logged_models")
    before = fingerprints(tmp_path)
    with pytest.raises(FATrackError, match="mlflow db upgrade"):
        export(tmp_path / "r.duckdb", older)
    assert fingerprints(tmp_path) == before
