"""Trains learners that differ in seed, penalty, learning rate or weight decay alone as one stack (see ``stack.py``).

Each has its own data order, optimizer, run in MLflow and end. One that fails leaves the stack; one that diverges leaves
it and goes on by itself, as it would have without the others.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fa_tracking import catalogue
from fa_tracking.tracking.run import TrackedRun
from fa_tracking.trainers import data, methods
from fa_tracking.trainers.augmentation import AUGMENTATIONS
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.learner import Learner, learner_of
from fa_tracking.trainers.loop import EVALUATION_CHUNK, Met, begin_epoch
from fa_tracking.trainers.method import Penalty
from fa_tracking.trainers.options import DEFAULTS, RunOptions
from fa_tracking.trainers.recipe import label_draw, labels_of
from fa_tracking.trainers.running import Probe, Running, train_on
from fa_tracking.trainers.stacked.stack import Stack

FREE = {"seed": 0, "penalty": 0.0, "lr": 1e-3, "weight_decay": 0.0}
"""What learners of a stack may differ in, and any value of it."""

WIDEST_ON_CPU = 64
"""Beyond it a stack gains less than a fifth, for the memory of all its learners (``benchmarks/stack.py``)."""

Opened = Callable[[], AbstractContextManager[TrackedRun]]


@dataclass(frozen=True)
class Order:
    """A config to train, and what opens its run."""

    config: RunConfig
    opened: Opened


def stacks(configs: Sequence[RunConfig], most: int, at_least: int = 1) -> list[list[RunConfig]]:
    """The configs in groups of up to ``most`` that can train as one stack, in the order of each group's first.

    Where there are enough configs they make ``at_least`` groups, so that as many processes have one each.
    """
    shapes: dict[RunConfig, list[RunConfig]] = {}
    for config in sorted(configs, key=lambda c: (c.lr, c.weight_decay)):  # one step of the optimizer for each of these
        shapes.setdefault(replace(config, **FREE), []).append(config)  # type: ignore[arg-type]
    groups = [group for shape in shapes.values() for group in _split(shape, most if _is_stackable(shape[0]) else 1)]
    while len(groups) < at_least and len(largest := max(groups, key=len, default=[])) > 1:
        groups.remove(largest)
        groups += _split(largest, -(-len(largest) // 2))
    place = {config: number for number, config in enumerate(configs)}
    return sorted(groups, key=lambda group: min(place[config] for config in group))


def _split(group: list[RunConfig], size: int) -> Iterator[list[RunConfig]]:
    yield from (group[start : start + size] for start in range(0, len(group), size))


def pays(config: RunConfig, device: str) -> bool:
    """Whether such learners train faster in a stack: on a GPU always; on a CPU where the products are small."""
    return not device.startswith("cpu") or config.width <= WIDEST_ON_CPU


def train_together(
    orders: Sequence[Order],
    dataset: data.Dataset,
    options: RunOptions = DEFAULTS,
    compiled: bool = False,
) -> list[Exception | None]:
    """Train the learners of one stack from their beginning; what ended each of them, None where it came to its end.

    Args:
        compiled: whether ``torch.compile`` makes a program of the stack's step.
    """
    on_device = dataset.to(options.device)
    members: list[_Member] = []
    probe: Probe | None = None
    for order in orders:
        member = _Member()
        members.append(member)
        with member.own_failures():
            learner = learner_of(order.config, dataset, options.device)
            probe = probe or Probe.of(learner, on_device)
            run = member.resources.enter_context(order.opened())
            member.running = Running.of(learner, on_device, probe, run, options)
    try:
        if probe:
            _epochs(members, on_device, probe, compiled)
        for member in members:
            if member.is_alone and member.running:
                with member.own_failures():
                    train_on(member.running, member.epoch + 1)
                    member.end()
    except BaseException as error:  # from outside: none of them has come to its end
        for member in members:
            member.end(error)
        raise
    return [member.problem for member in members]


class _Member:
    """A learner of a stack: its run, and how it ended.

    Attributes:
        epoch: the last one that it has behind it.
        is_alone: it has left the stack, to go on by itself.
        is_ended: its run has been closed.
    """

    def __init__(self) -> None:
        self.running: Running | None = None
        self.resources = ExitStack()
        self.epoch = -1
        self.is_alone = self.is_ended = False
        self.problem: Exception | None = None

    @property
    def is_in(self) -> bool:
        return self.running is not None and not self.is_alone and not self.is_ended

    @contextmanager
    def own_failures(self) -> Iterator[None]:
        """What fails inside ends this learner's run and no other's."""
        try:
            yield
        except Exception as error:
            self.problem = error
            with suppress(Exception):  # what closing it finds wrong comes after what went wrong
                self.end(error)

    def after(self, epoch: int, is_last: bool, is_finite: bool) -> None:
        """Take note of an epoch: the last one ends its run; where it was not finite, the learner leaves the stack."""
        self.epoch = epoch
        if is_last and self.running:
            self.running.run.forget_states()
            self.end()
        else:
            self.is_alone = not is_finite

    def end(self, error: BaseException | None = None) -> None:
        """Close its run, as failed where there is an error."""
        if not self.is_ended:
            self.is_ended = True
            self.resources.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)


def _epochs(members: Sequence[_Member], dataset: data.Dataset, probe: Probe, compiled: bool) -> None:
    """Train until every learner has ended or left."""
    stack, inside = None, [m for m in members if m.is_in]
    epoch = 0
    while inside:
        learners = [m.running.learner for m in inside if m.running]
        stack = stack or Stack(learners, compiled)
        began = time.perf_counter()
        met: Sequence[Met | None] = _train_epoch(stack, learners, dataset, epoch) if epoch else [None for _ in learners]
        accuracies = _accuracies(stack, dataset)
        trained = time.perf_counter()
        captures = stack.captures(probe.batches)
        share, captured = (trained - began) / len(inside), (time.perf_counter() - trained) / len(inside)
        for member, own, accuracy, seen in zip(inside, met, accuracies, captures, strict=True):
            with member.own_failures():
                assert member.running is not None
                is_last = member.running.end_epoch(epoch, own, accuracy, share, seen, captured)
                member.after(epoch, is_last, math.isfinite(accuracy) and (own is None or math.isfinite(own.loss)))
        if any(not m.is_in for m in inside):
            stack.close()
            stack, inside = None, [m for m in inside if m.is_in]
        epoch += 1
    if stack:
        stack.close()


def _train_epoch(stack: Stack, learners: Sequence[Learner], dataset: data.Dataset, epoch: int) -> list[Met]:
    """One pass of every learner over the training set, each in its own order; loss and accuracy as ``train_epoch``."""
    for learner in learners:
        begin_epoch(learner, epoch)
    stack.set_rates()
    samples, penalty = len(dataset.train.labels), _penalties(learners, dataset)
    losses, right = [], []
    draws = [label_draw(learner.config, epoch) for learner in learners]
    for x, y in shuffled_batches(learners, dataset, draws):
        loss, logits = stack.train_step(x, y, penalty, learners[0].config.clip_norm)
        losses.append(loss * (y.shape[1] / samples))
        right.append((logits.argmax(-1) == y).sum(-1))
    mean, correct = torch.stack(losses).double().sum(0), torch.stack(right).sum(0).double() / samples
    return [Met.of(loss, share) for loss, share in zip(mean.tolist(), correct.tolist(), strict=True)]


def _penalties(learners: Sequence[Learner], dataset: data.Dataset) -> Penalty:
    found = [learner.config.penalty for learner in learners]
    return torch.tensor(found, device=dataset.train.inputs.device) if len(set(found)) > 1 else found[0]


def shuffled_batches(
    learners: Sequence[Learner], dataset: data.Dataset, draws: Sequence[torch.Generator]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches (S, B, …) and labels (S, B), drawn as a learner that trains alone draws them."""
    train, config = dataset.train, learners[0].config
    augment, device = AUGMENTATIONS[config.augmentation], train.labels.device
    orders = torch.stack([torch.randperm(len(train.labels), generator=learner.order) for learner in learners])
    for index in orders.to(device).split(config.batch_size, dim=1):
        if config.augmentation == "none":
            x = dataset.normalisation(train.inputs.index_select(0, index.flatten()))
        else:
            x = torch.cat(
                [
                    augment(train.inputs.index_select(0, i), dataset.normalisation, learner.order)
                    for i, learner in zip(index, learners, strict=True)
                ]
            )
        drawn = [
            labels_of(learner.config, train.labels[i], dataset.classes, draw)
            for learner, i, draw in zip(learners, index, draws, strict=True)
        ]
        yield x.unflatten(0, index.shape), torch.stack(drawn)


def _accuracies(stack: Stack, dataset: data.Dataset) -> list[float]:
    """On the whole test set, as ``evaluate`` gives it for one learner."""
    test, right, finite = dataset.test, [], []
    for x, y in zip(test.inputs.split(EVALUATION_CHUNK), test.labels.split(EVALUATION_CHUNK), strict=True):
        logits = stack.logits(dataset.normalisation(x))
        right.append((logits.argmax(-1) == y).sum(-1))
        finite.append(logits.isfinite().flatten(1).all(1))
    share = torch.stack(right).sum(0).double() / len(test.labels)
    is_finite = torch.stack(finite).all(0).tolist()
    return [value if fine else math.nan for value, fine in zip(share.tolist(), is_finite, strict=True)]


def _is_stackable(config: RunConfig) -> bool:
    return bool(catalogue.load(methods, config.method).Method.can_stack())
