"""A checkpoint: safetensors and a config.json that says how to build the model again. Nothing is ever unpickled."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fa_tracking import catalogue, untrusted
from fa_tracking.errors import CheckpointError, FATrackError, NoCheckpointError, OtherDefinitionError, UsageError
from fa_tracking.tracking import definition

if TYPE_CHECKING:
    from torch import Tensor, nn

MODEL = "model.safetensors"
FEEDBACK = "feedback.safetensors"
CONFIG = "config.json"
MODELS_GROUP = "fa_tracking.models"
DATASETS_GROUP = "fa_tracking.datasets"

LONGEST_REASON = 400
"""Characters of another library's words that a message repeats."""
LONGEST_NAME = 250
"""Characters of the name of a factory, a loader or a data set, as of a param's in MLflow."""
LONGEST_MODEL = 2**16
"""Characters of the arguments of a model, in JSON: a product of a million of them takes long."""
LARGEST_WEIGHTS = 2**36
"""Bytes of a file of tensors: 16 billion parameters in float32, a hundred times the largest network of this field."""
LARGEST_STEP = 2**31 - 1
"""The last epoch that every store can hold."""
PARAMETERS_PER_TENSOR = 8
"""Parameters that a factory may make for each tensor of the file: tied ones and replaced heads count twice."""
MODULES_PER_TENSOR = 64
"""Modules likewise: activations and containers hold no tensor. So a depth of 10^9 is refused, not counted up to."""
FEWEST = 64
"""Tensors that a file counts for at least."""
MOST_COMPUTED = 2**28
"""Elements of the buffers that no file holds, such as tables of positions: a GiB in float32."""


def _inside(name: str) -> str:
    if not untrusted.is_inside(name):
        raise ValueError("names a place outside its folder")
    return name


def _short(model: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(model)) > LONGEST_MODEL:
        raise ValueError(f"takes more than {LONGEST_MODEL} characters, and a model's arguments are a few numbers")
    return model


Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Inside = Annotated[Name, AfterValidator(_inside)]
"""The name of a data set is looked for as a folder's."""


class DataSource(BaseModel):
    """The data that a model was trained on, and how its inputs were normalised.

    ``loader`` names the entry point (group ``fa_tracking.datasets``) that reads its test split; ``test_sha256`` tells
    whether it is the same data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Inside
    loader: Name
    test_sha256: Name
    mean: tuple[float, ...]
    std: tuple[float, ...]


class CheckpointConfig(BaseModel):
    """What config.json holds.

    ``factory`` names the entry point (group ``fa_tracking.models``) that builds the model from ``model``: either
    ``name`` of a callable, or ``catalogue:item`` of a package with one file an architecture. ``definition``: which one
    of that name; 0.1 wrote none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    factory: Name | None
    definition: int = Field(default=definition.FIRST, ge=definition.FIRST, le=definition.LARGEST)
    model: Annotated[dict[str, Any], AfterValidator(_short)]
    epoch: int = Field(ge=0, le=LARGEST_STEP)
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
        definition=definition.of(model),
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
        config = CheckpointConfig.model_validate(untrusted.read_json(folder / CONFIG))
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {folder.name} has no {CONFIG}") from None
    except (OSError, ValueError, ValidationError) as error:
        raise CheckpointError(f"checkpoint {folder.name}: {CONFIG} is broken: {_first_line(error)}") from error
    for name in (MODEL, FEEDBACK):
        try:
            untrusted.refuse_large(folder / name, LARGEST_WEIGHTS)
            with (folder / name).open("rb") as file:
                seen = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise CheckpointError(f"checkpoint {folder.name} has no {name}") from None
        except (OSError, ValueError) as error:
            raise CheckpointError(f"checkpoint {folder.name}: {name} cannot be read: {error}") from error
        if seen != config.sha256.get(name):
            raise CheckpointError(
                f"checkpoint {folder.name}: {name} does not match its checksum in {CONFIG}: it is damaged"
            )
    return Checkpoint(folder, config)


def build_model(checkpoint: Checkpoint) -> "nn.Module":
    """The model of a checkpoint, with its weights.

    It is built without memory first, so that absurd shapes are refused by the weights before they are allocated; and
    with no more parts than the file has tensors for, so that an absurd depth is refused before time is spent.

    Raises:
        NoCheckpointError: it was saved without a factory.
        OtherDefinitionError: its factory's name stands for another network here than the one that was saved.
        CheckpointError: the factory is not installed, or does not fit the weights.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config, where = checkpoint.config, f"checkpoint {checkpoint.folder.name}"
    factory = find_factory(config.factory, where)
    saved = (config.definition, str(config.factory), where, config.fa_version)
    if definition.says(factory):
        definition.must_be(factory, *saved)
    try:
        weights = load_file(checkpoint.folder / MODEL)
    except (SafetensorError, OSError, ValueError, KeyError) as error:  # KeyError: a type that torch has not
        raise CheckpointError(f"{where}: {MODEL} is not a safetensors file: {_first_line(error)}") from error
    try:
        with torch.device("meta"), _no_more_parts_than(max(len(weights), FEWEST)):
            model = factory(**config.model)
        definition.must_be(model, *saved)
        model.load_state_dict(weights, strict=True, assign=True)
        computed = [t for t in (*model.parameters(), *model.buffers()) if t.is_meta]  # what no state_dict holds
        if sum(t.numel() for t in computed) > MOST_COMPUTED:
            raise ValueError(f"it computes more than {MOST_COMPUTED} numbers that the file does not hold")
        if computed:
            model = factory(**config.model)
            model.load_state_dict(weights, strict=True)
    except OtherDefinitionError:
        raise
    except Exception as error:  # another's factory may raise anything
        misfit = f"the factory {config.factory!r} does not fit the weights: {_first_line(error)}"
        raise CheckpointError(f"{where}: {misfit}") from error
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
    points = _points(MODELS_GROUP)
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
    points = _points(DATASETS_GROUP)
    if source.loader not in points.names:
        raise FATrackError(
            f"the data set {source.name!r} is read by {source.loader!r}, which is no entry point of {DATASETS_GROUP!r}"
        )
    return _load(points[source.loader])(source.name, data_dir)


@contextmanager
def _no_more_parts_than(tensors: int) -> Iterator[None]:
    """Refuse to build more parameters or modules than a file of so many tensors can be of.

    Raises:
        ValueError: the next one would be too many.
    """
    from torch.nn.modules import module

    counts = {"parameters": tensors * PARAMETERS_PER_TENSOR, "modules": tensors * MODULES_PER_TENSOR}

    def count(kind: str) -> None:
        counts[kind] -= 1
        if counts[kind] < 0:
            raise ValueError(f"it has more {kind} than {MODEL} has tensors for")

    hooks = (
        module.register_module_parameter_registration_hook(lambda *_: count("parameters")),
        module.register_module_module_registration_hook(lambda *_: count("modules")),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@cache
def _points(group: str) -> EntryPoints:
    """The installed entry points: to look for them reads a file of every installed package."""
    return entry_points(group=group)


def _load(point: EntryPoint) -> Any:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise FATrackError(f"the entry point {point.name} = {point.value} cannot be loaded: {error}") from error


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"[:LONGEST_REASON]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return untrusted.one_line(" ".join(lines[:2]))[:LONGEST_REASON] if lines else type(error).__name__
