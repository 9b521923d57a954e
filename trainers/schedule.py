"""Runs a study: what the store already holds of it, and the rest, some at a time, each in a process of its own."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from fa_tracking import catalogue
from fa_tracking.errors import UsageError
from fa_tracking.tracking import lock, names, process, store
from trainers.config import RunConfig
from trainers.study import Study

if TYPE_CHECKING:
    from mlflow.entities import Run

DONE, RUNNING, FAILED, MISSING = "done", "running", "failed", "missing"
SKIPPED = "left to another study that has it"


@dataclass(frozen=True)
class Held:
    """What the store knows of a configuration: the run, and the experiment that it stands in.

    ``is_killed``: a failed run whose process was killed goes on where it was; any other begins anew.
    """

    state: str
    run_id: str | None
    experiment: str
    is_killed: bool = False


@dataclass(frozen=True)
class Cell:
    """One run of a study and what the store knows of it."""

    config: RunConfig
    held: Held


Finished = Callable[[RunConfig, str, int, int], None]
"""finished(config, outcome, done, total): called after each run; the outcome is ``DONE``, ``SKIPPED``, or a problem."""


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
    """Train what the store does not hold yet, ``jobs`` at a time, in processes of their own.

    Another ``run`` on this machine may go on at the same time: each takes what the other has not begun. A process that
    is killed takes its own run with it and no other; all end with this one.

    Returns:
        The problem of each run that failed, by the hash of its configuration.

    Raises:
        UsageError: the study names what does not exist; nothing has been trained then.
    """
    todo = [cell.config for cell in cells(study, tracking_uri) if cell.held.state in (MISSING, FAILED)]
    if not todo:
        return {}
    _check(todo, data_dir)
    uri = store.client(tracking_uri).tracking_uri
    store.experiment_id(store.client(uri), study.experiment)
    problems: dict[str, str] = {}
    workers: SimpleQueue[_Worker] = SimpleQueue()
    for _ in range(jobs):
        workers.put(_Worker())
    with ThreadPoolExecutor(jobs) as threads:
        futures = {threads.submit(_one, workers, c, study.experiment, uri, data_dir): c for c in todo}
        for done, future in enumerate(as_completed(futures), start=1):
            config, outcome = futures[future], future.result()
            if outcome not in (DONE, SKIPPED):
                problems[config.digest] = outcome
            if finished:
                finished(config, outcome, done, len(todo))
    while not workers.empty():
        workers.get().stop()
    return problems


class _Worker:
    """A process that trains run after run, and is started anew when a run has killed it."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def train(self, *job: Any) -> str:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent)
        try:
            return self._pool.submit(_train, *job).result()
        except BrokenProcessPool:
            self.stop()
            return "its process was killed"

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = None


def _one(workers: "SimpleQueue[_Worker]", config: RunConfig, experiment: str, uri: str, data_dir: str | None) -> str:
    """Train one run, unless another study has it by now."""
    worker = workers.get()
    try:
        with lock.alone(f"{uri} {config.digest}", wait=False) as mine:
            held = _known(experiment, uri).get(config.digest)
            if not mine or (held is not None and held.state in (DONE, RUNNING)):
                return SKIPPED
            outcome = worker.train(config, experiment, uri, data_dir, held.run_id if held and held.is_killed else None)
            if outcome != DONE:
                _record_failure(config, experiment, uri, outcome)
            return outcome
    finally:
        workers.put(worker)


def _record_failure(config: RunConfig, experiment: str, uri: str, problem: str) -> None:
    """A run that failed before it could log anything stands in the store as failed all the same."""
    held = _known(experiment, uri).get(config.digest)
    if held is not None:
        return
    client = store.client(uri)
    tags = {names.TAG_CONFIG_SHA256: config.digest, names.TAG_NOTE: problem}
    with store.store_errors():
        run = client.create_run(store.experiment_id(client, experiment), tags=tags, run_name=config.method)
        client.set_terminated(run.info.run_id, "FAILED")


def _check(configs: Sequence[RunConfig], data_dir: str | None) -> None:
    """Refuse what no run could start with."""
    from trainers import data, methods, models
    from trainers.augmentation import AUGMENTATIONS
    from trainers.loop import OPTIMIZERS

    for config in configs:
        catalogue.load(methods, config.method)
        catalogue.load(models, config.architecture)
        for kind, name, known in (
            ("optimizer", config.optimizer, OPTIMIZERS),
            ("augmentation", config.augmentation, AUGMENTATIONS),
        ):
            if name not in known:
                raise UsageError(f"no {kind} named {name!r}; there are: {', '.join(known)}")
    for dataset in {config.dataset for config in configs}:
        data.check(dataset, data_dir)


def _end_with_parent() -> None:
    """In a process of the pool: when the study is killed, so is what it trains."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _train(config: RunConfig, experiment: str, tracking_uri: str, data_dir: str | None, run_id: str | None) -> str:
    """In a process of the pool: train one run, or go on with ``run_id``; what went wrong, as a line."""
    from trainers.loop import train

    try:
        train(config, experiment, tracking_uri, data_dir, run_id=run_id)
    except Exception as error:  # one run's failure, whatever it is, must not end the others
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return DONE


def _known(experiment: str, tracking_uri: str | None) -> dict[str, Held]:
    """What the whole store holds by configuration hash: the best that any run of it has reached.

    A failure elsewhere is no matter of this study, nor is a run that a flag stopped early.
    """
    client = store.client(tracking_uri)
    experiments = {e.experiment_id: e.name for e in store.all_experiments(client)}
    rank: Sequence[str] = (FAILED, RUNNING, DONE)
    known: dict[str, Held] = {}
    for run in store.search_runs(client, list(experiments), f"tags.`{names.TAG_CONFIG_SHA256}` != ''"):
        is_killed = run.info.status in ("RUNNING", "KILLED") and "method" in run.data.params
        held = Held(_state(run), run.info.run_id, experiments[run.info.experiment_id], is_killed)
        if names.TAG_ABORTED_AT in run.data.tags or (held.state == FAILED and held.experiment != experiment):
            continue
        before = known.get(run.data.tags[names.TAG_CONFIG_SHA256])
        if before is None or rank.index(held.state) >= rank.index(before.state):
            known[run.data.tags[names.TAG_CONFIG_SHA256]] = held
    return known


def _state(run: "Run") -> str:
    if run.info.status == "FINISHED":
        return DONE
    if run.info.status == "RUNNING" and process.is_alive(run.data.tags.get(names.TAG_PROCESS, "")):
        return RUNNING
    return FAILED
