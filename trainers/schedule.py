"""Runs a study: what the store already holds of it, and the rest, some at a time, each in a process of its own."""

import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fa_tracking.tracking import names, store
from trainers.config import RunConfig
from trainers.study import Study

if TYPE_CHECKING:
    from mlflow.entities import Run

DONE, RUNNING, FAILED, MISSING = "done", "running", "failed", "missing"


@dataclass(frozen=True)
class Held:
    """What the store knows of a configuration: the run, and the experiment that it stands in."""

    state: str
    run_id: str | None
    experiment: str


@dataclass(frozen=True)
class Cell:
    """One run of a study and what the store knows of it."""

    config: RunConfig
    held: Held


Finished = Callable[[RunConfig, str | None, int, int], None]
"""finished(config, problem, done, total): called after each run; ``problem`` is None where it went well."""


def cells(study: Study, tracking_uri: str | None = None) -> list[Cell]:
    """Every run of the study with its state in the store."""
    known = _known(study.experiment, tracking_uri)
    missing = Held(MISSING, None, study.experiment)
    return [Cell(config, known.get(config.digest, missing)) for config in study.cells()]


def run(
    study: Study,
    tracking_uri: str | None = None,
    data_dir: str | None = None,
    jobs: int = 1,
    finished: Finished | None = None,
) -> dict[str, str]:
    """Train what the store does not hold yet, ``jobs`` at a time, each in a process of its own.

    Returns:
        The problem of each run that failed, by the hash of its configuration.

    Raises:
        UsageError: the study names what does not exist; nothing has been trained then.
    """
    todo = [cell.config for cell in cells(study, tracking_uri) if cell.held.state in (MISSING, FAILED)]
    problems: dict[str, str] = {}
    if not todo:
        return problems
    uri = store.client(tracking_uri).tracking_uri
    store.experiment_id(store.client(uri), study.experiment)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=jobs, mp_context=context) as pool:
        futures = {pool.submit(_train, config, study.experiment, uri, data_dir): config for config in todo}
        for done, future in enumerate(as_completed(futures), start=1):
            config = futures[future]
            try:
                problem = future.result()
            except BrokenProcessPool:
                problem = "its process was killed"
            if problem:
                problems[config.digest] = problem
            if finished:
                finished(config, problem, done, len(todo))
    return problems


def _train(config: RunConfig, experiment: str, tracking_uri: str, data_dir: str | None) -> str | None:
    """In a process of the pool: train one run; what went wrong, as a line."""
    from trainers.loop import train

    tags = {names.TAG_PROCESS: _process()}
    try:
        train(config, experiment, tracking_uri, data_dir, tags=tags)
    except Exception as error:  # one run's failure, whatever it is, must not end the others
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def _known(experiment: str, tracking_uri: str | None) -> dict[str, Held]:
    """What the whole store holds by configuration hash: the best that any run of it has reached.

    A failure elsewhere is no matter of this study, nor is a run that a flag stopped early.
    """
    client = store.client(tracking_uri)
    experiments = {e.experiment_id: e.name for e in store.all_experiments(client)}
    rank: Sequence[str] = (FAILED, RUNNING, DONE)
    known: dict[str, Held] = {}
    for run in store.search_runs(client, list(experiments), f"tags.`{names.TAG_CONFIG_SHA256}` != ''"):
        held = Held(_state(run), run.info.run_id, experiments[run.info.experiment_id])
        if names.TAG_ABORTED_AT in run.data.tags or (held.state == FAILED and held.experiment != experiment):
            continue
        before = known.get(run.data.tags[names.TAG_CONFIG_SHA256])
        if before is None or rank.index(held.state) >= rank.index(before.state):
            known[run.data.tags[names.TAG_CONFIG_SHA256]] = held
    return known


def _state(run: "Run") -> str:
    if run.info.status == "FINISHED":
        return DONE
    if run.info.status == "RUNNING" and _alive(run.data.tags.get(names.TAG_PROCESS, "")):
        return RUNNING
    return FAILED


def _process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _alive(process: str) -> bool:
    """Whether a process runs: on this machine it is asked, on another it is believed."""
    host, _, pid = process.rpartition(":")
    if host != socket.gethostname():
        return bool(host)
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
