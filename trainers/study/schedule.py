"""Runs a study: what the store already holds of it, and the rest, wherever an executor lets it run."""

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fa_tracking import catalogue, executors
from fa_tracking.errors import FATrackError, UsageError, no_such
from fa_tracking.executors import Needs, Problem, as_line
from fa_tracking.tracking import address, names, store
from fa_tracking.tracking.spool import recover
from trainers.config import RunConfig
from trainers.study import lease
from trainers.study.grid import Study

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from fa_tracking.tracking.abort import Abort
    from fa_tracking.tracking.run import TrackedRun

Stacking = int | Literal["auto", "off"]
MOST_STACKED = 64
SECONDS_BETWEEN_LOOKS, SHARE_OF_LOOKING = 2.0, 0.05
"""How long the store is left alone at least, and which part of the time it may be asked how far the runs are."""
DONE, ABORTED, RUNNING, KILLED, FAILED, MISSING = "done", "aborted", "running", "killed", "failed", "missing"
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


Trained = Callable[[float, int], None]
"""trained(runs, total): every few seconds, how many runs are trained, those under way by their share of epochs."""

Finished = Callable[[RunConfig, str, int, int], None]
"""finished(config, outcome, done, total): for each run after it, and those that trained with it, have ended.

The outcome is ``DONE``, ``SKIPPED``, or a problem.
"""


def cells(study: Study, tracking_uri: str | None = None) -> list[Cell]:
    """Every run of the study with its state in the store."""
    missing, known = Held(MISSING, None, study.experiment), {}
    if store.missing(tracking_uri) is None:
        client = store.reader(tracking_uri)
        known = _held(client, lease.runs_of(client), study.experiment)
    return [Cell(config, known.get(config.digest, missing)) for config in study.cells()]


def run(
    study: Study,
    tracking_uri: str | None = None,
    data_dir: str | None = None,
    needs: Needs | None = None,
    finished: Finished | None = None,
    executor: str = "local",
    stack: Stacking = "off",
    device: str = "cpu",
    compiled: bool = False,
    abort: "Abort | None" = None,
    trained: Trained | None = None,
    functional: bool = False,
) -> dict[str, str]:
    """Train what the store does not hold yet, by one of ``fa_tracking.executors``.

    Another ``run`` may go on at the same time, on whatever machine: each takes what the other has not begun. When this
    one ends, however it ends, no run that it handed out stands as running.

    Args:
        stack: how many runs of one shape train as one program: ``auto`` where it pays, ``off``, or so many at most.
        device: as torch names it.
        compiled: whether ``torch.compile`` makes a program of each stack's step.
        abort: stops a run where a flag holds. Without it, what a flag has stopped before is trained anew.
        functional: measure in each epoch what the credits do to the loss; an audit does so in any case.
        trained: called from a thread of its own; the store is asked for what it is told.

    Returns:
        The problem of each run that failed, by the hash of its configuration.

    Raises:
        UsageError: the study names what does not exist, or the executor cannot do what it should; nothing has been
            trained then.
    """
    from trainers import loop

    known = cells(study, tracking_uri)
    recover.clear(cell.held.run_id for cell in known if cell.held.run_id and cell.held.state == DONE)
    wanted = (MISSING, FAILED, KILLED) if abort else (MISSING, FAILED, KILLED, ABORTED)
    todo = [cell.config for cell in known if cell.held.state in wanted]
    if not todo:
        return {}
    _check(todo, data_dir)
    if executor == "local":  # the machines of others may have what this one has not
        loop.must_be_here(device)
        if compiled:
            from trainers.stacked.recorded import must_compile

            must_compile(device)
    needs, uri = needs or Needs(), address.absolute(store.client(tracking_uri).tracking_uri)
    store.must_be_here(uri)
    client, folder = store.client(uri), str(Path(data_dir).resolve()) if data_dir else None
    driver, options = uuid.uuid4().hex, (device, compiled, abort, functional)
    order = _Order(study.experiment, uri, folder, driver, needs.cpus_per_run, *options)
    home = store.experiment_id(client, study.experiment)
    problems: dict[str, str] = {}
    skipped: list[RunConfig] = []
    packs, done = _packs(todo, stack, device, needs.jobs or 1), 0
    try:
        jobs = executors.run(executor, partial(_train, order), packs, needs)
        watched = _watched(client, home, order.driver, skipped, len(todo), trained) if trained else nullcontext()
        with watched, closing(jobs) as outcomes:
            for index, ended in outcomes:
                said = [ended.text] * len(packs[index]) if isinstance(ended, Problem) else ended
                for config, outcome in zip(packs[index], said, strict=True):
                    done += 1
                    if outcome == SKIPPED:
                        skipped.append(config)
                    elif outcome != DONE:
                        problems[config.digest] = outcome
                        _record_failure(client, home, order.driver, config, outcome)
                    if finished:
                        finished(config, outcome, done, len(todo))
    finally:
        with suppress(FATrackError):  # a store that does not answer is another error's matter
            lease.bury(client, store.search_runs(client, [home], f"tags.`{names.TAG_DRIVER}` = '{order.driver}'"))
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


@dataclass(frozen=True)
class _Order:
    """What the runs of a study have in common, wherever they are trained."""

    experiment: str
    uri: str
    data_dir: str | None
    driver: str
    threads: int
    device: str
    compiled: bool
    abort: "Abort | None"
    functional: bool


def _packs(todo: Sequence[RunConfig], stack: Stacking, device: str, jobs: int) -> list[list[RunConfig]]:
    """What each job trains: a run, or a stack of runs; no more than leaves every process at a time one of its own."""
    from trainers.stacked.together import pays, stacks

    if stack == "off":
        return [[config] for config in todo]
    if stack == "auto":
        stacked = stacks([c for c in todo if pays(c, device)], MOST_STACKED, jobs)
        return stacked + [[config] for config in todo if not pays(config, device)]
    return stacks(todo, stack, jobs)


def _train(order: _Order, configs: Sequence[RunConfig]) -> list[str]:
    """In a process of an executor: train the runs of a stack, unless the store has them by now; what became of each.

    Who cannot go with the others, since its run is another's or was begun before, goes alone afterwards.
    """
    together = _train_together(order, configs) if len(configs) > 1 else {}
    return [together.get(config.digest) or _train_one(order, config) for config in configs]


def _train_together(order: _Order, configs: Sequence[RunConfig]) -> dict[str, str]:
    """What became of those that have come to an end together."""
    from trainers import data
    from trainers.loop import prepare
    from trainers.stacked.together import Order, train_together

    try:
        store.must_be_here(order.uri)
        client = store.client(order.uri)
        fresh = [config for config in configs if _begins_anew(order, client, config)]
        if len(fresh) < 2:
            return {}
        prepare(order.threads, order.device)
        dataset = data.load(fresh[0].dataset, order.data_dir)
        orders = [Order(config, partial(_opened, order, client, config)) for config in fresh]
        ended = train_together(
            orders,
            dataset,
            order.device,
            abort=order.abort,
            compiled=order.compiled,
            functional=order.functional,
        )
    except Exception as error:
        return {config.digest: as_line(error) for config in configs}
    outcomes = zip(fresh, ended, strict=True)
    return {c.digest: DONE if e is None else as_line(e) for c, e in outcomes if not isinstance(e, lease.TakenError)}


def _begins_anew(order: _Order, client: "MlflowClient", config: RunConfig) -> bool:
    """Whether nothing of it is done, in hand, or left by a process that was killed."""
    held = _held(client, lease.runs_of(client, config.digest), order.experiment, order.driver).get(config.digest)
    return held is None or held.state == FAILED or (held.state == ABORTED and not order.abort)


@contextmanager
def _opened(order: _Order, client: "MlflowClient", config: RunConfig) -> "Iterator[TrackedRun]":
    """The run of a config that nobody else has, for the length of a ``with`` block.

    Raises:
        TakenError: somebody else has it.
    """
    from trainers.loop import new_run, tags_of

    with lease.Lease(client, config.digest, order.driver) as mine:
        tags = tags_of(config, order.data_dir, mine.tags)
        with new_run(config, order.experiment, order.uri, tags, active=False) as run:
            mine.begin(run.run_id)
            yield run


def _train_one(order: _Order, config: RunConfig) -> str:
    """Train one run, unless the store has it by now; what became of it."""
    try:
        store.must_be_here(order.uri)
        while True:
            try:
                return _train_alone(order, config)
            except lease.TakenError:
                continue
    except Exception as error:  # one run's failure, whatever it is, must not end the others
        return as_line(error)


def _train_alone(order: _Order, config: RunConfig) -> str:
    from trainers.loop import train

    client = store.client(order.uri)
    runs = lease.runs_of(client, config.digest)
    held = _held(client, runs, order.experiment, order.driver).get(config.digest)
    if held and held.state == ABORTED and order.abort:
        return DONE
    if held and held.state == DONE:  # where it is ours, its process was lost after the last word to the store
        ours = [r.info.run_id for r in runs if r.data.tags.get(names.TAG_DRIVER) == order.driver]
        return DONE if held.run_id in ours else SKIPPED
    if held and held.state == RUNNING:
        return SKIPPED
    lost = _lost(runs, store.find_experiment(client, order.experiment).experiment_id)
    with lease.Lease(client, config.digest, order.driver) as mine:
        run_id = mine.take_up(lost.pop()) if lost else None
        lease.bury(client, lost)
        train(
            config,
            order.experiment,
            order.uri,
            order.data_dir,
            threads=order.threads,
            device=order.device,
            abort=order.abort and order.abort.anew(),
            tags=mine.tags,
            run_id=run_id,
            started=mine.hold if run_id else mine.begin,
            functional=order.functional,
        )
    return DONE


def _lost(runs: "Iterable[Run]", home: str) -> "list[Run]":
    """The runs of a configuration that can go on, of those that nobody has in hand."""
    at_home = [run for run in runs if run.info.experiment_id == home and names.TAG_ABORTED_AT not in run.data.tags]
    return [run for run in at_home if run.info.status in ("RUNNING", "KILLED") and "method" in run.data.params]


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
    from trainers import data, methods, models
    from trainers.augmentation import AUGMENTATIONS
    from trainers.cell import OPTIMIZERS

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


def _held(client: "MlflowClient", runs: "Iterable[Run]", experiment: str, driver: str = "") -> dict[str, Held]:
    """By configuration hash, the best that any of ``runs`` has reached.

    A failure elsewhere is no matter of this study, nor is a run elsewhere that a flag stopped early.
    """
    experiments = {e.experiment_id: e.name for e in store.all_experiments(client)}
    rank: Sequence[str] = (FAILED, KILLED, ABORTED, RUNNING, DONE)
    best: dict[str, Held] = {}
    for run in runs:
        held = Held(_state(run, driver), run.info.run_id, experiments[run.info.experiment_id])
        if held.state in (FAILED, KILLED, ABORTED) and held.experiment != experiment:
            continue
        before = best.get(run.data.tags[names.TAG_CONFIG_SHA256])
        if before is None or rank.index(held.state) >= rank.index(before.state):
            best[run.data.tags[names.TAG_CONFIG_SHA256]] = held
    return best


def _state(run: "Run", driver: str) -> str:
    if run.info.status == "FINISHED":
        return ABORTED if names.TAG_ABORTED_AT in run.data.tags else DONE
    if lease.in_hand(run, driver):
        return RUNNING
    return FAILED if run.info.status == "FAILED" else KILLED
