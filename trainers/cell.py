"""A cell and its seed, ready to train: what a config's seed draws."""

from dataclasses import dataclass

import torch

from fa_tracking import catalogue
from fa_tracking.errors import UsageError
from trainers import data, methods, models
from trainers.augmentation import AUGMENTATIONS
from trainers.config import RunConfig
from trainers.method import LearningRule, generator
from trainers.model import BlockModel
from trainers.state import Training

OPTIMIZERS = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


@dataclass
class Cell:
    """A config's network, learning rule, optimizer and data order, drawn from its seed."""

    config: RunConfig
    model: BlockModel
    rule: LearningRule
    optimizer: torch.optim.Optimizer
    order: torch.Generator

    @property
    def state(self) -> Training:
        """What of it changes while it trains."""
        return Training(self.model, self.rule, self.optimizer, self.order)


def cell_of(config: RunConfig, dataset: data.Dataset, device: str = "cpu") -> Cell:
    """The cell of a config, as it stands before training.

    Raises:
        UsageError: the config names something that does not exist or does not fit.
    """
    model, rule = build(config, dataset)
    if config.optimizer not in OPTIMIZERS:
        raise UsageError(f"no optimizer named {config.optimizer!r}; there are: {', '.join(OPTIMIZERS)}")
    if config.augmentation not in AUGMENTATIONS:
        raise UsageError(f"no augmentation named {config.augmentation!r}; there are: {', '.join(AUGMENTATIONS)}")
    try:
        AUGMENTATIONS[config.augmentation](dataset.train.inputs[:1], generator(config.seed, "augmentation"))
    except ValueError as error:
        raise UsageError(f"{config.augmentation} does not fit {config.dataset}: {error}") from error
    model, rule = model.to(device), rule.to(device)  # drawn on the CPU: a seed means the same on every device
    trainable = [p for p in (*model.parameters(), *rule.parameters()) if p.requires_grad]
    optimizer = OPTIMIZERS[config.optimizer](trainable, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    return Cell(config, model, rule, optimizer, generator(config.seed, "data order"))


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
