"""A learner in training: what each epoch is measured with, and what of it is logged and saved."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from fa_tracking.protocol.alignment import Credit
from fa_tracking.protocol.capture import Capture
from fa_tracking.tracking import names
from fa_tracking.tracking.abort import Abort
from fa_tracking.tracking.checkpoint import DataSource, RuleSource
from fa_tracking.tracking.run import TrackedRun
from fa_tracking.trainers import data
from fa_tracking.trainers.learner import Learner
from fa_tracking.trainers.loop import Met, evaluate, evaluation_inputs, train_epoch
from fa_tracking.trainers.options import RunOptions

NULL_SEEDS = range(-10, 0)
"""Of the fresh draws behind the null: below zero, where no run's own seed can be."""

Progress = Callable[[int, int, float], None]
"""progress(epoch, epochs, accuracy): called after each epoch."""


@dataclass
class Saves:
    """When a run saves: a checkpoint every so many epochs, its training state every so many seconds."""

    checkpoint_every: int
    state_seconds: float
    _saved: float = field(default_factory=time.monotonic)

    def checkpoint_is_due(self, epoch: int) -> bool:
        return self.checkpoint_every > 0 and epoch % self.checkpoint_every == 0

    def state_is_due(self) -> bool:
        now = time.monotonic()
        is_due = now - self._saved >= self.state_seconds
        self._saved = now if is_due else self._saved
        return is_due


@dataclass(frozen=True)
class Probe:
    """What every epoch is measured with.

    Attributes:
        batches: the protocol's test batches.
        null: the credit of the rule with fresh feedback; the same draws for every seed of a cell.
    """

    batches: list[tuple[Tensor, Tensor]]
    null: list[Credit]

    @classmethod
    def of(cls, learner: Learner, dataset: data.Dataset) -> "Probe":
        rule, device = learner.rule, dataset.test.inputs.device
        seeds = NULL_SEEDS if rule.has_credit and rule.has_null else ()
        return cls(evaluation_inputs(dataset), [rule.fresh(learner.model, seed).to(device).credit for seed in seeds])


@dataclass
class Running:
    """A learner in training, on what, and where it is logged; ``functional``: with the functional measures."""

    learner: Learner
    dataset: data.Dataset
    probe: Probe
    run: TrackedRun
    saves: Saves
    abort: Abort | None = None
    functional: bool = False

    @classmethod
    def of(
        cls, learner: Learner, dataset: data.Dataset, probe: Probe, run: TrackedRun, options: RunOptions
    ) -> "Running":
        """A learner that is trained as ``options`` say."""
        saves = Saves(options.checkpoint_every, options.state_seconds)
        abort = options.abort and options.abort.anew()  # each run is counted by itself
        return cls(learner, dataset, probe, run, saves, abort, options.functional)

    def end_epoch(
        self,
        epoch: int,
        met: Met | None,
        accuracy: float,
        seconds: float,
        captures: Sequence[Capture] | None = None,
        captured_in: float = 0.0,
    ) -> bool:
        """Measure, log and save what an epoch has left; whether the run stops here.

        Args:
            met: on the training set, in an epoch that trained.
            seconds: that the epoch took, its test set included.
            captures: of the probe's batches, where they were taken with other learners', in ``captured_in`` seconds of
                this one's.
        """
        model, rule, epochs, abort = self.learner.model, self.learner.rule, self.learner.config.epochs, self.abort
        report = self.run.log_epoch(
            epoch,
            model,
            self.probe.batches,
            accuracy,
            rule.credit if rule.has_credit else None,
            self.probe.null,
            metrics_of(met, seconds),
            null_batches=rule.null_batches,
            captures=captures,
            captured_in=captured_in,
            functional=self.functional,
        )
        stop = bool(abort and 0 < epoch < epochs and abort(report))  # at epoch 0 nothing has been trained yet
        if stop:
            self.run.mark_aborted(report)
        last = stop or epoch == epochs
        if last or self.saves.checkpoint_is_due(epoch):
            made_by = None
            if rule.factory:
                made_by = RuleSource(factory=rule.factory, definition=rule.definition, arguments=rule.config or {})
            self.run.log_checkpoint(model, rule.state_dict(), epoch, dataset=_source(self.dataset), rule=made_by)
        if not last and self.saves.state_is_due():
            training = self.learner.state
            self.run.log_state(epoch, training.tensors(), training.values() | {"held": abort.held if abort else 0})
        return last


def metrics_of(met: Met | None, seconds: float) -> dict[str, float]:
    """What an epoch that trained logs beside its diagnostics."""
    if met is None:
        return {}
    return {names.LOSS_TRAIN: met.loss, names.ACCURACY_TRAIN: met.accuracy, names.EPOCH_SECONDS: seconds}


def train_on(running: Running, first: int, progress: Progress | None = None) -> None:
    """Train a learner from its epoch ``first`` to its end, by itself."""
    learner, dataset = running.learner, running.dataset
    for epoch in range(first, learner.config.epochs + 1):
        began = time.perf_counter()
        met = train_epoch(learner, dataset, epoch) if epoch else None
        accuracy = evaluate(learner.model, dataset)
        ended = running.end_epoch(epoch, met, accuracy, time.perf_counter() - began)
        if progress:
            progress(epoch, learner.config.epochs, accuracy)
        if ended:
            break
    running.run.forget_states()


def resumed(running: Running) -> int:
    """The epoch that the run has behind it, taken over with its state; -1 for a run that begins, or begins anew."""
    saved = running.run.last_state() if running.run.is_resumed else None
    if saved is None:
        return -1
    running.learner.state.restore(saved.tensors, saved.values)
    if running.abort:
        running.abort.held = int(saved.values["held"])
    return saved.epoch


def _source(dataset: data.Dataset) -> DataSource:
    return DataSource(
        name=dataset.name,
        loader="trainers",
        test_sha256=dataset.test.digest,
        mean=dataset.normalisation.mean,
        std=dataset.normalisation.std,
    )
