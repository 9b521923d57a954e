"""A killed training loses nothing, and goes on as if it had not been killed."""

import json
import math
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, tiny
from filelock import lock_descriptor
from mlflow import MlflowClient
from mlflow.entities import Metric, Run

import fa_tracking
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.tracking import names, state, store
from fa_tracking.tracking.spool.journal import NAME, Journal, spool
from fa_tracking.tracking.spool.recover import clear, recover
from fa_tracking.trainers import tracked
from fa_tracking.trainers.study import schedule
from fa_tracking.trainers.study.grid import Study

KILLED_AT = 3
CONFIGS = {
    "dfa": {"epochs": 5, "penalty": 0.01},
    "kolen_pollack": {"epochs": 5, "optimizer": "sgd"},  # feedback that the optimizer steps
    "credit_bridge": {"epochs": 5},  # an auxiliary network
}
KILL_THEMSELVES = f"""
import json, os, signal, sys
from fa_tracking.trainers import tracked
from fa_tracking.trainers.study import schedule
from fa_tracking.trainers.study.grid import Study
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.options import RunOptions
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
    command = [sys.executable, "-c", KILL_THEMSELVES, json.dumps(uri), *configs]
    subprocess.run(command, env=os.environ, check=True)
    return uri


def runs(experiment: str, uri: str) -> list[Run]:
    client = MlflowClient(uri)
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def points(run_id: str, uri: str) -> dict[str, list[tuple[int, float]]]:
    """Every point of every metric but times."""
    client = MlflowClient(uri)
    keys = [key for key in client.get_run(run_id).data.metrics if not key.startswith("time/")]
    return {k: [(m.step, m.value) for m in client.get_metric_history(run_id, k)] for k in keys}


@pytest.mark.faults
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
    assert not list(recover())  # its process is alive
    journal.close()

    done = cli("recover", "--format", "json")
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
    (config,) = study.configs()
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


def left_in(folder: Path) -> list[dict[str, Any]]:
    """The entries of a journal that nobody has open."""
    journal, found = Journal(folder), []
    while (entry := journal.next()) is not None:
        found.append(entry)
        journal.delivered()
    journal.close()
    return found


def test_a_full_disk_loses_nothing_that_was_logged(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run", {"run_id": "run", "tracking_uri": ""})
    journal.append({"tag": "a", "value": "1"})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * max(p.stat().st_size for p in journal.folder.iterdir()), limits[1]))
    try:
        with pytest.raises(FATrackError, match=r"cannot write to .*what was logged before is safe"):
            journal.append({"tag": "b", "value": "2" * 2**20})
        journal.append({"tag": "c", "value": "3"})
        assert journal.waiting == 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
        journal.sync()
        journal.next()
        journal.delivered()  # which cannot be written down, so that the entry comes again later
        assert journal.waiting == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    journal.append({"tag": "d", "value": "4"})
    journal.close()
    assert [entry["tag"] for entry in left_in(tmp_path / "run")] == ["a", "c", "d"]


def test_what_a_journal_says_arrives_as_it_was_said_and_once(tmp_path: Path) -> None:
    said = [{"metrics": [["x", value, 1, 0]]} for value in (math.inf, -math.inf, 5e-324, 0.1)]
    said += [{"text": "ü\u2028\r\n\0", "path": "p"}]
    journal = Journal(tmp_path / "run", {"run_id": "run", "tracking_uri": "u"})
    for entry in said:
        journal.append(entry)
    assert journal.next() == journal.next() == said[0]
    journal.delivered()
    journal.delivered()  # which changes nothing, as nothing was read in between
    assert journal.waiting == len(said) - 1
    journal.close()
    again = Journal(tmp_path / "run", {"run_id": "other", "tracking_uri": "v"})
    assert again.head == {"run_id": "run", "tracking_uri": "u"}
    again.close()
    assert left_in(tmp_path / "run") == said[1:]
    Journal(tmp_path / "run").finish()
    assert not (tmp_path / "run").exists()


def old_journal(run_id: str, uri: str, *lines: bytes) -> Path:
    """A folder as fa-track 0.2 left it."""
    folder = spool() / run_id
    (folder / "upload-abc").mkdir(parents=True)
    (folder / "upload-abc" / "a.json").write_text("{}")
    head = b'{"run_id": "%s", "tracking_uri": "%s"}\n' % (run_id.encode(), uri.encode())
    (folder / "journal.jsonl").write_bytes(head + b"".join(lines))
    return folder


OLD = (
    b'{"metrics": [["x", NaN, 1, 0], ["y", Infinity, 1, 0]]}\n',
    '{"tag": "said", "value": "ü\u2028"}\n'.encode(),
    b'{"upload": "upload-abc", "path": "saved"}\n',
    b'{"metrics": [["torn',
)


@pytest.mark.parametrize("by", ["recover", "resume", "clear", "next run"])
def test_a_journal_of_the_old_format_is_delivered(by: str, uri: str) -> None:
    client = store.client(uri)
    begun = fa_tracking.start_run("old", uri, active=False, method="mine", seed=1)
    with begun as run:
        pass
    client.update_run(run.run_id, status="RUNNING")
    folder = old_journal(run.run_id, uri, *OLD)
    if by == "recover":
        assert [(one.run_id, one.delivered, one.problem) for one in recover()] == [(run.run_id, 3, None)]
    elif by == "clear":
        clear([run.run_id])
    elif by == "resume":
        with fa_tracking.resume_run(run.run_id, uri):
            assert "x" in client.get_run(run.run_id).data.metrics
    else:
        with fa_tracking.start_run(tracking_uri=uri, run_id=run.run_id, method="mine", seed=1) as again:
            again.flush()
            assert "x" in client.get_run(run.run_id).data.metrics
    found = client.get_run(run.run_id).data
    assert math.isnan(found.metrics["x"]) and found.tags["said"] == "ü\u2028"
    assert [a.path for a in client.list_artifacts(run.run_id, "saved")] == ["saved/a.json"]
    assert not folder.exists()


def test_entries_wait_until_they_are_delivered_whatever_thread_asks(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run", {"run_id": "run", "tracking_uri": "u"})
    for number in range(50):
        journal.append({"number": number})
    seen, is_over = set[int](), threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            seen.add(journal.waiting)

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(3000):
        journal.next()  # without `delivered`: it stays the first
    is_over.set()
    asking.join()
    journal.close()
    assert seen == {50}


def test_an_old_journal_is_taken_over_once_and_by_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FA_TRACK_SPOOL", str(tmp_path))
    folder = old_journal("run", "u", *OLD)
    content = (folder / "journal.jsonl").read_bytes()
    with (folder / "journal.jsonl").open("rb") as held:
        assert lock_descriptor(held.fileno(), blocking=False)
        with pytest.raises(BlockingIOError):  # the older fa-track is at work
            Journal(folder)
    assert (folder / "journal.jsonl").read_bytes() == content
    Journal(folder).close()
    assert not (folder / "journal.jsonl").exists()
    (folder / "journal.jsonl").write_bytes(content)  # its remover was killed before
    journal = Journal(folder, {"run_id": "other", "tracking_uri": "v"})
    assert (journal.waiting, journal.head) == (3, {"run_id": "run", "tracking_uri": "u"})
    journal.close()


def test_a_damaged_journal_is_named_and_keeps_no_other_waiting(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FA_TRACK_SPOOL", str(tmp_path))
    (old_journal("a", "u") / "journal.jsonl").write_bytes(b'{"run_id\n{"tag": "a", "value": "1"}\n')
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / NAME).write_bytes(b"no database" * 1000)
    for name, left in (("c", NAME), ("d", "journal.jsonl"), ("e", NAME)):  # killed before they had begun
        (tmp_path / name).mkdir()
        (tmp_path / name / left).write_bytes(b'{"run' if name == "d" else b"")
    run_id = MlflowClient(uri).create_run("0").info.run_id
    good = Journal(tmp_path / run_id, {"run_id": run_id, "tracking_uri": uri})
    good.append({"tag": "a", "value": "1"})
    good.close()
    found = {one.run_id: (one.delivered, one.problem) for one in recover()}
    assert found.pop(run_id) == (1, None)
    assert list(found) == ["a", "b"] and all("is damaged" in str(problem) for _, problem in found.values())
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
    assert b"value" in (tmp_path / "a" / "journal.jsonl").read_bytes()
    mended = Journal(tmp_path / "a", {"run_id": "a", "tracking_uri": uri})  # as its run does when it is resumed
    assert (mended.waiting, mended.next()) == (1, {"tag": "a", "value": "1"})
    mended.close()


DAMAGED = (
    b"no JSON\n",
    b'{"metrics": [["torn", 1.0, {"tag": "lost", "value": "1"}\n',
    b'{"metrics": [["x", 1.0]]}\n',
    b'["a list"]\n',
    b"\xff\n",
    b"[" * 100_000 + b"\n",
)


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_damaged_line_of_an_old_journal_is_reported_once_and_kept_aside_and_the_others_are_delivered(
    damaged: bytes, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FA_TRACK_SPOOL", str(tmp_path))
    client = MlflowClient(uri)
    run_id = client.create_run("0").info.run_id
    folder = old_journal(run_id, uri, OLD[0], damaged, *OLD[1:])
    assert [(one.delivered, one.waiting, one.problem) for one in recover()] == [(3, 0, None)]
    found = client.get_run(run_id)
    assert math.isnan(found.data.metrics["x"]) and found.data.tags["said"] == "ü\u2028"
    assert found.info.status == "KILLED" and not folder.exists()
    (kept,) = tmp_path.glob(f"{run_id}.damaged-*.jsonl")
    assert kept.read_bytes() == damaged + OLD[-1] + b"\n"
    where = f"{folder / 'journal.jsonl'} is damaged at line 3, 6"
    said = f"{where}: what stands there is not delivered, and kept in {kept}"
    assert [record.getMessage() for record in caplog.records if "damaged" in record.getMessage()] == [said]
    assert not list(recover()) and len(caplog.records) == 1


APPENDS = """
import os, signal, sys
from pathlib import Path
from fa_tracking.tracking.spool.journal import Journal
journal = Journal(Path(sys.argv[1]), {"run_id": "run", "tracking_uri": "u"})
for number in range(10**9):
    journal.append({"tag": str(number), "value": "v" * (number % 9000)})
    if number % 3 == 2:
        journal.next()
        journal.delivered()
    os.write(1, b"%d\\n" % number)
"""


def test_a_journal_whose_process_is_killed_holds_all_that_was_appended(tmp_path: Path) -> None:
    for pause in (0.0, 0.05, 0.2):
        folder = tmp_path / str(pause)
        with subprocess.Popen([sys.executable, "-c", APPENDS, str(folder)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(pause)
            with pytest.raises(BlockingIOError):
                Journal(folder)
            process.kill()
            appended = int((b"0\n" + process.stdout.read()).split()[-1]) + 1
        left = [int(entry["tag"]) for entry in left_in(folder)]
        assert left == list(range(left[0], left[-1] + 1))
        assert appended <= left[-1] + 1 <= appended + 1 and left[0] in {appended // 3, (appended + 1) // 3}


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
