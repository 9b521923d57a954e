"""The map file: which field of a log is meant by which of our names."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from fa_tracking import untrusted
from fa_tracking.errors import UsageError
from fa_tracking.tracking import names


def is_safe(name: str) -> bool:
    """Whether MLflow takes ``name`` for a param or a metric, on every system."""
    parts = name.split("/")
    return re.fullmatch(r"[/\w.\- ]{1,250}", name) is not None and not {"", ".", ".."} & set(parts)


def safe(key: str) -> str:
    """``key`` with every character that MLflow refuses as an underscore."""
    name = re.sub(r"[^/\w.\- ]", "_", key)[:250] or "_"
    return name if is_safe(name) else re.sub(r"[/.]", "_", name)


def _safe_name(name: str) -> str:
    if not is_safe(name):
        raise ValueError(f"{name!r} is no name in MLflow, which takes letters, digits and _ - . / and spaces")
    return name


def _named_groups(pattern: str) -> str:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if not compiled.groupindex:
        raise ValueError("has no named group, such as (?P<seed>\\d+)")
    return pattern


class Number(BaseModel):
    """A number of a log: the path to it, dots between the keys, and what it is multiplied by."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(min_length=1)
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)


Name = Annotated[str, AfterValidator(_safe_name)]
Key = Annotated[str, Field(min_length=1)]
KeyOrNumber = Annotated[Number, BeforeValidator(lambda value: {"key": value} if isinstance(value, str) else value)]


class Fields(BaseModel):
    """Where the things of a log stand. A path to a nested field has dots; a number in it counts a list from 0.

    Attributes:
        log: the list of epochs (JSON).
        epoch: the epoch, in each entry of the list (JSON).
        final_accuracy: the test accuracy at the end of training.
        path: a regular expression that is looked for in the path of a log; its named groups are params.
        params: key by name of the param.
        metrics: key, or key and scale, by name of the metric; ``hL`` and ``gL`` at its end mean the deepest layer.
        ignore: keys that are left out without a word, with all below them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    log: Key = "log"
    epoch: Key = "epoch"
    final_accuracy: KeyOrNumber = Number(key="final_test_acc")
    path: Annotated[str, AfterValidator(_named_groups)] | None = None
    params: dict[Name, Key] = {}
    metrics: dict[Name, KeyOrNumber] = {}
    ignore: tuple[Key, ...] = ()

    @model_validator(mode="after")
    def _each_key_once(self) -> "Fields":
        for keys in (list(self.params.values()), [number.key for number in self.metrics.values()]):
            twice = {key for key in keys if keys.count(key) > 1}
            if twice:
                raise ValueError(f"{' and '.join(map(repr, sorted(twice)))} cannot be two things at once")
        return self

    def ignores(self, key: str) -> bool:
        return any(key == ignored or key.startswith(f"{ignored}.") for ignored in self.ignore)

    def param(self, key: str) -> str | None:
        """The name of the param that ``key`` is; None where the map and the defaults say nothing of it."""
        mapped = {theirs: ours for ours, theirs in self.params.items()}
        return mapped.get(key) or _PARAMS.get(key)

    def metric(self, key: str) -> tuple[str, float] | None:
        """The name of the metric that ``key`` is, and its scale; None as above."""
        for ours, number in self.metrics.items():
            if number.key == key:
                return ours, number.scale
        if found := re.fullmatch(r"([hg])_(L|\d+)_norm", key):
            return _LAYERS[found[1]] + found[2], 1.0
        if key in _METRICS:
            return _METRICS[key], 1.0
        split = _ACCURACY.fullmatch(key)
        return (_ACCURACIES[(split[1] or split[2]).lower()], 1.0) if split else None

    def lists(self) -> set[str]:
        """The lists of which the map names single elements."""
        keys = [*self.params.values(), *(number.key for number in self.metrics.values())]
        return {key[: part.start()] for key in keys for part in re.finditer(r"\.\d+(?=\.|$)", key)}


RESIDUAL, GRAD = (name(0).removesuffix("0") for name in (names.residual_norm, names.grad_norm))
_LAYERS = {"h": RESIDUAL, "g": GRAD}
_PARAMS = {**dict(zip(names.PARAMS, names.PARAMS, strict=True)), "lam": "penalty"}
_METRICS = {
    "test_acc": names.ACCURACY_TEST,
    "train_acc": names.ACCURACY_TRAIN,
    "loss": names.LOSS_TRAIN,
    names.ACCURACY_TEST: names.ACCURACY_TEST,
    names.ACCURACY_TRAIN: names.ACCURACY_TRAIN,
    names.LOSS_TRAIN: names.LOSS_TRAIN,
}


_ACCURACIES = {"test": names.ACCURACY_TEST, "train": names.ACCURACY_TRAIN}
_ACCURACY = re.compile(r"(?:(test|train)[ _./-]acc(?:uracy)?|acc(?:uracy)?[ _./-](test|train))", re.IGNORECASE)


def load(path: Path) -> Fields:
    """The map of a TOML file.

    Raises:
        UsageError: it cannot be read, or is no such map; the message names what and where.
    """
    try:
        return Fields.model_validate(tomllib.loads(untrusted.read_bytes(path).decode()))
    except OSError as error:
        raise UsageError(f"the map {path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise UsageError(f"the map {path}: {_first(error)}") from None
    except ValueError as error:
        raise UsageError(f"the map {path} is no TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"the map {path} is no TOML: it is nested too deeply") from None


def _first(error: ValidationError) -> str:
    first: Any = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "[key]")
    known = f"; there are: {', '.join(Fields.model_fields)}" if first["type"] == "extra_forbidden" else ""
    return f"{where or 'the file'}: {first['msg']}{known}"
