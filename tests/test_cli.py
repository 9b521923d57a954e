"""The command line as a user's shell runs it: what it prints, where, and with which exit code."""

import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from conftest import Cli
from mlflow import MlflowClient
from shell import FA_TRACK, fa_track
from stores import new_store

from fa_tracking.cli import main

TINY = ["--width", "16", "--depth", "2", "--dataset", "digits", "--epochs", "1", "--lr", "0.01"]


@pytest.fixture(scope="module")
def trained(workspace: Path) -> Path:
    """A workspace in which two runs were trained by hand, one by each door, audited and exported."""
    into = ["--experiment", "hand", *TINY]
    by_module = [sys.executable, "-m", "fa_tracking.trainers", "dfa", *into]
    dfa = subprocess.run(by_module, cwd=workspace, capture_output=True, text=True, check=True)
    for done in (dfa, fa_track("train", "bp", *into)):
        assert len(done.stdout.strip()) == 32, done.stderr
    for words in (["audit", "--experiment", "hand", "--no-pictures"], ["export"]):
        assert fa_track(*words).returncode == 0
    return workspace


def one_line_error(done: subprocess.CompletedProcess[str], code: int, says: str) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "Usage" not in done.stderr
    assert says in done.stderr.splitlines()[-1]


def test_train_audit_export_and_query_follow_each_other(trained: Path, cli: Cli) -> None:
    audited = cli("audit", "--experiment", "hand")
    assert audited.returncode == 0, audited.stderr
    assert "bp resmlp 2×16, seed 42" in audited.stdout
    assert max(map(len, audited.stdout.splitlines())) <= 100
    reports = json.loads(cli("audit", "--experiment", "hand", "--format", "json").stdout)
    assert {r["params"]["method"] for r in reports} == {"bp", "dfa"}

    assert cli("export").stdout.startswith("fa_results.duckdb: 2 runs, ")
    listed = cli("query").stdout
    assert all(name in listed for name in ("audit_table", "cross_seed", "first_flag"))
    for name in ("audit_table", "cross_seed", "first_flag"):
        table = cli("query", name, "--experiment", "hand")
        assert table.returncode == 0, table.stderr
        assert max(map(len, table.stdout.splitlines())) <= 100
        as_json = json.loads(cli("query", name, "--experiment", "hand", "--format", "json").stdout)
        assert len(as_json) == 2
        csv = cli("query", name, "--experiment", "hand", "--format", "csv").stdout.splitlines()
        assert (csv[0].split(","), len(csv)) == (list(as_json[0]), 3)
        assert cli("query", name, "--experiment", "hand", "--format", "md").stdout.count("\n") == 4
    pasted = cli("query", "audit_table", "--experiment", "hand", "--explain").stdout
    with duckdb.connect(str(trained / "fa_results.duckdb"), read_only=True) as plain:
        verdicts = [row[plain.sql(pasted).columns.index("verdict")] for row in plain.sql(pasted).fetchall()]
    answered = json.loads(cli("query", "audit_table", "--experiment-glob", "h*", "--format", "json").stdout)
    assert verdicts == [row["verdict"] for row in answered]
    assert cli("sql", "select count(*) as n from runs", "--format", "csv").stdout == "n\n2\n"


@pytest.mark.matrix
def test_the_dashboard_is_written_with_its_pictures(trained: Path, cli: Cli) -> None:
    assert cli("export").returncode == 0
    page = cli("dashboard", "--experiment", "hand", "-o", "hand.html", "--png")
    written = page.stdout.split()
    assert written[0] == "hand.html"
    assert {"hand-audit_panels.png", "hand-trajectories.png"} <= set(written)
    assert (trained / "hand-audit_panels.png").read_bytes().startswith(b"\x89PNG")


def test_thresholds_of_the_command_line_reach_the_verdict(trained: Path, cli: Cli) -> None:
    given = ["--explosion-ratio", "0.5", "--grad-floor", "1e9", "--drift-ceiling", "-1", "--margin-pp", "99"]
    reports = json.loads(cli("audit", "--experiment", "hand", "--format", "json", *given).stdout)
    assert all(r["report"]["flags"] == ["a", "b", "c"] for r in reports)
    expected = {"h_norm_explosion_ratio": 0.5, "g_norm_floor": 1e9}
    expected |= {"stability_drift_ceiling": -1.0, "frozen_acc_margin_pp": 99.0}
    assert reports[0]["report"]["thresholds"] == expected


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["audit", "--experiment", "nope"], 2, "no experiment named 'nope'"),
        (["--nope"], 2, "No such option"),
        (["nope"], 2, "No such command"),
        (["train", "bp", "--width", "0"], 2, "not in the range x>=1. See"),
        (["query", "nope"], 2, "no query named 'nope'; there are: aggregation_spread"),
        (["query", "audit_table", "--explain"], 2, "needs --experiment"),
        (["query", "audit_table", "--experiment", "nope"], 2, "holds no experiment 'nope'"),
        (["query", "audit_table", "--experiment", "x", "--db", "no.duckdb"], 2, "there is no database no.duckdb"),
        (["query", "runs", "--experiment", "hand", "--db", "mlflow.db"], 2, "mlflow.db is a SQLite file, such as"),
        (["sql", "select 1", "--db", "/proc/self/mem"], 1, "/proc/self/mem cannot be opened: [Errno 5]"),
        (["sql", "delete from runs"], 2, "read-only"),
        (["sql", "copy runs to 'stolen.csv'"], 2, "copy: the database is read-only"),
        (["sql", "select * from read_csv('mlflow.db')"], 2, "disabled by configuration"),
        (["sql", "set enable_external_access = true"], 2, "locked"),
        (["sql", "attach 'stolen.db'"], 2, "disabled by configuration"),
        (["sql", "select * from 'https://127.0.0.1:9/x.csv'"], 2, "disabled by configuration"),
        (["sql", "load httpfs"], 2, "disabled through configuration"),
        (["sql", "install httpfs"], 2, "disabled by configuration"),
        (["sql", "selec"], 2, "syntax error"),
        (["train", "nope"], 2, "no method named 'nope'; there are: bp"),
        (["train", "bp", "--architecture", "nope"], 2, "no model named 'nope'"),
        (["train", "bp", "--optimizer", "nope"], 2, "no optimizer named 'nope'"),
        (["train", "bp", "--lr", "nan"], 2, "lr"),
        (["train", "bp", "--penalty", "-1"], 2, "penalty"),
        (["train", "bp", "--dataset", "cifar10"], 2, "needs --data-dir"),
        (["train", "bp", "--dataset", "cifar10", "--data-dir", "nowhere"], 2, "nowhere does not exist"),
        (["audit", "--experiment", "hand", "--margin-pp", "nan"], 2, "--margin-pp"),
        (["sql", "select 'x'::int"], 2, "Conversion"),
        (["sql", "select cast(method as integer) from runs"], 2, "Conversion"),
        (["sql", "select 1; select 2"], 2, "one statement"),
        (["export", "--db", "mlflow.db"], 2, "is no results database"),
        (["export", "--db", ":memory:"], 2, "no file name"),
        (["export", "--tracking-uri", "sqlite:///nowhere.db"], 2, "there is no store nowhere.db"),
        (["export", "--tracking-uri", "sqlite:///fa_results.duckdb"], 1, "holds no tables of MLflow's"),
        (["export", "--tracking-uri", "mssql://x/y"], 1, "needs the Python package pyodbc"),
        (["export", "--tracking-uri", "postgresql://fa@127.0.0.1:1/x"], 1, "the MLflow store failed"),
        (["export", "--tracking-uri", "http://127.0.0.1:1"], 1, "does not answer: Connection refused"),
        (["export", "--parquet", "mlruns"], 2, "holds other things"),
        (["compare", "--a", "method=bp", "--b", "method=bp"], 2, "the same runs"),
        (["compare", "--a", "bogus=1", "--b", "method=bp"], 2, "no run has a param named bogus"),
        (["compare", "--a", "method=dfa", "--b", "method=bp", "--threshold", "nan"], 2, "threshold of nan"),
        (["dashboard", "--experiment", "hand", "-o", "fa_results.duckdb"], 2, "the page is HTML"),
        (["train", "bp", "--seed", "18446744073709551616"], 2, "seed"),
        (["train", "bp", "--width", "3000000000"], 2, "cannot be built"),
        (["train", "bp", "--depth", "1000000000000"], 2, "less than or equal to 100000"),
        (["study", "run", "nope", "--stack", "some"], 2, "neither auto nor off nor a number"),
        (["study", "run", "nope", "--stack", "1"], 2, "neither auto nor off nor a number of runs, two or more"),
        (["train", "bp", "--experiment", ""], 2, "needs a name"),
        (["export", "--experiment", "nope"], 2, "no experiment named 'nope'"),
        (["export", "--db", "nowhere/x.duckdb"], 2, "the folder nowhere does not exist"),
        (["export", "--parquet", "nowhere/x"], 2, "nowhere does not exist"),
        (["chart", "seeds", "--experiment", "hand", "-o", "nowhere/x.pdf"], 2, "the folder nowhere does not exist"),
        (["gate", "--experiment", "hand", "--junit", "nowhere/x.xml"], 2, "the folder nowhere does not exist"),
        (["cite", "cross_seed[method=dfa].acc", "--experiment", "hand"], 2, "no column 'acc' (did you mean 'accu"),
        (["dashboard", "--experiment", "nope"], 2, "holds no experiment 'nope'"),
        (["dashboard", "--experiment", "hand", "-o", "nowhere/x.html"], 2, "the folder nowhere does not exist"),
        (["dashboard", "--experiment", "hand", "--log", "--tracking-uri", "http://127.0.0.1:9"], 1, "does not answer"),
        (["study", "run", "nope"], 2, "no study named 'nope'"),
        (["audit", "--experiment", "hand", "--tracking-uri", "http://127.0.0.1:9"], 1, "does not answer: Connection"),
        (["train", "bp", "--tracking-uri", "http://127.0.0.1:9"], 1, "does not answer: Connection refused"),
    ],
)
def test_bad_input_gets_one_line_and_its_exit_code(trained: Path, args: list[str], code: int, says: str) -> None:
    """In this process, in which MLflow is imported once, not once a case."""
    before = {p.name for p in trained.iterdir()}
    runs = len(MlflowClient(f"sqlite:///{trained / 'mlflow.db'}").search_runs(["1"]))
    env = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "FA_TRACK_DATA": None}
    done = CliRunner().invoke(main, args, env=env, prog_name="fa-track")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    one_line_error(subprocess.CompletedProcess(args, done.exit_code, done.stdout, done.stderr), code, says)
    assert {p.name for p in trained.iterdir()} == before
    assert len(MlflowClient(f"sqlite:///{trained / 'mlflow.db'}").search_runs(["1"])) == runs


def test_a_run_without_a_checkpoint_and_a_corrupt_one_do_not_stop_the_audit(trained: Path, cli: Cli) -> None:
    client = MlflowClient(f"sqlite:///{trained / 'mlflow.db'}")
    experiment = client.create_experiment("mixed")
    bare = client.create_run(experiment)
    client.set_terminated(bare.info.run_id)
    client.create_run(experiment)
    cli("train", "bp", "--experiment", "mixed", *TINY)
    corrupt = cli("train", "dfa", "--experiment", "mixed", *TINY).stdout.strip()
    weights = next((trained / "mlruns").rglob(f"{corrupt}/artifacts/checkpoints/epoch_0001/model.safetensors"))
    weights.write_bytes(b"\0" * 64)
    done = cli("audit", "--experiment", "mixed")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"{bare.info.run_id}" in done.stderr and "no checkpoint" in done.stderr
    assert f"{corrupt} (dfa resmlp 2×16, seed 42): checkpoint epoch_0001: model.safetensors" in done.stderr
    assert "not audited, because they have not finished: 1 RUNNING" in done.stderr
    assert "bp resmlp 2×16, seed 42" in done.stdout


@pytest.mark.matrix
def test_a_page_that_cannot_be_logged_is_not_written(trained: Path, tmp_path: Path) -> None:
    uri = new_store(tmp_path)
    client = MlflowClient(uri)
    (tmp_path / "file").touch()
    run = client.create_run(client.create_experiment("walled", artifact_location=str(tmp_path / "file" / "in")))
    client.set_terminated(run.info.run_id)
    there = ["--db", str(tmp_path / "r.duckdb"), "--tracking-uri", uri]
    assert CliRunner().invoke(main, ["export", *there]).exit_code == 0
    before = {p.name for p in tmp_path.iterdir()}
    page = ["dashboard", "--experiment", "walled", "-o", str(tmp_path / "page.html"), *there]
    done = CliRunner().invoke(main, [*page, "--log"])
    one_line_error(subprocess.CompletedProcess(page, done.exit_code, done.stdout, done.stderr), 1, "Not a directory")
    assert done.stdout == "" and {p.name for p in tmp_path.iterdir()} == before
    assert CliRunner().invoke(main, page).exit_code == 0
    assert {p.name for p in tmp_path.iterdir()} == {*before, "page.html"}


def study_file(folder: Path, name: str, **changes: str) -> str:
    lines = {
        "title": "t",
        "experiment": name,
        "seeds": "[1, 2]",
        "fixed": "{dataset: digits, width: 16, depth: 2, epochs: 1}",
        "grids": "[{parameters: {method: {values: [bp]}, architecture: {values: [resmlp, small_cnn]}}}]",
    }
    (folder / f"{name}.yaml").write_text("".join(f"{k}: {v}\n" for k, v in {**lines, **changes}.items()))
    return f"{name}.yaml"


def test_a_study_trains_what_is_missing_and_nothing_twice(trained: Path, cli: Cli) -> None:
    mine = study_file(trained, "mine")
    before = cli("study", "list", mine).stdout.splitlines()
    assert [line.split()[0] for line in before] == ["missing"] * 4
    done = cli("study", "run", mine, "--jobs", "2")
    assert done.returncode == 1
    assert len(re.findall("bp small_cnn.*: failed: UsageError: small_cnn .* cannot be built", done.stderr)) == 2
    assert "next: fa-track audit --experiment mine" in done.stderr
    assert cli("study", "status", mine).stdout == "2 done, 2 failed\n"
    cells = json.loads(cli("study", "list", mine, "--format", "json").stdout)
    first = {c["run_id"] for c in cells if c["state"] == "done"}
    cli("study", "run", mine)
    cells = json.loads(cli("study", "list", mine, "--format", "json").stdout)
    assert {c["run_id"] for c in cells if c["state"] == "done"} == first
    listed = cli("study", "list", study_file(trained, "other")).stdout
    assert listed.count("(in mine)") == 2 and listed.count("done ") == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"grids": "[{parameters: {method: {values: [nope]}}}]"}, "no method named 'nope'"),
        ({"grids": "[]"}, "has no run"),
        ({"grids": "[{parameters: {width: {values: [8]}}}]"}, "names no method"),
        ({"fixed": "{dataset: cifar10, epochs: 1}"}, "needs --data-dir"),
        ({"seeds": "x"}, "seeds: Input should be a valid list"),
    ],
)
def test_a_study_that_cannot_run_is_refused_before_it_starts(
    changes: dict[str, str], says: str, trained: Path, cli: Cli
) -> None:
    done = cli("study", "run", study_file(trained, "refused", **changes))
    assert done.returncode == 2
    assert says in done.stderr and "Traceback" not in done.stderr and "pydantic" not in done.stderr


@pytest.mark.faults
def test_two_studies_at_once_share_the_work_and_a_killed_one_leaves_no_process(trained: Path, cli: Cli) -> None:
    grids = "[{parameters: {method: {values: [bp]}, width: {values: [8, 9]}}}]"
    shared = study_file(trained, "shared", grids=grids, fixed="{dataset: digits, depth: 2, epochs: 3}")
    study, pipes = ["study", "run"], {"stderr": subprocess.PIPE, "text": True, "cwd": trained}
    both = [subprocess.Popen([*FA_TRACK, *study, shared], **pipes) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert cli("study", "status", shared).stdout == "4 done\n"
    finished = sum(text.count(": done") for text in said)
    assert finished == 4, said
    endless = study_file(trained, "endless", grids=grids, fixed="{dataset: digits, depth: 2, epochs: 100000}")
    command = [*FA_TRACK, *study, endless, "--jobs", "2"]
    process = subprocess.Popen(command, cwd=trained, stderr=subprocess.DEVNULL)
    wait_for(lambda: running(trained, "endless") == 2)
    assert cli("study", "status", endless).stdout == "2 running, 2 missing\n"
    started = children(process.pid)
    started += [worker for server in started for worker in children(server)]
    assert len(started) >= 4  # what forks workers, what counts their resources, two workers
    process.kill()
    process.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
    assert cli("study", "status", endless).stdout == "2 killed, 2 missing\n"


def children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in threads for child in file.read_text().split()]


def running(folder: Path, experiment: str) -> int:
    """Runs, from the store's file itself: a command takes a second to ask."""
    asked = "select count(*) from runs join experiments e using (experiment_id) where status = 'RUNNING' and e.name = ?"
    with closing(sqlite3.connect(folder / "mlflow.db", timeout=60)) as opened:
        return int(opened.execute(asked, (experiment,)).fetchone()[0])


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_help_imports_neither_torch_nor_mlflow(workspace: Path) -> None:
    program = (
        "import sys\nfrom fa_tracking.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'mlflow', 'pandas', 'duckdb', 'altair', 'pydantic'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "audit" in done.stdout
    for package in ("fa_tracking", "fa_tracking.plugin.context"):
        check = f"import sys, {package}; assert not {{'torch', 'mlflow'}} & sys.modules.keys()"
        subprocess.run([sys.executable, "-c", check], check=True)
