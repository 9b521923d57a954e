"""Executors: each job ends once however it ends, and a study on a real Ray cluster outlives one of its two nodes."""

import os
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fa_tracking import executors
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.executors import Needs, Problem
from fa_tracking.tracking import address, names, store

LONGEST = 420
"""Seconds after which a cluster that hangs fails the test."""
GOES_ON, DIES = signal.SIGCONT, signal.SIGKILL


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    submitit = pytest.importorskip("submitit", reason="submitit is not installed: pip install 'fa-track[slurm]'")
    monkeypatch.setattr(submitit.Job, "_results_timeout_s", 0)  # seconds that a slow network folder is waited for


@pytest.mark.parametrize("name", ["local", "slurm"])
def test_a_job_that_kills_its_process_is_lost_and_no_other(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    needs = Needs(jobs=2, retries=1)
    if name == "slurm":
        request.getfixturevalue("slurm")
        needs = Needs(retries=1, cells_per_job=3, set={"cluster": "local", "folder": str(tmp_path)})
    ended = dict(executors.run(name, signal.raise_signal, [GOES_ON, DIES, GOES_ON, 10**6], needs))
    assert sorted(ended) == [0, 1, 2, 3]
    assert ended[0] is None and ended[2] is None
    assert isinstance(ended[1], Problem) and ended[1].lost
    assert isinstance(ended[3], Problem) and not ended[3].lost and "Error: " in ended[3].text


def test_what_an_executor_does_not_know_or_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="the executor 'local' knows no --gpus-per-run and no --set"):
        list(executors.run("local", abs, [1], Needs(gpus_per_run=0.5, set={"partition": "gpu"})))
    with pytest.raises(UsageError, match="no executor named 'nope'; there are: local, ray, slurm"):
        list(executors.run("nope", abs, [1]))
    for library, name in (("ray", "ray"), ("submitit", "slurm")):
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(UsageError, match=rf"pip install 'fa-track\[{name}\]'"):
            list(executors.run(name, abs, [1]))


def test_a_slurm_that_is_not_there_or_misunderstood_is_one_line(slurm: None, tmp_path: Path) -> None:
    folder = {"folder": str(tmp_path)}
    for needs, says in (
        (Needs(gpus_per_run=0.25, set=folder), "Slurm hands out whole GPUs, not 0.25 of one"),
        (Needs(set={**folder, "cluster": "local", "partitoin": "gpu"}), "partitoin"),
        (Needs(set=folder), "--set cluster=local tries it on this machine"),
    ):
        with pytest.raises(UsageError, match=says):
            list(executors.run("slurm", abs, [1], needs))


def test_a_store_that_another_machine_cannot_mean_is_refused(workspace: Path) -> None:
    assert address.absolute("sqlite:///mlflow.db") == f"sqlite:///{workspace}/mlflow.db"
    assert address.absolute("http://127.0.0.1:5000") == "http://127.0.0.1:5000"
    assert address.absolute("sqlite:///a.db?timeout=9") == f"sqlite:///{workspace}/a.db?timeout=9"
    for nowhere, named in ((f"sqlite:///{workspace}/nowhere.db", "/nowhere.db"), ("sqlite://", "sqlite://")):
        with pytest.raises(FATrackError, match=rf"has no file \S*{named}: several processes need a store"):
            store.must_be_here(nowhere)


def test_a_run_is_in_one_hand(uri: str) -> None:
    from fa_tracking.trainers.study import lease

    client = store.client(uri)
    home = store.experiment_id(client, "hands")

    def begun(digest: str, **changed: str) -> str:
        tags = lease.Lease(client, digest, "one").tags | {names.TAG_CONFIG_SHA256: digest}
        return client.create_run(home, tags={**tags, **changed}).info.run_id

    first = begun("same")
    second = begun("same")
    with pytest.raises(lease.TakenError), lease.Lease(client, "same", "another") as mine:
        mine.begin(second)
    assert [run.info.run_id for run in lease.runs_of(client, "same")] == [first]
    with lease.Lease(client, "same", "one") as mine:  # whose driver knows that the first was lost
        assert mine.take_up(client.get_run(first)) == first
    assert [run.info.run_id for run in lease.runs_of(client, "same")] == [first]
    with pytest.raises(lease.TakenError), lease.Lease(client, "same", "another") as mine:
        mine.take_up(client.get_run(first))  # which the first hand has not given back
    assert client.get_run(first).data.tags[names.TAG_DRIVER] == "one"
    far = {names.TAG_PROCESS: "another-machine:1"}
    hands = {
        begun("fresh", **far): True,
        begun("old", **far, **{names.TAG_ALIVE: str(time.time() - lease.LEASE - 1)}): False,
        begun("mute", **far, **{names.TAG_ALIVE: ""}): False,
        begun("gone", **{names.TAG_PROCESS: first_free_process()}): False,
    }
    assert {run_id: lease.in_hand(client.get_run(run_id)) for run_id in hands} == hands
    lease.bury(client, lease.runs_of(client, "old"))
    assert [run.info.status for run in lease.runs_of(client, "old")] == ["KILLED"]


def first_free_process() -> str:
    import socket

    pid = next(pid for pid in range(2**15, 2**22) if not Path(f"/proc/{pid}").exists())
    return f"{socket.gethostname()}:{pid}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine, one CPU each; the first has what it takes for a GPU."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'fa-track[ray]'")
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    system = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5}  # a dead node is noticed soon
    system["worker_niceness"] = 0  # else its workers wait until the other tests leave a processor idle
    for patience in (True, True, False):
        try:
            made = Cluster(initialize_head=True, head_node_args={**small, "num_gpus": 1, "_system_config": system})
            break
        except Exception:  # a node gives up after 30 seconds, which is short on a busy machine
            if not patience:
                raise
    try:
        made.add_node(num_cpus=1, object_store_memory=small["object_store_memory"])
        ray.init(address=made.address, logging_level="ERROR", log_to_driver=False)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def test_every_cell_of_a_study_ends_once_though_a_node_dies(cluster: Any, workspace: Path, uri: str) -> None:
    from fa_tracking import audit
    from fa_tracking.trainers.study import schedule
    from fa_tracking.trainers.study.grid import Study
    from fa_tracking.trainers.study.held import DONE

    study = Study.model_validate(
        {
            "title": "t",
            "experiment": "nodes",
            "seeds": [1, 2],
            "fixed": {"dataset": "digits", "width": 8, "depth": 2, "epochs": 12},
            "grids": [{"parameters": {"method": {"values": ["bp"]}, "frozen_blocks": {"values": [False, True]}}}],
        }
    )
    killed: list[str] = []
    killer = threading.Thread(target=lambda: killed.append(kill_second_node(cluster, workspace)), daemon=True)
    with ThreadPoolExecutor(1) as driver:
        running = driver.submit(schedule.run, study, uri, executor="ray")
        killer.start()
        assert running.result(timeout=LONGEST) == {}
    killer.join(timeout=1)
    client = store.client(uri)
    runs = list(store.search_runs(client, [store.find_experiment(client, "nodes").experiment_id]))
    finished = Counter(r.data.tags[names.TAG_CONFIG_SHA256] for r in runs if r.info.status == "FINISHED")
    assert finished == {config.digest: 1 for config in study.configs()}
    status = {run.info.run_id: run.info.status for run in runs}
    assert len(killed) == 1 and status[killed[0]] == "FINISHED"  # another process went on with it
    assert set(status.values()) == {"FINISHED"}
    assert {cell.held.state for cell in schedule.runs(study, uri)} == {DONE}

    here = audit("nodes", uri)
    there = audit("nodes", uri, executor="ray")
    assert [a.run_id for a in there.runs] == [a.run_id for a in here.runs]
    assert there == here and len(there.runs) == 4


def test_a_share_of_a_gpu_is_reserved_and_more_than_there_is_refused(cluster: Any) -> None:
    seen = dict(executors.run("ray", os.getenv, ["CUDA_VISIBLE_DEVICES"] * 2, Needs(gpus_per_run=0.5)))
    assert seen == {0: "0", 1: "0"}
    with pytest.raises(UsageError, match="no node of the Ray cluster has 1 CPU and 2 GPU"):
        list(executors.run("ray", os.getenv, ["HOME"], Needs(gpus_per_run=2)))


def kill_second_node(cluster: Any, folder: Path) -> str:
    """SIGKILL the raylet and the workers of the second node in the middle of a run of theirs; the run's id."""
    raylet = cluster.worker_nodes.copy().pop().all_processes["raylet"][0].process.pid
    while True:
        time.sleep(0.05)
        workers = children(raylet)
        for run_id, writer in begun(folder):
            if int(writer.rpartition(":")[2]) in workers:
                for process in (raylet, *workers):
                    os.kill(process, signal.SIGKILL)
                return run_id


def begun(folder: Path) -> list[tuple[str, str]]:
    """The runs that have logged an epoch and go on, and their processes: from the file, which is soon asked."""
    asked = "select run_uuid, value from runs join tags using (run_uuid) where key = ? and status = 'RUNNING'"
    logged = " and run_uuid in (select run_uuid from latest_metrics where key = ?)"
    with closing(sqlite3.connect(folder / "mlflow.db", timeout=60)) as opened:
        return opened.execute(asked + logged, (names.TAG_PROCESS, names.ACCURACY_TEST)).fetchall()


def children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in threads for child in file.read_text().split()]
