"""A log's params as MLflow holds them, with what was given by hand."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fa_tracking import cells
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.importers._fields import Fields, is_safe, safe
from fa_tracking.importers._log import Raw
from fa_tracking.importers._said import RENAMED, both, noted
from fa_tracking.protocol.ranges import DEEPEST_LAYER
from fa_tracking.tracking import names

LONGEST_PARAM = 6000
WHOLE = (
    "width",
    "depth",
    "seed",
    "epochs",
    "batch_size",
    "definition",
    "rule_definition",
    "expansion",
    "lr_warmup",
    names.TRAINABLE_BLOCKS,
)
TRUTH = {"true": "True", "1": "True", "1.0": "True", "false": "False", "0": "False", "0.0": "False"}


@dataclass(frozen=True)
class Given:
    """What is said by hand of logs that lack it; see ``import_logs``."""

    h0_norm: float | None = None
    control_accuracy: float | None = None
    grad_batch: int | None = None
    params: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.h0_norm is not None and not (math.isfinite(self.h0_norm) and self.h0_norm > 0):
            raise UsageError(f"an h0 norm of {self.h0_norm}: it must be above 0 and finite")
        if self.control_accuracy is not None and not 0 <= self.control_accuracy <= 1:
            raise UsageError(f"a control accuracy of {self.control_accuracy}: it must be a share in [0, 1]")
        if self.grad_batch is not None and self.grad_batch < 1:
            raise UsageError(f"a gradient batch of {self.grad_batch}: it must be 1 or more")
        wrong = [key for key in self.params if not is_safe(key)]
        if wrong:
            raise UsageError(f"{wrong[0]!r} is no name of a param: MLflow takes letters, digits and _ - . / and spaces")
        try:
            depth_of({key: str(_spell(key, key, value)) for key, value in self.params.items()})
        except FATrackError as error:
            raise UsageError(str(error)) from None


def params_of(
    source: Path, raw: Raw, fields: Fields, given: Given, notes: list[str]
) -> tuple[dict[str, str], list[str]]:
    """The params, and which of them were given by hand."""
    found: dict[str, str] = {}
    origin: dict[str, str] = {}
    left_out, renamed = [], []
    for key, value in [*raw.params.items(), *_of_the_path(source, raw.part, fields, notes)]:
        if key == fields.final_accuracy.key or fields.ignores(key) or value is None:
            continue
        name = fields.param(key) or safe(key)
        text = _spell(name, key, value)
        if text is None or len(text) > LONGEST_PARAM:
            left_out.append(key)
        elif found.setdefault(name, text) != text:
            raise FATrackError(f"{both(origin[name], key, f'the param {name}')}: {found[name]!r} and {text!r}")
        origin.setdefault(name, key)
        renamed += [key] if name != key and not fields.param(key) and name in found else []
    notes += noted(RENAMED, renamed)
    notes += noted("not imported, as it is neither a number nor a text of a line", left_out)
    notes += noted("in the map, but not in the log", [k for k in fields.params.values() if raw.params.get(k) is None])
    by_hand = [key for key in given.params if key not in found]
    for key in given.params.keys() & found.keys():
        if found[key] != _spell(key, key, given.params[key]):
            notes.append(f"its own {key} is used, not that of --param")
    params = found | {key: str(_spell(key, key, given.params[key])) for key in by_hand}
    if wrong := cells.contradiction(params):
        raise FATrackError(wrong)
    return params, by_hand


def _of_the_path(source: Path, part: str, fields: Fields, notes: list[str]) -> list[tuple[str, str]]:
    if fields.path is None:
        return []
    found = re.search(fields.path, "/".join(filter(None, [source.absolute().as_posix(), part])))
    if found is None:
        notes.append("its path does not match the map's `path`")
    return [(key, value) for key, value in found.groupdict().items() if value is not None] if found else []


def _spell(name: str, key: str, value: Any) -> str | None:
    """A param's value as `start_run` would have logged it; None: it is no scalar."""
    if not isinstance(value, bool | int | float | str):
        return None
    if name == names.FROZEN_BLOCKS:
        if str(value).lower() not in TRUTH:
            raise FATrackError(f"{key!r} is {value!r}: {name} is true or false")
        return TRUTH[str(value).lower()]
    if name in WHOLE and isinstance(value, float) and value.is_integer():
        return str(int(value))
    try:
        text = str(value)
    except ValueError:  # an integer of more digits than Python writes out
        return None
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")  # what every store can hold


def depth_of(params: dict[str, str]) -> int | None:
    text = params.get("depth")
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,4}", text):
        raise FATrackError(f"a depth of {text!r}: it must be a number of blocks, up to {DEEPEST_LAYER}")
    return int(text)
