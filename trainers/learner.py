"""A learner: what a config's seed draws, ready to train."""

from dataclasses import dataclass
from inspect import signature

import torch
from torch import nn

from fa_tracking import catalogue
from fa_tracking.errors import UsageError, no_such
from fa_tracking.trainers import data, methods, models
from fa_tracking.trainers.augmentation import AUGMENTATIONS
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.method import LearningRule, LocalRule, generator
from fa_tracking.trainers.model import BlockModel
from fa_tracking.trainers.state import Training

OWN = ("expansion", "alpha")
"""Params that some networks take."""

CREDIT = ("credit_index", "credit_normalisation")
"""Params that rules with a local credit take."""

OPTIMIZERS = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


@dataclass
class Learner:
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


def learner_of(config: RunConfig, dataset: data.Dataset, device: str = "cpu") -> Learner:
    """Draw the learner of a config, as it stands before training.

    Raises:
        UsageError: the config names something that does not exist or does not fit.
    """
    model, rule = build(config, dataset)
    if config.optimizer not in OPTIMIZERS:
        raise UsageError(no_such("optimizer", config.optimizer, OPTIMIZERS))
    if config.augmentation not in AUGMENTATIONS:
        raise UsageError(no_such("augmentation", config.augmentation, AUGMENTATIONS))
    try:
        augment, draw = AUGMENTATIONS[config.augmentation], generator(config.seed, "augmentation")
        augment(dataset.train.inputs[:1], dataset.normalisation, draw)
    except ValueError as error:
        raise UsageError(f"{config.augmentation} does not fit {config.dataset}: {error}") from error
    model, rule = model.to(device), rule.to(device)  # drawn on the CPU: a seed means the same on every device
    trainable = [p for p in (*model.parameters(), *rule.parameters()) if p.requires_grad]
    options = {"momentum": config.momentum} if config.optimizer == "sgd" else {}
    optimizer = OPTIMIZERS[config.optimizer](
        trainable, lr=config.lr, weight_decay=config.weight_decay, fused=True, **options
    )
    return Learner(config, model, rule, optimizer, generator(config.seed, "data order"))


def untrained(model: BlockModel, config: RunConfig) -> nn.ModuleList:
    """The blocks that stay as they were drawn: all but the last ``trainable_blocks``."""
    blocks = list(model.blocks[: max(0, len(model.blocks) - config.trainable_blocks)])
    return nn.ModuleList([model.embed, *blocks] if blocks and model.embeds_by_a_block else blocks)


def build(config: RunConfig, dataset: data.Dataset) -> tuple[BlockModel, LearningRule]:
    """The model and the learning rule of a config, drawn from its seed.

    Raises:
        UsageError: no such method or architecture.
    """
    method, architecture = catalogue.load(methods, config.method), catalogue.load(models, config.architecture)
    own = {name: getattr(config, name) for name in OWN if getattr(config, name) != getattr(RunConfig, name)}
    for name in own.keys() - signature(architecture.Model).parameters.keys():
        raise UsageError(f"{config.architecture} takes no {name}")
    shape = {
        "input_shape": list(dataset.image_shape if architecture.Model.images else dataset.input_shape),
        "classes": dataset.classes,
        "width": config.width,
        "depth": config.depth,
        **own,
    }
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        try:
            model = architecture.Model(**shape)
        except (ValueError, RuntimeError, MemoryError) as error:
            size = f"{config.architecture} of width {config.width} and depth {config.depth}"
            raise UsageError(f"{size} cannot be built: {error}") from error
    model.config, model.factory = shape, f"trainers:{config.architecture}"
    untrained(model, config).requires_grad_(False)
    recipe = {name: getattr(config, name) for name in CREDIT}
    if not issubclass(method.Method, LocalRule):
        for name, value in recipe.items():
            if value != getattr(RunConfig, name):
                raise UsageError(f"{config.method} takes no {name}: its credit is not sent state by state")
        recipe = {}
    try:
        rule = method.Method(model, config.seed, **recipe)
    except ValueError as error:
        raise UsageError(f"{config.method} does not run on {config.architecture}: {error}") from error
    if not model.blocks and 0 < config.trainable_blocks < config.depth:
        raise UsageError(f"{config.method} has no blocks, and takes no trainable_blocks")
    rule.factory, rule.config = f"trainers:{config.method}", {"seed": config.seed, **recipe}
    return model, rule
