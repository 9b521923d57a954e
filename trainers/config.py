"""What one run is: the params of a run in MLflow, with their defaults."""

import hashlib
import json
from dataclasses import asdict

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

DEEPEST = 100_000
"""Blocks; a thousand take half a minute to train for an epoch, and 10^12 would be built one by one."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RunConfig:
    """One cell and its seed. The field names are the names of the params in MLflow.

    Attributes:
        width: d, the size of a hidden state.
        depth: L, the number of blocks.
        penalty: λ of the residual penalty λ·‖f_l(h_l)‖².
        frozen_blocks: leave every block as it was drawn; embedding, read-out and feedback work as ever.
        augmentation: of the training images, a name in ``trainers/augmentation.py``.
    """

    method: str
    architecture: str = "resmlp"
    width: int = Field(default=256, ge=1)
    depth: int = Field(default=4, ge=1, le=DEEPEST)
    dataset: str = "digit_pairs"
    seed: int = Field(default=42, ge=0, lt=2**63)
    epochs: int = Field(default=30, ge=0)
    batch_size: int = Field(default=128, ge=1)
    optimizer: str = "adamw"
    lr: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    penalty: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    frozen_blocks: bool = False
    augmentation: str = "none"

    @property
    def digest(self) -> str:
        """The hash of the configuration: a store that holds it finished need not train it again."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
