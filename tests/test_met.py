"""What people meet: a training that Ctrl-C stops, a name that is misspelt, a control that is missing."""

import os
import re
import signal
import subprocess
import time
import warnings
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from shell import FA_TRACK

from fa_tracking import start_run
from fa_tracking.cli import main
from fa_tracking.publishing.tables import text_table

TINY = ["--width", "16", "--depth", "2", "--dataset", "digits", "--experiment", "met"]


def environment() -> dict[str, str]:
    """As a user's shell has it: without the store that MLflow has put there for the tests of this process."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}


def test_a_training_says_its_run_at_the_start_and_after_ctrl_c_how_to_go_on(tmp_path: Path) -> None:
    env = environment()
    command = [*FA_TRACK, "train", "bp", *TINY, "--epochs", "100000", "--state-seconds", "0", "--abort-on", "n"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as running:
        assert running.stdout and running.stderr
        run_id = running.stdout.readline().strip()  # before the first epoch ends
        client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
        until = time.monotonic() + 120
        while client.get_run(run_id).data.metrics.get("loss/train") is None:
            assert time.monotonic() < until and running.poll() is None
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        said = running.stderr.read()
    assert running.returncode == 130, said
    assert "Traceback" not in said
    stopped = re.search(r"stopped after epoch (\d+) of 100000\nnext: (fa-track resume .*?)   #", said)
    assert stopped, said
    assert f"resume {run_id} --abort-on n --state-seconds 0" in stopped[2]
    assert client.get_run(run_id).info.status == "KILLED"


def test_a_training_ends_with_its_accuracy_and_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    done = CliRunner().invoke(main, ["train", "bp", *TINY, "--epochs", "1"])
    assert done.exit_code == 0, done.output
    run = MlflowClient().get_run(done.stdout.strip())
    assert f"accuracy {run.data.metrics['accuracy/test']:.4g}" in done.stderr
    assert "after epoch 1 of 1" in done.stderr and "next: fa-track audit --experiment met" in done.stderr

    audited = CliRunner().invoke(main, ["audit", "--experiment", "met", "--no-pictures"])
    advised = re.search(r"train one: (fa-track train .*)", audited.stderr)
    assert advised, audited.stderr
    control = CliRunner().invoke(main, advised[1].split()[1:])
    assert control.exit_code == 0, control.output
    again = CliRunner().invoke(main, ["audit", "--experiment", "met", "--no-pictures"])
    assert "no frozen control" not in again.stderr and again.exit_code == 0
    (judged,) = (r for r in MlflowClient().search_runs([run.info.experiment_id]) if r.info.run_id == run.info.run_id)
    assert judged.data.tags["fa.control_runs"] == control.stdout.strip()


@pytest.mark.faults
@pytest.mark.parametrize("command", [["demo", "--jobs", "2"], ["study", "run", "demo", "--jobs", "2"]])
def test_ctrl_c_before_a_training_begins_says_the_command_that_goes_on(tmp_path: Path, command: list[str]) -> None:
    said = tmp_path / "said"
    env = environment()
    with said.open("w") as file:
        running = subprocess.Popen(
            [*FA_TRACK, *command], cwd=tmp_path, stdout=file, stderr=file, env=env, start_new_session=True
        )
        time.sleep(3)  # while it imports
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(60) == 130
    time.sleep(1)
    text = said.read_text()
    assert "Traceback" not in text
    assert re.search(rf"next: fa-track {' '.join(command)}   # trains ", text), text


def test_a_database_of_somebody_else_is_named_so_and_no_export_is_advised(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "other.duckdb")) as connection:
        connection.execute("create table runs (a int)")
    database = ["--db", str(tmp_path / "other.duckdb")]
    for command in (["query", "verdict_matrix"], ["chart", "seeds", "--experiment", "x", "-o", "x.png"]):
        refused = CliRunner().invoke(main, [*command, *database])
        assert refused.exit_code == 2
        assert "is no results database" in refused.stderr and "brings it up to date" not in refused.stderr
    with duckdb.connect(str(tmp_path / "other.duckdb")) as connection:
        connection.execute("create table exports (a int)")
    refused = CliRunner().invoke(main, ["query", "verdict_matrix", *database])
    assert refused.exit_code == 2 and "written by another version" in refused.stderr


def test_a_table_that_fits_once_its_constants_are_said_above_it_is_not_called_shortened() -> None:
    rows = [("a" * 32, "needs walk-back (a: residual stream exploded)", n) for n in (1, 2)]
    columns = ("run_id", "verdict", "n")
    assert "shortened" not in text_table(columns, rows, 60)
    apart = [("a" * 32, "needs walk-back (a: residual stream exploded)", 1), ("b" * 32, "trustworthy", 2)]
    assert "shortened" in text_table(columns, apart, 60)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["exprt"], "No such command 'exprt' (did you mean 'export'?)"),
        (["import", "jsn", "x"], "No such command 'jsn' (did you mean 'json'?)"),
        (["train", "dffa"], "no method named 'dffa' (did you mean 'dfa'?); there are: bp,"),
        (["train", "dfa", "--architecture", "RESMLP"], "no model named 'RESMLP' (did you mean 'resmlp'?)"),
        (["train", "dfa", "--optimizer", "adam"], "no optimizer named 'adam' (did you mean 'adamw'?)"),
        (["train", "dfa", "--dataset", "digit"], "no data set named 'digit' (did you mean 'digits'?)"),
        (["train", "dfa", "--dataset", "mnst"], "with --data-dir (or FA_TRACK_DATA) also: cifar10"),
        (["train", "dfa", "--dataset", "mnist"], "the data set 'mnist' needs --data-dir"),
        (["query", "cros_seed", "--experiment", "x"], "no query named 'cros_seed' (did you mean 'cross_seed'?)"),
        (["chart", "seds", "--experiment", "x", "-o", "x.png"], "no chart named 'seds' (did you mean 'seeds'?)"),
        (["study", "run", "dfa_penlty"], "no study named 'dfa_penlty' (did you mean 'dfa_penalty'?)"),
        (["audit", "--experiment", "mett"], "no experiment named 'mett' (did you mean 'met'?)"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_near_one_and_what_there_is(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FA_TRACK_DATA", raising=False)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    if words[0] == "audit":
        MlflowClient(uri).create_experiment("met")
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2, done.output
    assert says in done.stderr.splitlines()[-1].replace(f" in {uri}", "")


@pytest.mark.parametrize(
    ("params", "meant"),
    [
        ({"frozen": True}, "'frozen' ('frozen_blocks'?)"),
        ({"learning_rate": 0.1}, "'learning_rate' ('lr'?)"),
        ({"widht": 64}, "'widht' ('width'?)"),
        ({"Batch_Size": 64}, "'Batch_Size' ('batch_size'?)"),
        ({"learning_rate": 0.1, "lr": 0.1}, ""),
        ({"temperature": 0.1, "host": "a"}, ""),
    ],
)
def test_a_param_that_is_nearly_a_standard_one_warns(params: dict[str, object], meant: str, uri: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with start_run("near", uri, method="dfa", seed=1, active=False, **params):
            pass
    said = [each for each in caught if "no standard param" in str(each.message)]
    assert [meant in str(each.message) for each in said] == ([True] if meant else [])
    assert all(each.filename == __file__ for each in said)
