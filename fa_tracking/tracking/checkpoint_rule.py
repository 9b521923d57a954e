"""The learning rule of a checkpoint, built again: its credit is part of what an audit measures."""

from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from fa_tracking.errors import CheckpointError
from fa_tracking.tracking import definition
from fa_tracking.tracking.checkpoint import (
    FEEDBACK,
    FEWEST,
    METHODS_GROUP,
    MOST_COMPUTED,
    Checkpoint,
    find_factory,
    tensors_of,
)
from fa_tracking.tracking.factories import first_line, installed, no_more_parts_than

if TYPE_CHECKING:
    from torch import nn

    from fa_tracking.protocol.alignment import Credit


class NoCredit(Exception):  # noqa: N818  it is no failure
    """Why a checkpoint's rule has no credit."""


def credit_of(checkpoint: Checkpoint, model: "nn.Module") -> "Credit":
    """The local credit of the rule that a checkpoint's ``model`` was trained by.

    Raises:
        NoCredit: the checkpoint names no rule, or the rule has no local credit.
        CheckpointError: the rule is not installed, or does not fit its tensors or the model.
    """
    if checkpoint.config.rule is None:
        raise NoCredit("the checkpoint names no rule")
    rule = build_rule(checkpoint, model)
    if not getattr(rule, "has_credit", True):
        raise NoCredit(f"{checkpoint.config.rule.factory} has no local credit")
    if not callable(getattr(rule, "credit", None)):
        raise NoCredit(f"{checkpoint.config.rule.factory} shows no credit(model, capture)")
    return rule.credit


def build_rule(checkpoint: Checkpoint, model: "nn.Module") -> Any:
    """The rule of a checkpoint, with its tensors.

    As a model it is built without memory first, beside a network without memory, so that absurd shapes are refused
    before anything is computed for them.

    Raises:
        CheckpointError: the rule is not installed, or does not fit its tensors or the model.
    """
    source, config = checkpoint.config.rule, checkpoint.config
    where = f"checkpoint {checkpoint.folder.name}"
    assert source is not None
    factory = installed(METHODS_GROUP, "rule", "Method", source.factory, where)
    if source.definition is not None:
        definition.must_be(factory, source.definition, source.factory, where, config.fa_version)
    tensors = tensors_of(checkpoint, FEEDBACK)
    parts = max(len(tensors), FEWEST)
    try:
        with torch.random.fork_rng(), torch.device("meta"), _Bounded():
            empty = _configured(find_factory(config.factory, where)(**config.model), config.model)
            with no_more_parts_than(parts):
                factory(empty, **source.arguments).load_state_dict(tensors, strict=True, assign=True)
        with torch.random.fork_rng(), no_more_parts_than(parts):
            rule = factory(_configured(model, config.model), **source.arguments)
        rule.load_state_dict(tensors, strict=True)
    except CheckpointError:
        raise
    except Exception as error:  # another's factory may raise anything
        raise CheckpointError(f"{where}: the rule {source.factory!r} does not fit: {first_line(error)}") from error
    return rule


def _configured(model: "nn.Module", config: dict[str, Any]) -> "nn.Module":
    """The model with its attribute ``config``, as it had when the rule was made beside it."""
    if getattr(model, "config", None) is None:
        model.config = dict(config)  # type: ignore[assignment]
    return model


class _Bounded(TorchFunctionMode):
    """Inside, no call of torch gives a tensor of more than ``MOST_COMPUTED`` numbers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.numel() > MOST_COMPUTED:
            raise ValueError(f"it computes a tensor of more than {MOST_COMPUTED} numbers")
        return found
