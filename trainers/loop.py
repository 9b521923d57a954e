"""One loop for every method, architecture and data set: an epoch of training, and the test set. It logs nothing."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fa_tracking.protocol.batches import evaluation_batches
from fa_tracking.trainers import data
from fa_tracking.trainers.augmentation import AUGMENTATIONS
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.learner import Learner, untrained
from fa_tracking.trainers.model import BlockModel
from fa_tracking.trainers.recipe import clip, clipped_parts, label_draw, labels_of, rate

EVALUATION_CHUNK = 2000


class Met(NamedTuple):
    """Loss and accuracy on the training set, as they were met on the way; the accuracy in [0, 1]."""

    loss: float
    accuracy: float

    @classmethod
    def of(cls, loss: float, accuracy: float) -> "Met":
        """No accuracy of a network that has diverged."""
        return cls(loss, accuracy if math.isfinite(loss) else math.nan)


def train_epoch(learner: Learner, dataset: data.Dataset, epoch: int) -> Met:
    """Train for one pass over the training set."""
    config, model, rule, optimizer = learner.config, learner.model, learner.rule, learner.optimizer
    begin_epoch(learner, epoch)
    parts, is_clipped = clipped_parts(model), math.isfinite(config.clip_norm)
    samples = len(dataset.train.labels)
    losses, sizes, predicted, labels = [], [], [], []  # summed up once an epoch, not in every step
    for x, y in shuffled_batches(dataset, config, learner.order, label_draw(config, epoch)):
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
    return Met.of(mean_loss, (torch.cat(predicted) == torch.cat(labels)).sum().item() / samples)


def begin_epoch(learner: Learner, epoch: int) -> None:
    """Bring a learner to what its epoch asks for: training mode, the learning rate, the rule's own phase."""
    learner.model.train()
    for block in untrained(learner.model, learner.config):
        block.eval()  # its BatchNorm keeps its statistics too
    for group in learner.optimizer.param_groups:
        group["lr"] = rate(learner.config, epoch)
    learner.rule.begin_epoch(epoch, learner.config.epochs)


def shuffled_batches(
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
