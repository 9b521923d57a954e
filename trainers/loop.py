"""One loop for every method, architecture and data set."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch import Tensor

from fa_tracking import catalogue
from fa_tracking.errors import UsageError
from fa_tracking.protocol.batches import evaluation_batches
from fa_tracking.tracking import names, process, store
from fa_tracking.tracking.abort import Abort
from fa_tracking.tracking.checkpoint import DataSource
from fa_tracking.tracking.run import TrackedRun, resume_run, start_run
from trainers import data, methods, models
from trainers.augmentation import AUGMENTATIONS
from trainers.config import RunConfig
from trainers.method import LearningRule, generator
from trainers.model import BlockModel
from trainers.state import Training

if TYPE_CHECKING:
    from mlflow.entities import Run

NULL_SEEDS = range(-10, 0)
"""Of the fresh draws behind the null: below zero, where no run's own seed can be."""
EVALUATION_CHUNK = 2000
OPTIMIZERS = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


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
) -> str:
    """Train one run, logging diagnostics each epoch and a checkpoint at the end; its MLflow run id.

    The same config on the same machine with the same number of threads gives the same metrics to the last bit, also
    where a process was killed on the way and another one went on with the run.

    Args:
        checkpoint_every: also save a checkpoint every so many epochs; 0: only the last.
        abort: stops the run where a flag holds; its last checkpoint is saved then as at the planned end.
        threads: of the matrix products. One a process is best where several runs train side by side.
        run_id: go on with this run of the same config, from the last training state that it saved.
        state_seconds: save the training state at the end of an epoch when so many seconds have passed since the last.

    Raises:
        UsageError: the config names something that does not exist; nothing is written then.
    """
    if not experiment:
        raise UsageError("the experiment needs a name")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    dataset = data.load(config.dataset, data_dir, download)
    model, rule = build(config, dataset)
    if config.optimizer not in OPTIMIZERS:
        raise UsageError(f"no optimizer named {config.optimizer!r}; there are: {', '.join(OPTIMIZERS)}")
    if config.augmentation not in AUGMENTATIONS:
        raise UsageError(f"no augmentation named {config.augmentation!r}; there are: {', '.join(AUGMENTATIONS)}")
    _try_augmentation(config, dataset)
    tags = {
        names.TAG_CONFIG_SHA256: config.digest,
        **(tags or {}),
        **({names.TAG_DATA_DIR: str(Path(data_dir).resolve())} if data_dir else {}),
    }
    params = {name: getattr(config, name) for name in names.PARAMS}
    opened = resume_run(run_id, tracking_uri) if run_id else start_run(experiment, tracking_uri, tags=tags, **params)
    with opened as run:
        for key, value in tags.items() if run_id else ():
            run.set_tag(key, value)
        saves = Saves(checkpoint_every, state_seconds)
        _epochs(config, dataset, model, rule, run, saves, progress or (lambda *_: None), abort)
    return run.run_id


def resume(run_id: str, tracking_uri: str | None = None, data_dir: str | None = None, **options: Any) -> str:
    """Go on with a run of ``train`` whose process was killed; the name of its experiment.

    Args:
        options: those of ``train`` that are no part of its config: ``checkpoint_every``, ``threads``, ``abort``, ….

    Raises:
        UsageError: there is no such run, it is finished, is being written by another process, or was not begun by
            ``train`` of this version.
    """
    client = store.client(tracking_uri)
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
    try:
        config = RunConfig(**{name: run.data.params[name] for name in names.PARAMS})  # type: ignore[arg-type]
    except (KeyError, ValidationError) as error:
        config = None
        missing = str(error).splitlines()[0]
    if config is None or config.digest != run.data.tags.get(names.TAG_CONFIG_SHA256):
        why = f" ({missing})" if config is None else ""
        raise UsageError(f"run {run.info.run_id} was not begun by `fa-track train` or `study` of this version{why}")
    return config


def build(config: RunConfig, dataset: data.Dataset) -> tuple[BlockModel, LearningRule]:
    """The model and the learning rule of a config, drawn from its seed.

    Raises:
        UsageError: no such method or architecture.
    """
    method, architecture = catalogue.load(methods, config.method), catalogue.load(models, config.architecture)
    shape = {
        "input_shape": list(dataset.input_shape),
        "classes": dataset.classes,
        "width": config.width,
        "depth": config.depth,
    }
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        try:
            model = architecture.Model(**shape)
        except (ValueError, RuntimeError, MemoryError) as error:
            size = f"{config.architecture} of width {config.width} and depth {config.depth}"
            raise UsageError(f"{size} cannot be built: {error}") from error
    model.config, model.factory = shape, f"trainers:{config.architecture}"
    if config.frozen_blocks:
        model.blocks.requires_grad_(False)
    try:
        return model, method.Method(model, config.seed)
    except ValueError as error:
        raise UsageError(f"{config.method} does not run on {config.architecture}: {error}") from error


def _try_augmentation(config: RunConfig, dataset: data.Dataset) -> None:
    try:
        AUGMENTATIONS[config.augmentation](dataset.train.inputs[:1], generator(config.seed, "augmentation"))
    except ValueError as error:
        raise UsageError(f"{config.augmentation} does not fit {config.dataset}: {error}") from error


def _epochs(
    config: RunConfig,
    dataset: data.Dataset,
    model: BlockModel,
    rule: LearningRule,
    run: TrackedRun,
    saves: Saves,
    progress: Progress,
    abort: Abort | None,
) -> None:
    trainable = [p for p in (*model.parameters(), *rule.parameters()) if p.requires_grad]
    optimizer = OPTIMIZERS[config.optimizer](trainable, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    batches = evaluation_inputs(dataset)
    credit = rule.credit if rule.has_credit else None
    null = [rule.fresh(model, seed).credit for seed in NULL_SEEDS] if credit and rule.has_null else []
    order = generator(config.seed, "data order")
    training = Training(model, rule, optimizer, order)
    for epoch in range(_resumed(run, training, abort) + 1, config.epochs + 1):
        began = time.perf_counter()
        metrics = train_epoch(config, dataset, model, rule, optimizer, order) if epoch else {}
        accuracy = evaluate(model, dataset)
        metrics |= {names.EPOCH_SECONDS: time.perf_counter() - began} if epoch else {}
        report = run.log_epoch(epoch, model, batches, accuracy, credit, null, metrics, null_batches=rule.null_batches)
        stop = bool(abort and 0 < epoch < config.epochs and abort(report))  # at epoch 0 nothing has been trained yet
        if stop:
            run.mark_aborted(report)
        last = stop or epoch == config.epochs
        if last or saves.checkpoint_is_due(epoch):
            run.log_checkpoint(model, rule.state_dict(), epoch, dataset=_source(dataset))
        if not last and saves.state_is_due():
            run.log_state(epoch, training.tensors(), training.values() | {"held": abort.held if abort else 0})
        progress(epoch, config.epochs, accuracy)
        if stop:
            break
    run.forget_states()


def _resumed(run: TrackedRun, training: Training, abort: Abort | None) -> int:
    """The epoch that the run has behind it, taken over with its state; -1 for a run that begins, or begins anew."""
    saved = run.last_state() if run.is_resumed else None
    if saved is None:
        return -1
    training.restore(saved.tensors, saved.values)
    if abort:
        abort.held = int(saved.values["held"])
    return saved.epoch


def train_epoch(
    config: RunConfig,
    dataset: data.Dataset,
    model: BlockModel,
    rule: LearningRule,
    optimizer: torch.optim.Optimizer,
    order: torch.Generator,
) -> dict[str, float]:
    """One pass over the training set; loss and accuracy as they were met on the way."""
    model.train()
    if config.frozen_blocks:
        model.blocks.eval()
    samples = len(dataset.train.labels)
    losses, sizes, predicted, labels = [], [], [], []  # summed up once an epoch, not in every step
    for x, y in _shuffled(dataset, config, order):
        optimizer.zero_grad()
        loss, logits = rule.backward(model, x, y, config.penalty)
        optimizer.step()
        losses.append(loss)
        sizes.append(len(y))
        predicted.append(logits.argmax(1))
        labels.append(y)
    mean_loss = (torch.stack(losses).double() @ torch.tensor(sizes).double()).item() / samples
    correct = (torch.cat(predicted) == torch.cat(labels)).sum().item()
    accuracy = correct / samples if math.isfinite(mean_loss) else math.nan
    return {names.LOSS_TRAIN: mean_loss, names.ACCURACY_TRAIN: accuracy}


def _shuffled(dataset: data.Dataset, config: RunConfig, order: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    train, augment = dataset.train, AUGMENTATIONS[config.augmentation]
    for index in torch.randperm(len(train.labels), generator=order).split(config.batch_size):
        yield dataset.normalisation(augment(train.inputs[index], order)), train.labels[index]


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
