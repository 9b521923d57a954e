"""Runs a study: what the store already holds of it, and the rest, wherever an executor lets it run."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking import catalogue, executors
from fa_tracking.errors import FATrackError, UsageError, no_such
from fa_tracking.executors import Needs, Problem
from fa_tracking.tracking import address, names, store
from fa_tracking.tracking.spool import recover
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.options import DEFAULTS, Most, RunOptions, Stacking
from fa_tracking.trainers.study import lease
from fa_tracking.trainers.study.grid import Study
from fa_tracking.trainers.study.held import ABORTED, DONE, FAILED, KILLED, MISSING, SKIPPED, Held, held_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

APART = Stacking()
MOST_STACKED = 64
SECONDS_BETWEEN_LOOKS, SHARE_OF_LOOKING = 2.0, 0.05
"""How long the store is left alone at least, and which part of the time it may be asked how far the runs are."""


@dataclass(frozen=True)
class StudyRun:
    """One run of a study and what the store knows of it."""

    config: RunConfig
    held: Held


Trained = Callable[[float, int], None]
"""trained(runs, total): every few seconds, how many runs are trained, those under way by their share of epochs."""

Finished = Callable[[RunConfig, str, int, int], None]
"""finished(config, outcome, done, total): for each run after it, and those that trained with it, have ended.

The outcome is ``DONE``, ``SKIPPED``, or a problem.
"""


def runs(study: Study, tracking_uri: str | None = None) -> list[StudyRun]:
    """Every run of the study with its state in the store."""
    missing, known = Held(MISSING, None, study.experiment), {}
    if store.missing(tracking_uri) is None:
        client = store.reader(tracking_uri)
        known = held_of(client, lease.runs_of(client), study.experiment)
    return [StudyRun(config, known.get(config.digest, missing)) for config in study.configs()]


def run(
    study: Study,
    tracking_uri: str | None = None,
    options: RunOptions = DEFAULTS,
    needs: Needs | None = None,
    executor: str = "local",
    stacking: Stacking = APART,
    finished: Finished | None = None,
    trained: Trained | None = None,
) -> dict[str, str]:
    """Train what the store does not hold yet, by one of ``fa_tracking.executors``.

    Another ``run`` may go on at the same time, on whatever machine: each takes what the other has not begun. When this
    one ends, however it ends, no run that it handed out stands as running.

    Args:
        options: of every run; its threads are as many as ``needs`` says.
        trained: called from a thread of its own; the store is asked for what it is told.

    Returns:
        The problem of each run that failed, by the hash of its configuration.

    Raises:
        UsageError: the study names what does not exist, or the executor cannot do what it should; nothing has been
            trained then.
    """
    known = runs(study, tracking_uri)
    recover.clear(run.held.run_id for run in known if run.held.run_id and run.held.state == DONE)
    wanted = (MISSING, FAILED, KILLED) if options.abort else (MISSING, FAILED, KILLED, ABORTED)
    todo = [run.config for run in known if run.held.state in wanted]
    if not todo:
        return {}
    from fa_tracking.trainers.study import (
        worker,  # and with it torch, which is not needed where nothing is left to train
    )
    from fa_tracking.trainers.tracked import must_be_here

    _check(todo, options.data_dir)
    if executor == "local":  # the machines of others may have what this one has not
        must_be_here(options.device)
        if stacking.compiled:
            from fa_tracking.trainers.stacked.recorded import must_compile

            must_compile(options.device)
    needs, uri = needs or Needs(), address.absolute(store.client(tracking_uri).tracking_uri)
    store.must_be_here(uri)
    client, driver = store.client(uri), uuid.uuid4().hex
    folder = str(Path(options.data_dir).resolve()) if options.data_dir else None
    options = replace(options, data_dir=folder, threads=needs.cpus_per_run)
    terms = worker.Terms(study.experiment, uri, driver, options, stacking.compiled)
    home = store.experiment_id(client, study.experiment)
    problems: dict[str, str] = {}
    skipped: list[RunConfig] = []
    packs, done = _packs(todo, stacking.most, options.device, needs.jobs or 1), 0
    try:
        jobs = executors.run(executor, partial(worker.train, terms), packs, needs)
        watched = _watched(client, home, driver, skipped, len(todo), trained) if trained else nullcontext()
        with watched, closing(jobs) as outcomes:
            for index, ended in outcomes:
                said = [ended.text] * len(packs[index]) if isinstance(ended, Problem) else ended
                for config, outcome in zip(packs[index], said, strict=True):
                    done += 1
                    if outcome == SKIPPED:
                        skipped.append(config)
                    elif outcome != DONE:
                        problems[config.digest] = outcome
                        _record_failure(client, home, driver, config, outcome)
                    if finished:
                        finished(config, outcome, done, len(todo))
    finally:
        with suppress(FATrackError):  # a store that does not answer is another error's matter
            lease.bury(client, store.search_runs(client, [home], f"tags.`{names.TAG_DRIVER}` = '{driver}'"))
    return problems


@contextmanager
def _watched(
    client: "MlflowClient", home: str, driver: str, skipped: Sequence[RunConfig], total: int, trained: Trained
) -> Iterator[None]:
    """Inside, ``trained`` is told of the runs that were handed out, whatever machines train them."""
    ended = threading.Event()

    def watch() -> None:
        asked_for = 0.0
        while not ended.wait(max(SECONDS_BETWEEN_LOOKS, asked_for / SHARE_OF_LOOKING)):
            began = time.monotonic()
            with suppress(FATrackError):  # a store that is away for a while ends nothing
                ours = store.search_runs(client, [home], f"tags.`{names.TAG_DRIVER}` = '{driver}'")
                runs = len(skipped) + sum(_share(run) for run in ours)
                if not ended.is_set():
                    trained(min(runs, total), total)
            asked_for = time.monotonic() - began

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _share(run: "Run") -> float:
    """How much of a run is behind it, in [0, 1]."""
    if run.info.status in ("FINISHED", "FAILED"):
        return 1.0
    epoch = max((metric.step for metric in run.data.to_proto().metrics), default=0)
    return epoch / int(run.data.params.get("epochs", epoch)) if epoch else 0.0


def _packs(todo: Sequence[RunConfig], most: Most, device: str, jobs: int) -> list[list[RunConfig]]:
    """What each job trains: a run, or a stack of runs; no more than leaves every process at a time one of its own."""
    from fa_tracking.trainers.stacked.together import pays, stacks

    if most == "off":
        return [[config] for config in todo]
    if most == "auto":
        stacked = stacks([c for c in todo if pays(c, device)], MOST_STACKED, jobs)
        return stacked + [[config] for config in todo if not pays(config, device)]
    return stacks(todo, most, jobs)


def _record_failure(client: "MlflowClient", home: str, driver: str, config: RunConfig, problem: str) -> None:
    """A run that failed before it could log anything stands in the store as failed all the same."""
    if lease.runs_of(client, config.digest):
        return
    tags = {names.TAG_CONFIG_SHA256: config.digest, names.TAG_DRIVER: driver, names.TAG_NOTE: problem}
    with store.store_errors():
        run = client.create_run(home, tags=tags, run_name=config.method)
        client.set_terminated(run.info.run_id, "FAILED")


def _check(configs: Sequence[RunConfig], data_dir: str | None) -> None:
    """Refuse what no run could start with."""
    from fa_tracking.trainers import data, methods, models
    from fa_tracking.trainers.augmentation import AUGMENTATIONS
    from fa_tracking.trainers.learner import OPTIMIZERS

    for config in configs:
        catalogue.load(methods, config.method)
        catalogue.load(models, config.architecture)
        for kind, name, known in (
            ("optimizer", config.optimizer, OPTIMIZERS),
            ("augmentation", config.augmentation, AUGMENTATIONS),
        ):
            if name not in known:
                raise UsageError(no_such(kind, name, known))
    for dataset in {config.dataset for config in configs}:
        data.check(dataset, data_dir)
