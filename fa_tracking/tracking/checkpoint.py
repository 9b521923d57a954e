"""A checkpoint: safetensors and a config.json that says how to build the model again. Nothing is ever unpickled."""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fa_tracking import untrusted
from fa_tracking.errors import CheckpointError, FATrackError, NoCheckpointError, OtherDefinitionError
from fa_tracking.tracking import definition
from fa_tracking.tracking.factories import entry_points_of, first_line, installed, load, no_more_parts_than

if TYPE_CHECKING:
    from torch import Tensor, nn

MODEL = "model.safetensors"
FEEDBACK = "feedback.safetensors"
CONFIG = "config.json"
MODELS_GROUP = "fa_tracking.models"
DATASETS_GROUP = "fa_tracking.datasets"
METHODS_GROUP = "fa_tracking.methods"

LONGEST_NAME = 250
"""Characters of the name of a factory, a loader or a data set, as of a param's in MLflow."""
LONGEST_MODEL = 2**16
"""Characters of the arguments of a model, in JSON: a product of a million of them takes long."""
LARGEST_WEIGHTS = 2**36
"""Bytes of a file of tensors: 16 billion parameters in float32, a hundred times the largest network of this field."""
LARGEST_STEP = 2**31 - 1
"""The last epoch that every store can hold."""
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
    """Describes a model's training data, and how its inputs were normalised.

    ``loader`` names the entry point (group ``fa_tracking.datasets``) that reads the test split; ``test_sha256`` shows
    whether the data are the same.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Inside
    loader: Name
    test_sha256: Name
    mean: tuple[float, ...]
    std: tuple[float, ...]


class RuleSource(BaseModel):
    """Describes the learning rule that trained a model.

    ``factory`` names the entry point (group ``fa_tracking.methods``) that builds it as ``factory(model, **arguments)``:
    ``name`` of a callable, or ``catalogue:item`` of a package with one file a method; ``definition``: which one of that
    name, where it was written down. Its tensors stand in ``feedback.safetensors``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    factory: Name
    definition: int | None = Field(default=None, ge=definition.FIRST, le=definition.LARGEST)
    arguments: Annotated[dict[str, int | float | str | bool | None], AfterValidator(_short)] = {}


class CheckpointConfig(BaseModel):
    """What config.json holds.

    ``factory`` names the entry point (group ``fa_tracking.models``) that builds the model from ``model``: either
    ``name`` of a callable, or ``catalogue:item`` of a package with one file an architecture. ``definition``: which one
    of that name; 0.1 wrote none. ``rule``: missing where no rule was named, as in every checkpoint of version 0.1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    factory: Name | None
    definition: int = Field(default=definition.FIRST, ge=definition.FIRST, le=definition.LARGEST)
    model: Annotated[dict[str, Any], AfterValidator(_short)]
    epoch: int = Field(ge=0, le=LARGEST_STEP)
    dataset: DataSource | None
    rule: RuleSource | None = None
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
    rule: RuleSource | None = None,
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
        rule=rule,
        fa_version=version("fa-track"),
        sha256=digests,
    )
    (folder / CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> Checkpoint:
    """Read the checkpoint in ``folder`` and compare its files with their checksums.

    Raises:
        CheckpointError: a file is missing, damaged, or not what config.json says.
    """
    try:
        config = CheckpointConfig.model_validate(untrusted.read_json(folder / CONFIG))
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {folder.name} has no {CONFIG}") from None
    except (OSError, ValueError, ValidationError) as error:
        raise CheckpointError(f"checkpoint {folder.name}: {CONFIG} is broken: {first_line(error)}") from error
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
    """Build a checkpoint's model, with its weights.

    It is first built without memory, so absurd shapes are refused before they are allocated. It gets no more parts than
    the file has tensors for, so an absurd depth is refused before it costs time.

    Raises:
        NoCheckpointError: it was saved without a factory.
        OtherDefinitionError: its factory's name stands for another network here than the one that was saved.
        CheckpointError: the factory is not installed, or does not fit the weights.
    """
    import torch

    config, where = checkpoint.config, f"checkpoint {checkpoint.folder.name}"
    factory = find_factory(config.factory, where)
    saved = (config.definition, str(config.factory), where, config.fa_version)
    if definition.says(factory):
        definition.must_be(factory, *saved)
    weights = tensors_of(checkpoint, MODEL)
    try:
        with torch.device("meta"), no_more_parts_than(max(len(weights), FEWEST)):
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
        misfit = f"the factory {config.factory!r} does not fit the weights: {first_line(error)}"
        raise CheckpointError(f"{where}: {misfit}") from error
    return model


def tensors_of(checkpoint: Checkpoint, name: str) -> "dict[str, Tensor]":
    """The tensors in one of a checkpoint's files.

    Raises:
        CheckpointError: it is no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(checkpoint.folder / name)
    except (SafetensorError, OSError, ValueError, KeyError) as error:  # KeyError: a type that torch has not
        where = f"checkpoint {checkpoint.folder.name}"
        raise CheckpointError(f"{where}: {name} is not a safetensors file: {first_line(error)}") from error


def find_factory(name: str | None, where: str) -> Any:
    """The callable behind a model factory's name; only installed entry points are ever loaded.

    Raises:
        NoCheckpointError: there is no name.
        CheckpointError: there is none of this name.
    """
    if name is None:
        raise NoCheckpointError("the checkpoint was saved without factory=, see docs/how-to/audit-your-own.md")
    return installed(MODELS_GROUP, "model factory", "Model", name, where)


def test_split(source: DataSource, data_dir: str | None) -> Any:
    """The test split (``inputs``, ``labels``, ``digest``) of a checkpoint's data set.

    Raises:
        FATrackError: its loader is not installed.
        UsageError: the data is not in ``data_dir``.
    """
    points = entry_points_of(DATASETS_GROUP)
    if source.loader not in points.names:
        raise FATrackError(
            f"the data set {source.name!r} is read by {source.loader!r}, which is no entry point of {DATASETS_GROUP!r}"
        )
    return load(points[source.loader])(source.name, data_dir)
