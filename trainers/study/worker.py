"""Trains what a study hands out, in a process of an executor: a run, or a stack of runs."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fa_tracking.executors import as_line
from fa_tracking.tracking import names, store
from fa_tracking.trainers import data, tracked
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.options import RunOptions
from fa_tracking.trainers.stacked.together import Order, train_together
from fa_tracking.trainers.study import lease
from fa_tracking.trainers.study.held import ABORTED, DONE, FAILED, RUNNING, SKIPPED, held_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from fa_tracking.tracking.run import TrackedRun


@dataclass(frozen=True)
class Terms:
    """What the runs of a study have in common, wherever they are trained.

    Attributes:
        driver: the study's own mark on the runs that it hands out.
        compiled: whether ``torch.compile`` makes a program of each stack's step.
    """

    experiment: str
    uri: str
    driver: str
    options: RunOptions
    compiled: bool


def train(terms: Terms, configs: Sequence[RunConfig]) -> list[str]:
    """Train the runs of a stack, unless the store has them by now; what became of each.

    Who cannot go with the others, since its run is another's or was begun before, goes alone afterwards.
    """
    together = _train_together(terms, configs) if len(configs) > 1 else {}
    return [together.get(config.digest) or _train_one(terms, config) for config in configs]


def _train_together(terms: Terms, configs: Sequence[RunConfig]) -> dict[str, str]:
    """What became of those that have come to an end together."""
    try:
        store.must_be_here(terms.uri)
        client = store.client(terms.uri)
        fresh = [config for config in configs if _begins_anew(terms, client, config)]
        if len(fresh) < 2:
            return {}
        tracked.prepare(terms.options)
        dataset = data.load(fresh[0].dataset, terms.options.data_dir, terms.options.download)
        orders = [Order(config, partial(_opened, terms, client, config)) for config in fresh]
        ended = train_together(orders, dataset, terms.options, terms.compiled)
    except Exception as error:
        return {config.digest: as_line(error) for config in configs}
    outcomes = zip(fresh, ended, strict=True)
    return {c.digest: DONE if e is None else as_line(e) for c, e in outcomes if not isinstance(e, lease.TakenError)}


def _begins_anew(terms: Terms, client: "MlflowClient", config: RunConfig) -> bool:
    """Whether nothing of it is done, in hand, or left by a process that was killed."""
    held = held_of(client, lease.runs_of(client, config.digest), terms.experiment, terms.driver).get(config.digest)
    return held is None or held.state == FAILED or (held.state == ABORTED and not terms.options.abort)


@contextmanager
def _opened(terms: Terms, client: "MlflowClient", config: RunConfig) -> "Iterator[TrackedRun]":
    """The run of a config that nobody else has, for the length of a ``with`` block.

    Raises:
        TakenError: somebody else has it.
    """
    with lease.Lease(client, config.digest, terms.driver) as mine:
        tags = tracked.tags_of(config, terms.options.data_dir, mine.tags)
        with tracked.new_run(config, terms.experiment, terms.uri, tags, active=False) as run:
            mine.begin(run.run_id)
            yield run


def _train_one(terms: Terms, config: RunConfig) -> str:
    """Train one run, unless the store has it by now; what became of it."""
    try:
        store.must_be_here(terms.uri)
        while True:
            try:
                return _train_alone(terms, config)
            except lease.TakenError:
                continue
    except Exception as error:  # one run's failure, whatever it is, must not end the others
        return as_line(error)


def _train_alone(terms: Terms, config: RunConfig) -> str:
    client = store.client(terms.uri)
    runs = lease.runs_of(client, config.digest)
    held = held_of(client, runs, terms.experiment, terms.driver).get(config.digest)
    if held and held.state == ABORTED and terms.options.abort:
        return DONE
    if held and held.state == DONE:  # where it is ours, its process was lost after the last word to the store
        ours = [r.info.run_id for r in runs if r.data.tags.get(names.TAG_DRIVER) == terms.driver]
        return DONE if held.run_id in ours else SKIPPED
    if held and held.state == RUNNING:
        return SKIPPED
    lost = _lost(runs, store.find_experiment(client, terms.experiment).experiment_id)
    with lease.Lease(client, config.digest, terms.driver) as mine:
        run_id = mine.take_up(lost.pop()) if lost else None
        lease.bury(client, lost)
        started = mine.hold if run_id else mine.begin
        tracked.train(
            config, terms.experiment, terms.uri, terms.options, started=started, tags=mine.tags, run_id=run_id
        )
    return DONE


def _lost(runs: "Iterable[Run]", home: str) -> "list[Run]":
    """The runs of a configuration that can go on, of those that nobody has in hand."""
    at_home = [run for run in runs if run.info.experiment_id == home and names.TAG_ABORTED_AT not in run.data.tags]
    return [run for run in at_home if run.info.status in ("RUNNING", "KILLED") and "method" in run.data.params]
