"""What one run is: the params of a run in MLflow, with their defaults."""

import hashlib
import json
import math
from dataclasses import asdict
from inspect import signature
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from fa_tracking import catalogue
from fa_tracking.errors import UsageError
from fa_tracking.trainers.definitions import definition_of

DEEPEST = 100_000
"""Blocks; a thousand take half a minute to train for an epoch, and 10^12 would be built one by one."""

UNSET = -1
"""Of a number that follows from others where it is not given."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RunConfig:
    """One cell and its seed. The field names are the names of the params in MLflow.

    Attributes:
        width: d, the size of a hidden state.
        depth: L, the number of blocks.
        expansion: hidden units of a block for each of its d; 0: the network's own.
        alpha: share of tanh in ``student_net``'s φ_α.
        labels: "random": training labels are drawn anew for each batch; test labels stay true.
        lr_schedule: over the epochs, set once an epoch; "cosine" falls from lr towards 0.
        lr_warmup: epochs in which lr rises linearly, before the schedule begins.
        momentum: of SGD.
        clip_norm: the largest norm of a gradient, of the embedding and each block by itself; infinite: none is clipped.
        penalty: λ of the residual penalty λ·‖f_l(h_l)‖².
        credit_normalisation: "rms" divides each sample's local credit by its root mean square over features, "rms_eps"
            by that plus 1e-6, as the published study does: a credit far below it, of each sample's own loss, stays
            small.
        credit_index: whose credit block l learns from: that of the state it reads, a_l ("input"), or of the state it
            yields, a_{l+1} ("output").
        trainable_blocks: how many blocks are trained, the last ones; the others stay as they were drawn, while
            embedding, read-out and feedback work as ever. All blocks where not given; ``frozen_blocks=True`` says 0.
        augmentation: of the training images, a name in ``trainers/augmentation.py``.
        definition: which definition of its network the run has, see ``trainers/definitions.py``; it follows from the
            name, and another number is refused.
        rule_definition: which definition of its rule, likewise.

    Raises:
        ValidationError: of pydantic: a value that a field cannot take, alone or beside the others.
    """

    method: str
    architecture: str = "resmlp"
    width: int = Field(default=256, ge=1)
    depth: int = Field(default=4, ge=1, le=DEEPEST)
    expansion: int = Field(default=0, ge=0)
    alpha: float = Field(default=1.0, ge=0, le=1)
    dataset: str = "digit_pairs"
    labels: Literal["true", "random"] = "true"
    seed: int = Field(default=42, ge=0, lt=2**63)
    epochs: int = Field(default=30, ge=0)
    batch_size: int = Field(default=128, ge=1)
    optimizer: str = "adamw"
    lr: float = Field(default=1e-3, ge=0, allow_inf_nan=False)
    lr_schedule: Literal["constant", "cosine"] = "constant"
    lr_warmup: int = Field(default=0, ge=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    clip_norm: float = Field(default=math.inf, gt=0)
    penalty: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    credit_normalisation: Literal["none", "rms", "rms_eps"] = "none"
    credit_index: Literal["input", "output"] = "output"
    trainable_blocks: int = Field(default=UNSET, ge=UNSET)
    augmentation: str = "none"
    definition: int = UNSET
    rule_definition: int = UNSET

    @model_validator(mode="before")
    @classmethod
    def _without_alias(cls, given: Any) -> Any:
        """``frozen_blocks`` in the words of ``trainable_blocks``."""
        if not isinstance(given, ArgsKwargs) or "frozen_blocks" not in (given.kwargs or {}):
            return given
        params = dict(given.kwargs or {})
        frozen = params.pop("frozen_blocks")
        if not isinstance(frozen, bool):
            raise ValueError(f"frozen_blocks must be true or false, not {frozen!r}")
        trained = params.get("trainable_blocks", 0 if frozen else UNSET)
        if frozen != (trained == 0):
            raise ValueError(f"frozen_blocks={frozen} contradicts trainable_blocks={trained}")
        return ArgsKwargs(given.args, params | ({"trainable_blocks": 0} if frozen else {}))

    @model_validator(mode="after")
    def _whole(self) -> "RunConfig":
        """What follows from other fields is set, and what contradicts them refused."""
        for key, name in (("definition", self.architecture), ("rule_definition", self.method)):
            said, own = getattr(self, key), definition_of(name)
            if said not in (UNSET, own):
                gone = "; version 0.1 has it" if said < own else ""
                raise ValueError(f"definition {said} of {name} is not the one here, {own}{gone}")
            object.__setattr__(self, key, own)
        if self.expansion and self.expansion == _own_expansion(self.architecture):
            object.__setattr__(self, "expansion", 0)  # one network is one cell, however it is asked for
        if self.trainable_blocks > self.depth:
            raise ValueError(f"trainable_blocks={self.trainable_blocks} in a network of {self.depth} blocks")
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum needs optimizer sgd, but the optimizer is {self.optimizer}")
        if self.lr_warmup and self.lr_warmup >= self.epochs:
            raise ValueError(f"lr_warmup={self.lr_warmup} leaves no epoch of {self.epochs} to train at lr")
        object.__setattr__(self, "trainable_blocks", self.depth if self.trainable_blocks < 0 else self.trainable_blocks)
        return self

    @property
    def frozen_blocks(self) -> bool:
        """Whether the run is a frozen control: no block is trained."""
        return self.trainable_blocks == 0

    @property
    def digest(self) -> str:
        """The hash of the configuration: a store that holds it finished need not train it again."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def _own_expansion(architecture: str) -> int | None:
    """What the network is built with where no expansion is asked for; None: it takes none, or is not known."""
    from fa_tracking.trainers import models

    try:
        found = signature(catalogue.load(models, architecture).Model).parameters.get("expansion")
    except UsageError:
        return None
    return found.default if found else None
