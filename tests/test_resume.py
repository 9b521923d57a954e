"""A killed training loses nothing, and goes on as if it had not been killed."""

import json
import math
import os
import subprocess
from pathlib import Path

import forks
import pytest
import torch
from conftest import Cli, tiny
from mlflow import MlflowClient
from mlflow.entities import Metric, Run

import fa_tracking
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.tracking import names, state
from fa_tracking.tracking.journal import NAME, Journal, left_behind, spool
from fa_tracking.tracking.recover import recover
from trainers import tracked
from trainers.study import schedule
from trainers.study.grid import Study

KILLED_AT = 3
CONFIGS = {
    "dfa": {"epochs": 5, "penalty": 0.01},
    "kolen_pollack": {"epochs": 5, "optimizer": "sgd"},  # feedback that the optimizer steps
    "credit_bridge": {"epochs": 5},  # an auxiliary network
}
KILL_THEMSELVES = f"""
import json, os, signal, sys
from trainers import tracked
from trainers.study import schedule
from trainers.study.grid import Study
from trainers.config import RunConfig
from trainers.options import RunOptions
uri, *configs = map(json.loads, sys.argv[1:])

def progress(epoch, epochs, accuracy):
    if epoch == {KILLED_AT}:
        os.kill(os.getpid(), signal.SIGKILL)

for config in configs:
    if (child := os.fork()) == 0:
        options = RunOptions(state_seconds=0)
        tracked.train(RunConfig(**config), "cut-" + config["method"], uri, options, progress=progress)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, config
"""


@pytest.fixture(scope="module")
def killed(workspace: Path) -> str:
    """A store with a run of each config, whose process was killed at the end of an epoch; its URI."""
    uri = f"sqlite:///{workspace / 'mlflow.db'}"
    tracked.train(tiny("bp", epochs=0), "first", uri)  # the store itself
    configs = [json.dumps(vars(tiny(method, **changes))) for method, changes in CONFIGS.items()]
    command = [forks.python(), "-c", KILL_THEMSELVES, json.dumps(uri), *configs]
    subprocess.run(command, env={**os.environ, **forks.environment()}, check=True)
    return uri


def runs(experiment: str, uri: str) -> list[Run]:
    client = MlflowClient(uri)
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def points(run_id: str, uri: str) -> dict[str, list[tuple[int, float]]]:
    """Every point of every metric but times."""
    client = MlflowClient(uri)
    keys = [key for key in client.get_run(run_id).data.metrics if not key.startswith("time/")]
    return {k: [(m.step, m.value) for m in client.get_metric_history(run_id, k)] for k in keys}


@pytest.mark.parametrize("method", CONFIGS)
def test_a_killed_run_goes_on_bit_for_bit(method: str, killed: str) -> None:
    uri, config = killed, tiny(method, **CONFIGS[method])
    whole = tracked.train(config, f"whole-{method}", uri)
    (run,) = runs(f"cut-{method}", uri)
    seen: list[int] = []
    tracked.resume(run.info.run_id, uri, progress=lambda epoch, *_: seen.append(epoch))
    assert seen[0] == KILLED_AT + 1
    assert points(run.info.run_id, uri) == points(whole, uri)
    (again,) = runs(f"cut-{method}", uri)
    assert again.info.status == "FINISHED"
    client = MlflowClient(uri)
    assert not client.list_artifacts(again.info.run_id, names.STATE)
    last = f"{names.checkpoint(config.epochs)}/config.json"
    saved = [json.loads(Path(client.download_artifacts(r, last)).read_text()) for r in (whole, again.info.run_id)]
    assert saved[0]["sha256"] == saved[1]["sha256"]


def test_what_a_killed_process_reported_is_recovered(uri: str, cli: Cli) -> None:
    client = MlflowClient(uri)
    run_id = client.create_run("0").info.run_id
    journal = Journal(spool() / run_id, {"run_id": run_id, "tracking_uri": uri})
    journal.append({"metrics": [["x", math.nan, 1, 0], ["y", math.inf, 1, 0], ["y", 2.5, 2, 1]]})
    folder = journal.new_folder()
    (folder / "a.json").write_text("{}")
    journal.append({"upload": folder.name, "path": "saved"})
    client.log_batch(run_id, metrics=[Metric("x", math.nan, 1, 0)])  # it had been delivered, and comes again
    assert not list(left_behind())  # its process is alive
    with (journal.folder / NAME).open("ab") as file:
        file.write(b'{"metrics": [["torn')
    journal.close()

    done = cli("recover", "--json")
    assert done.returncode == 0, done.stderr
    (one,) = json.loads(done.stdout)
    assert (one["run_id"], one["delivered"], one["waiting"]) == (run_id, 2, 0)
    assert f"next: fa-track resume {run_id}" in done.stderr
    assert [m.step for m in client.get_metric_history(run_id, "x")] == [0]
    assert [m.step for m in client.get_metric_history(run_id, "y")] == [0, 1]
    assert [a.path for a in client.list_artifacts(run_id, "saved")] == ["saved/a.json"]
    assert client.get_run(run_id).info.status == "KILLED"
    assert not journal.folder.exists()
    assert not list(recover())


def test_a_study_clears_up_behind_a_finished_run_that_was_killed_at_its_very_end(uri: str) -> None:
    fixed = {"width": 8, "depth": 1, "dataset": "digits", "epochs": 0}
    grids = [{"parameters": {"method": {"values": ["bp"]}}}]
    study = Study.model_validate({"title": "t", "experiment": "cleared", "seeds": [1], "fixed": fixed, "grids": grids})
    (config,) = study.cells()
    tracked.train(config, study.experiment, uri)
    (run,) = runs("cleared", uri)
    head = {"run_id": run.info.run_id, "tracking_uri": uri}
    journal = Journal(spool() / run.info.run_id, head)
    journal.append({"status": "FINISHED"})
    assert schedule.run(study, uri) == {}
    assert journal.folder.exists()  # its process is alive
    journal.close()
    schedule.run(study, uri)
    assert not journal.folder.exists() and [r.info.status for r in runs("cleared", uri)] == ["FINISHED"]


def test_a_full_disk_loses_nothing_that_was_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "run", {"run_id": "run", "tracking_uri": ""})
    journal.append({"tag": "a", "value": "1"})
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:5]))  # the rest does not fit
    with pytest.raises(FATrackError, match=r"No space left.*what was logged before is safe"):
        journal.append({"tag": "b", "value": "2"})
    monkeypatch.undo()
    journal.append({"tag": "c", "value": "3"})
    journal.close()
    again = Journal(tmp_path / "run")
    found = []
    while (entry := again.next()) is not None:
        found.append(entry["tag"])
        again.delivered()
    assert found == ["a", "c"]


def test_a_half_written_training_state_is_never_taken(tmp_path: Path) -> None:
    for slot, epoch in (("0", 4), ("1", 5)):
        (tmp_path / slot).mkdir()
        state.write(tmp_path / slot, epoch, {"w": torch.full((3,), float(epoch))}, {})
    found = state.latest(tmp_path)
    assert found and (found.epoch, found.slot, found.tensors["w"][0].item()) == (5, 1, 5.0)
    (tmp_path / "1" / state.TENSORS).write_bytes((tmp_path / "0" / state.TENSORS).read_bytes())
    found = state.latest(tmp_path)
    assert found and found.epoch == 4
    (tmp_path / "0" / state.VALUES).write_text('{"epoch": 4, "sha')
    assert state.latest(tmp_path) is None


def test_only_a_killed_run_of_train_is_resumed(uri: str, cli: Cli) -> None:
    finished = tracked.train(tiny("bp", epochs=0), "done", uri)
    with pytest.raises(UsageError, match="is finished"):
        tracked.resume(finished, uri)
    done = cli("resume", "no-such-run")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    with (
        fa_tracking.start_run("own", uri, method="mine", seed=1) as run,
        pytest.raises(UsageError, match=f"written by .*:{os.getpid()}"),
    ):
        tracked.resume(run.run_id, uri)
    MlflowClient(uri).update_run(run.run_id, status="KILLED")
    with pytest.raises(UsageError, match="not begun by `fa-track train`"):
        tracked.resume(run.run_id, uri)
