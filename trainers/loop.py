"""One loop for every method, architecture and data set."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch import Tensor

from fa_tracking import cells
from fa_tracking.errors import UsageError
from fa_tracking.protocol.alignment import Credit
from fa_tracking.protocol.batches import evaluation_batches
from fa_tracking.protocol.capture import Capture
from fa_tracking.tracking import names, process, store
from fa_tracking.tracking.abort import Abort
from fa_tracking.tracking.checkpoint import DataSource, RuleSource
from fa_tracking.tracking.opening import resume_run, start_run
from fa_tracking.tracking.run import TrackedRun
from trainers import data
from trainers.augmentation import AUGMENTATIONS
from trainers.cell import Cell, cell_of, untrained
from trainers.config import RunConfig
from trainers.model import BlockModel
from trainers.recipe import clip, clipped_parts, label_draw, labels_of, rate

if TYPE_CHECKING:
    from mlflow.entities import Run

NULL_SEEDS = range(-10, 0)
"""Of the fresh draws behind the null: below zero, where no run's own seed can be."""
EVALUATION_CHUNK = 2000


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


Progress = Callable[[int, int, float], None]
"""progress(epoch, epochs, accuracy): called after each epoch."""


def train(
    config: RunConfig,
    experiment: str,
    tracking_uri: str | None = None,
    data_dir: str | None = None,
    download: bool = False,
    checkpoint_every: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
    tags: Mapping[str, str] | None = None,
    abort: Abort | None = None,
    run_id: str | None = None,
    state_seconds: float = 60.0,
    started: Callable[[str], None] | None = None,
    device: str = "cpu",
    functional: bool = False,
) -> str:
    """Train one run, logging diagnostics each epoch and a checkpoint at the end; its MLflow run id.

    The same config on the same machine with the same number of threads gives the same metrics to the last bit, also
    where a process was killed on the way and another one went on with the run.

    Args:
        checkpoint_every: also save a checkpoint every so many epochs; 0: only the last.
        abort: stops the run where a flag holds; its last checkpoint is saved then as at the planned end.
        started: called with the run's id before it trains; what it raises ends the run.
        threads: of the matrix products. One a process is best where several runs train side by side.
        run_id: go on with this run of the same config, from the last training state that it saved.
        state_seconds: save the training state at the end of an epoch when so many seconds have passed since the last.
        device: as torch names it: the network and the data lie there.
        functional: measure in each epoch what the credits do to the loss.

    Raises:
        UsageError: the config names something that does not exist, or there is no such device; nothing is written then.
    """
    if not experiment:
        raise UsageError("the experiment needs a name")
    prepare(threads, device)
    dataset = data.load(config.dataset, data_dir, download)
    cell, on_device = cell_of(config, dataset, device), dataset.to(device)
    tags = tags_of(config, data_dir, tags)
    opened = resume_run(run_id, tracking_uri) if run_id else new_run(config, experiment, tracking_uri, tags)
    with opened as run:
        for key, value in tags.items() if run_id else ():
            run.set_tag(key, value)
        if started:
            started(run.run_id)
        saves = Saves(checkpoint_every, state_seconds)
        running = Running(cell, on_device, Probe.of(cell, on_device), run, saves, abort, functional)
        train_on(running, resumed(running) + 1, progress)
    return run.run_id


def prepare(threads: int, device: str) -> None:
    """What torch is to use in this process.

    Raises:
        UsageError: there is no such device.
    """
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms(True), which imports the compiler
    # else every new tensor is written twice
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    must_be_here(device)


def must_be_here(device: str) -> None:
    """
    Raises:
        UsageError: there is no such device.
    """
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = str(error).splitlines()[0].partition(". ")[0]
        raise UsageError(f"no device {device!r} here: {said}") from error


def tags_of(config: RunConfig, data_dir: str | None, tags: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a run carries beside its params."""
    return {
        names.TAG_CONFIG_SHA256: config.digest,
        **(tags or {}),
        **({names.TAG_DATA_DIR: str(Path(data_dir).resolve())} if data_dir else {}),
    }


def new_run(
    config: RunConfig, experiment: str, tracking_uri: str | None, tags: Mapping[str, str], active: bool = True
) -> AbstractContextManager[TrackedRun]:
    """The run of a config, for the length of a ``with`` block."""
    params = {name: getattr(config, name) for name in names.PARAMS}
    return start_run(experiment, tracking_uri, tags=tags, active=active, **params)


def resume(run_id: str, tracking_uri: str | None = None, data_dir: str | None = None, **options: Any) -> str:
    """Go on with a run of ``train`` whose process was killed; the name of its experiment.

    Args:
        options: those of ``train`` that are no part of its config: ``checkpoint_every``, ``threads``, ``abort``, ….

    Raises:
        UsageError: there is no such run, it is finished, is being written by another process, or was not begun by
            ``train`` of this version.
    """
    client = store.reader(tracking_uri)
    with store.store_errors():
        run = client.get_run(run_id)
        experiment = client.get_experiment(run.info.experiment_id).name
    if run.info.status == "FINISHED":
        raise UsageError(f"run {run_id} is finished")
    if run.info.status == "RUNNING" and process.is_alive(run.data.tags.get(names.TAG_PROCESS, "")):
        raise UsageError(f"run {run_id} is being written by {run.data.tags[names.TAG_PROCESS]}")
    config = _config_of(run)
    data_dir = data_dir or run.data.tags.get(names.TAG_DATA_DIR)
    train(config, experiment, tracking_uri, data_dir, run_id=run_id, **options)
    return experiment


def _config_of(run: "Run") -> RunConfig:
    params = run.data.params
    meant: dict[str, str | int | None] = {name: params.get(name, cells.ABSENT.get(name)) for name in names.PARAMS}
    meant[names.TRAINABLE_BLOCKS] = cells.trained_blocks(params)  # where all are, a cell's params hold no number
    config, why = None, ""
    try:
        config = RunConfig(**{name: value for name, value in meant.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        why = f": {' '.join([*map(str, first['loc']), first['msg'].removeprefix('Value error, ')])}"
    if config is None or config.digest != run.data.tags.get(names.TAG_CONFIG_SHA256):
        raise UsageError(f"run {run.info.run_id} was not begun by `fa-track train` or `study` of this version{why}")
    return config


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
    def of(cls, cell: Cell, dataset: data.Dataset) -> "Probe":
        rule, device = cell.rule, dataset.test.inputs.device
        seeds = NULL_SEEDS if rule.has_credit and rule.has_null else ()
        return cls(evaluation_inputs(dataset), [rule.fresh(cell.model, seed).to(device).credit for seed in seeds])


@dataclass
class Running:
    """A cell that is being trained, on what, and where it is logged; ``functional``: with the functional measures."""

    cell: Cell
    dataset: data.Dataset
    probe: Probe
    run: TrackedRun
    saves: Saves
    abort: Abort | None = None
    functional: bool = False

    def end_epoch(
        self,
        epoch: int,
        metrics: Mapping[str, float],
        accuracy: float,
        captures: Sequence[Capture] | None = None,
        seconds: float = 0.0,
    ) -> bool:
        """Measure, log and save what an epoch has left; whether the run stops here.

        Args:
            captures: of the probe's batches, where they were taken with other cells', in ``seconds`` of this one's.
        """
        model, rule, epochs, abort = self.cell.model, self.cell.rule, self.cell.config.epochs, self.abort
        report = self.run.log_epoch(
            epoch,
            model,
            self.probe.batches,
            accuracy,
            rule.credit if rule.has_credit else None,
            self.probe.null,
            metrics,
            null_batches=rule.null_batches,
            captures=captures,
            captured_in=seconds,
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
            training = self.cell.state
            self.run.log_state(epoch, training.tensors(), training.values() | {"held": abort.held if abort else 0})
        return last


def train_on(running: Running, first: int, progress: Progress | None = None) -> None:
    """Train a cell from its epoch ``first`` to its end, by itself."""
    cell, dataset = running.cell, running.dataset
    for epoch in range(first, cell.config.epochs + 1):
        began = time.perf_counter()
        metrics = train_epoch(cell, dataset, epoch) if epoch else {}
        accuracy = evaluate(cell.model, dataset)
        metrics |= {names.EPOCH_SECONDS: time.perf_counter() - began} if epoch else {}
        ended = running.end_epoch(epoch, metrics, accuracy)
        if progress:
            progress(epoch, cell.config.epochs, accuracy)
        if ended:
            break
    running.run.forget_states()


def resumed(running: Running) -> int:
    """The epoch that the run has behind it, taken over with its state; -1 for a run that begins, or begins anew."""
    saved = running.run.last_state() if running.run.is_resumed else None
    if saved is None:
        return -1
    running.cell.state.restore(saved.tensors, saved.values)
    if running.abort:
        running.abort.held = int(saved.values["held"])
    return saved.epoch


def train_epoch(cell: Cell, dataset: data.Dataset, epoch: int) -> dict[str, float]:
    """One pass over the training set; loss and accuracy as they were met on the way."""
    config, model, rule, optimizer = cell.config, cell.model, cell.rule, cell.optimizer
    begin_epoch(cell, epoch)
    parts, is_clipped = clipped_parts(model), math.isfinite(config.clip_norm)
    samples = len(dataset.train.labels)
    losses, sizes, predicted, labels = [], [], [], []  # summed up once an epoch, not in every step
    for x, y in _shuffled(dataset, config, cell.order, label_draw(config, epoch)):
        optimizer.zero_grad()
        loss, logits = rule.backward(model, x, y, config.penalty)
        if is_clipped:
            clip(parts, config.clip_norm)
            rule.follow(model)
        optimizer.step()
        losses.append(loss)
        sizes.append(len(y))
        predicted.append(logits.argmax(1))
        labels.append(y)
    mean_loss = (torch.stack(losses).double().cpu() @ torch.tensor(sizes).double()).item() / samples
    return as_met(mean_loss, (torch.cat(predicted) == torch.cat(labels)).sum().item() / samples)


def begin_epoch(cell: Cell, epoch: int) -> None:
    """Bring a cell to what its epoch asks for: training mode, the learning rate, the rule's own phase."""
    cell.model.train()
    for block in untrained(cell.model, cell.config):
        block.eval()  # its BatchNorm keeps its statistics too
    for group in cell.optimizer.param_groups:
        group["lr"] = rate(cell.config, epoch)
    cell.rule.begin_epoch(epoch, cell.config.epochs)


def as_met(loss: float, accuracy: float) -> dict[str, float]:
    """The metrics of the training set as they were met on the way; no accuracy of a network that has diverged."""
    return {names.LOSS_TRAIN: loss, names.ACCURACY_TRAIN: accuracy if math.isfinite(loss) else math.nan}


def _shuffled(
    dataset: data.Dataset, config: RunConfig, order: torch.Generator, draw: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    train, augment = dataset.train, AUGMENTATIONS[config.augmentation]
    shuffled = torch.randperm(len(train.labels), generator=order).to(train.labels.device)
    for index in shuffled.split(config.batch_size):
        x = augment(train.inputs.index_select(0, index), dataset.normalisation, order)
        yield x, labels_of(config, train.labels[index], dataset.classes, draw)


def evaluate(model: BlockModel, dataset: data.Dataset) -> float:
    """Accuracy on the whole test set, in [0, 1]; NaN for a network whose logits are not finite: it has diverged."""
    model.eval()
    correct = 0
    with torch.no_grad():
        for x, y in zip(
            dataset.test.inputs.split(EVALUATION_CHUNK), dataset.test.labels.split(EVALUATION_CHUNK), strict=True
        ):
            logits = model(dataset.normalisation(x))
            if not logits.isfinite().all():
                return math.nan
            correct += int((logits.argmax(1) == y).sum())
    return correct / len(dataset.test.labels)


def evaluation_inputs(dataset: data.Dataset) -> list[tuple[Tensor, Tensor]]:
    """The protocol's disjoint test batches, normalised."""
    test = dataset.test
    indices = evaluation_batches(len(test.labels))
    return [(dataset.normalisation(test.inputs[i]), test.labels[i]) for i in indices]


def _source(dataset: data.Dataset) -> DataSource:
    return DataSource(
        name=dataset.name,
        loader="trainers",
        test_sha256=dataset.test.digest,
        mean=dataset.normalisation.mean,
        std=dataset.normalisation.std,
    )
