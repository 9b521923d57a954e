"""A study: a grid of runs that is known before it starts."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fa_tracking import cells, untrusted
from fa_tracking.errors import UsageError, no_such, reason_of
from fa_tracking.trainers.config import RunConfig

STUDIES = Path(__file__).parent.parent / "studies"

MOST_RUNS = 100_000
"""Of a study: ten parameters of ten values each would be 10^10, which nobody can enumerate."""


class Values(BaseModel):
    """What one parameter takes in a grid."""

    model_config = ConfigDict(extra="forbid")

    values: list[bool | int | float | str]


class Grid(BaseModel):
    """The product of its parameters' values."""

    model_config = ConfigDict(extra="forbid")

    parameters: dict[str, Values]


class Reduction(BaseModel):
    """What ``--reduced`` puts in the place of the study's own settings; what it does not name stays."""

    model_config = ConfigDict(extra="forbid")

    says: str
    fixed: dict[str, bool | int | float | str] = {}
    seeds: list[int] | None = None
    grids: list[Grid] | None = None


class Study(BaseModel):
    """A study file: every grid with every seed, on top of what is fixed for all."""

    model_config = ConfigDict(extra="forbid")

    title: str
    experiment: str
    seeds: list[int]
    fixed: dict[str, bool | int | float | str] = {}
    grids: list[Grid]
    reduced: Reduction | None = None

    def configs(self) -> list[RunConfig]:
        """Every run of the study, seed by seed, each once.

        Raises:
            UsageError: a parameter does not exist or has a value that it cannot take.
        """
        runs = len(self.seeds) * sum(math.prod(len(v.values) for v in grid.parameters.values()) for grid in self.grids)
        if runs > MOST_RUNS:
            raise UsageError(
                f"the study {self.experiment!r:.80} has {runs:.3g} runs, but at most {MOST_RUNS} are allowed"
            )
        found: dict[str, RunConfig] = {}
        for seed, grid in itertools.product(self.seeds, self.grids):
            for values in itertools.product(*(v.values for v in grid.parameters.values())):
                config = _config(self.fixed | dict(zip(grid.parameters, values, strict=True)) | {"seed": seed})
                found.setdefault(config.digest, config)
        if not found:
            raise UsageError(f"the study {self.experiment!r} has no run: give it seeds, grids and values")
        return list(found.values())

    def smaller(self) -> "Study":
        """The ``--reduced`` form, in an experiment of its own.

        Raises:
            UsageError: the study has none.
        """
        if self.reduced is None:
            raise UsageError(f"the study {self.experiment!r} has no reduced form")
        return self.model_copy(
            update={
                "experiment": f"{self.experiment}_reduced",
                "fixed": self.fixed | self.reduced.fixed,
                "seeds": self.reduced.seeds or self.seeds,
                "grids": self.reduced.grids or self.grids,
            }
        )


def load(name: str) -> Study:
    """The study ``name`` of ``trainers/studies``, or the YAML file at that path.

    Raises:
        UsageError: there is none, or it is not a study.
    """
    path = STUDIES / f"{name}.yaml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        raise UsageError(f"{no_such('study', name, studies())}; or give the path of a YAML file")
    try:
        return Study.model_validate(untrusted.read_yaml(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a study: {_first(error)}") from error


def studies() -> list[str]:
    """The names of the studies that come with the project."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def describe(config: RunConfig) -> str:
    """What sets a run apart, on one line."""
    return _name(config, *_parts(config))


def told_apart(configs: Sequence[RunConfig]) -> dict[str, str]:
    """A short name for each run by its digest: what ``describe`` says, less what all runs of its method have."""
    parts = {config: _parts(config) for config in configs}
    shared: dict[str, set[str]] = {}
    for config, (head, tail) in parts.items():
        shared[config.method] = shared.get(config.method, {*head, *tail}) & {*head, *tail}
    return {
        config.digest: _name(config, *([part for part in some if part not in shared[config.method]] for some in both))
        for config, both in parts.items()
    }


def _name(config: RunConfig, head: list[str], tail: list[str]) -> str:
    return ", ".join([" ".join([config.method, *head]), *tail])


def _parts(config: RunConfig) -> tuple[list[str], list[str]]:
    """What stands beside the method in a run's name: the network and its rates, and what is said of the recipe."""
    head = [config.architecture, f"{config.depth}×{config.width}"]
    head += [f"λ={config.penalty:g}"] if config.penalty else []
    head += [config.augmentation] if config.augmentation != "none" else []
    for name in ("batch_size", "optimizer", "lr", "weight_decay"):
        value = getattr(config, name)
        head += [f"{name}={value}"] if value != getattr(RunConfig, name, None) else []
    told = (*cells.ABSENT, "trainable_blocks", "depth")
    apart = cells.in_words({key: getattr(config, key) for key in told if key not in cells.DEFINITIONS})
    return head, [*apart, config.dataset, f"{config.epochs} epochs", f"seed {config.seed}"]


def _config(values: Mapping[str, Any]) -> RunConfig:
    if "method" not in values:
        raise UsageError("a grid names no method")
    try:
        return RunConfig(**values)
    except ValidationError as error:
        where = "parameter " if error.errors()[0]["loc"] else ""
        raise UsageError(f"{where}{_first(error)}") from error


def _first(error: Exception) -> str:
    """What is wrong and where, on one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        if not first["loc"] and first["type"] == "value_error":
            return reason_of(first)
        return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}, got {str(first['input'])[:80]!r}"
    return " ".join(str(error).split())[:300]
