"""Runs a study: what the store already holds of it, and the rest, wherever an executor lets it run."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking import catalogue, executors
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.executors import Needs, Problem, as_line
from fa_tracking.tracking import names, recover, store
from trainers import claim
from trainers.config import RunConfig
from trainers.study import Study

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DONE, RUNNING, FAILED, MISSING = "done", "running", "failed", "missing"
SKIPPED = "left to another study that has it"


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


Finished = Callable[[RunConfig, str, int, int], None]
"""finished(config, outcome, done, total): called after each run; the outcome is ``DONE``, ``SKIPPED``, or a problem."""


def cells(study: Study, tracking_uri: str | None = None) -> list[Cell]:
    """Every run of the study with its state in the store."""
    client = store.client(tracking_uri)
    known = _held(client, claim.runs_of(client), study.experiment)
    missing = Held(MISSING, None, study.experiment)
    return [Cell(config, known.get(config.digest, missing)) for config in study.cells()]


def run(
    study: Study,
    tracking_uri: str | None = None,
    data_dir: str | None = None,
    needs: Needs | None = None,
    finished: Finished | None = None,
    executor: str = "local",
) -> dict[str, str]:
    """Train what the store does not hold yet, by one of ``fa_tracking.executors``.

    Another ``run`` may go on at the same time, on whatever machine: each takes what the other has not begun. When this
    one ends, however it ends, no run that it handed out stands as running.

    Returns:
        The problem of each run that failed, by the hash of its configuration.

    Raises:
        UsageError: the study names what does not exist, or the executor cannot do what it should; nothing has been
            trained then.
    """
    known = cells(study, tracking_uri)
    recover.clear(cell.held.run_id for cell in known if cell.held.run_id and cell.held.state == DONE)
    todo = [cell.config for cell in known if cell.held.state in (MISSING, FAILED)]
    if not todo:
        return {}
    _check(todo, data_dir)
    needs, uri = needs or Needs(), store.absolute(store.client(tracking_uri).tracking_uri)
    store.must_be_here(uri)
    client, folder = store.client(uri), str(Path(data_dir).resolve()) if data_dir else None
    order = _Order(study.experiment, uri, folder, uuid.uuid4().hex, needs.cpus_per_run)
    home = store.experiment_id(client, study.experiment)
    problems: dict[str, str] = {}
    try:
        with closing(executors.run(executor, partial(_train, order), todo, needs)) as outcomes:
            for done, (index, ended) in enumerate(outcomes, start=1):
                outcome = ended.text if isinstance(ended, Problem) else ended
                if outcome not in (DONE, SKIPPED):
                    problems[todo[index].digest] = outcome
                    _record_failure(client, home, todo[index], outcome)
                if finished:
                    finished(todo[index], outcome, done, len(todo))
    finally:
        with suppress(FATrackError):  # a store that does not answer is another error's matter
            claim.bury(client, store.search_runs(client, [home], f"tags.`{names.TAG_DRIVER}` = '{order.driver}'"))
    return problems


@dataclass(frozen=True)
class _Order:
    """What the runs of a study have in common, wherever they are trained."""

    experiment: str
    uri: str
    data_dir: str | None
    driver: str
    threads: int


def _train(order: _Order, config: RunConfig) -> str:
    """In a process of an executor: train one run, unless the store has it by now; what went wrong, as a line."""
    try:
        store.must_be_here(order.uri)
        while True:
            try:
                return _train_alone(order, config)
            except claim.TakenError:
                continue
    except Exception as error:  # one run's failure, whatever it is, must not end the others
        return as_line(error)


def _train_alone(order: _Order, config: RunConfig) -> str:
    from trainers.loop import train

    client = store.client(order.uri)
    runs = claim.runs_of(client, config.digest)
    held = _held(client, runs, order.experiment, order.driver).get(config.digest)
    if held and held.state == DONE:  # where it is ours, its process was lost after the last word to the store
        ours = [r.info.run_id for r in runs if r.data.tags.get(names.TAG_DRIVER) == order.driver]
        return DONE if held.run_id in ours else SKIPPED
    if held and held.state == RUNNING:
        return SKIPPED
    lost = _lost(runs, store.find_experiment(client, order.experiment).experiment_id)
    with claim.Claim(client, config.digest, order.driver) as mine:
        run_id = mine.take_up(lost.pop()) if lost else None
        claim.bury(client, lost)
        train(
            config,
            order.experiment,
            order.uri,
            order.data_dir,
            threads=order.threads,
            tags=mine.tags,
            run_id=run_id,
            started=mine.hold if run_id else mine.begin,
        )
    return DONE


def _lost(runs: "Iterable[Run]", home: str) -> "list[Run]":
    """The runs of a configuration that can go on, of those that nobody has in hand."""
    at_home = [run for run in runs if run.info.experiment_id == home and names.TAG_ABORTED_AT not in run.data.tags]
    return [run for run in at_home if run.info.status in ("RUNNING", "KILLED") and "method" in run.data.params]


def _record_failure(client: "MlflowClient", home: str, config: RunConfig, problem: str) -> None:
    """A run that failed before it could log anything stands in the store as failed all the same."""
    if claim.runs_of(client, config.digest):
        return
    tags = {names.TAG_CONFIG_SHA256: config.digest, names.TAG_NOTE: problem}
    with store.store_errors():
        run = client.create_run(home, tags=tags, run_name=config.method)
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


def _held(client: "MlflowClient", runs: "Iterable[Run]", experiment: str, driver: str = "") -> dict[str, Held]:
    """By configuration hash, the best that any of ``runs`` has reached.

    A failure elsewhere is no matter of this study, nor is a run that a flag stopped early.
    """
    experiments = {e.experiment_id: e.name for e in store.all_experiments(client)}
    rank: Sequence[str] = (FAILED, RUNNING, DONE)
    best: dict[str, Held] = {}
    for run in runs:
        held = Held(_state(run, driver), run.info.run_id, experiments[run.info.experiment_id])
        if names.TAG_ABORTED_AT in run.data.tags or (held.state == FAILED and held.experiment != experiment):
            continue
        before = best.get(run.data.tags[names.TAG_CONFIG_SHA256])
        if before is None or rank.index(held.state) >= rank.index(before.state):
            best[run.data.tags[names.TAG_CONFIG_SHA256]] = held
    return best


def _state(run: "Run", driver: str) -> str:
    if run.info.status == "FINISHED":
        return DONE
    return RUNNING if claim.in_hand(run, driver) else FAILED
