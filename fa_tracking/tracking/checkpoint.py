"""A checkpoint: safetensors and a config.json that says how to build the model again. Nothing is ever unpickled."""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fa_tracking import catalogue
from fa_tracking.errors import CheckpointError, FATrackError, NoCheckpointError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

MODEL = "model.safetensors"
FEEDBACK = "feedback.safetensors"
CONFIG = "config.json"
MODELS_GROUP = "fa_tracking.models"
DATASETS_GROUP = "fa_tracking.datasets"


class DataSource(BaseModel):
    """The data that a model was trained on, and how its inputs were normalised.

    ``loader`` names the entry point (group ``fa_tracking.datasets``) that reads its test split; ``test_sha256`` tells
    whether it is the same data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    loader: str
    test_sha256: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


class CheckpointConfig(BaseModel):
    """What config.json holds.

    ``factory`` names the entry point (group ``fa_tracking.models``) that builds the model from ``model``: either
    ``name`` of a callable, or ``catalogue:item`` of a package with one file an architecture.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    factory: str | None
    model: dict[str, Any]
    epoch: int
    dataset: DataSource | None
    fa_version: str
    sha256: dict[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder, its config and the digest of its weights."""

    folder: Path
    config: CheckpointConfig

    @property
    def sha256(self) -> str:
        return self.config.sha256[MODEL]


def write(
    folder: Path,
    model: "nn.Module",
    feedback: "dict[str, Tensor]",
    epoch: int,
    factory: str | None,
    model_config: dict[str, Any],
    dataset: DataSource | None,
) -> None:
    """Write a checkpoint into ``folder``, config.json last."""
    from safetensors.torch import save

    digests = {}
    for name, tensors in ((MODEL, model.state_dict()), (FEEDBACK, feedback)):
        # clone: safetensors refuses tensors that share memory, as tied weights do
        data = save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()})
        (folder / name).write_bytes(data)
        digests[name] = hashlib.sha256(data).hexdigest()
    config = CheckpointConfig(
        factory=factory,
        model=model_config,
        epoch=epoch,
        dataset=dataset,
        fa_version=version("fa-track"),
        sha256=digests,
    )
    (folder / CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> Checkpoint:
    """The checkpoint in ``folder``, its files held against their checksums.

    Raises:
        CheckpointError: a file is missing, damaged, or not what config.json says.
    """
    try:
        config = CheckpointConfig.model_validate(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {folder.name} has no {CONFIG}") from None
    except (ValueError, ValidationError) as error:
        raise CheckpointError(f"checkpoint {folder.name}: {CONFIG} is broken: {_first_line(error)}") from error
    for name in (MODEL, FEEDBACK):
        try:
            seen = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except FileNotFoundError:
            raise CheckpointError(f"checkpoint {folder.name} has no {name}") from None
        if seen != config.sha256.get(name):
            raise CheckpointError(
                f"checkpoint {folder.name}: {name} does not match its checksum in {CONFIG}: it is damaged"
            )
    return Checkpoint(folder, config)


def build_model(checkpoint: Checkpoint) -> "nn.Module":
    """The model of a checkpoint, with its weights.

    It is built without memory first, so that absurd shapes are refused by the weights before they are allocated.

    Raises:
        NoCheckpointError: it was saved without a factory.
        CheckpointError: the factory is not installed, or does not fit the weights.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    where = f"checkpoint {checkpoint.folder.name}"
    factory = find_factory(checkpoint.config.factory, where)
    try:
        with torch.device("meta"):
            model = factory(**checkpoint.config.model)
        weights = load_file(checkpoint.folder / MODEL)
        model.load_state_dict(weights, strict=True, assign=True)
        if any(t.is_meta for t in (*model.parameters(), *model.buffers())):  # what no state_dict holds
            model = factory(**checkpoint.config.model)
            model.load_state_dict(weights, strict=True)
    except SafetensorError as error:
        raise CheckpointError(f"{where}: {MODEL} is not a safetensors file: {error}") from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{where}: the factory {checkpoint.config.factory!r} does not fit the weights: {_first_line(error)}"
        ) from error
    return model


def find_factory(name: str | None, where: str) -> Any:
    """The callable behind a factory's name; only installed entry points are ever loaded.

    Raises:
        NoCheckpointError: there is no name.
        CheckpointError: there is none of this name.
    """
    if name is None:
        raise NoCheckpointError("the checkpoint was saved without factory=, see docs/how-to/audit-your-own.md")
    entry, _, item = name.partition(":")
    points = entry_points(group=MODELS_GROUP)
    if entry not in points.names:
        raise CheckpointError(
            f"{where} names the model factory {name!r}, which is no entry point of the group {MODELS_GROUP!r}; "
            f"installed are: {', '.join(sorted(points.names)) or 'none'}"
        )
    found = _load(points[entry])
    if not isinstance(found, ModuleType):
        return found
    try:
        return catalogue.load(found, item).Model
    except UsageError as error:
        raise CheckpointError(f"{where}: {error}") from error


def test_split(source: DataSource, data_dir: str | None) -> Any:
    """The test split (``inputs``, ``labels``, ``digest``) of a checkpoint's data set.

    Raises:
        FATrackError: its loader is not installed.
        UsageError: the data is not in ``data_dir``.
    """
    points = entry_points(group=DATASETS_GROUP)
    if source.loader not in points.names:
        raise FATrackError(
            f"the data set {source.name!r} is read by {source.loader!r}, which is no entry point of {DATASETS_GROUP!r}"
        )
    return _load(points[source.loader])(source.name, data_dir)


def _load(point: EntryPoint) -> Any:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise FATrackError(f"the entry point {point.name} = {point.value} cannot be loaded: {error}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) if lines else type(error).__name__
