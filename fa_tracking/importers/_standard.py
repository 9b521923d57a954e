"""From what stands in a log, under its own names, to a run of ours: names, scales, and what a reader must be told."""

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from fa_tracking import cells
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.importers._fields import GRAD, RESIDUAL, Fields, is_safe, safe
from fa_tracking.tracking import names

REFERENCE_BATCH = 128
"""The batch over which a gradient norm of ours is averaged."""

NORMS = (
    RESIDUAL,
    GRAD,
    names.MAX_BLOCK_GROWTH,
    names.STREAM_GROWTH,
    names.DEEPEST_GRAD_NORM,
    names.GRAD_GAIN,
    names.CHANCE_ERROR,
)
DIAGNOSED = (RESIDUAL, GRAD, names.DIAGNOSTICS)

LARGEST_STEP = 2**31 - 1
DEEPEST = 9999
LONGEST_PARAM = 6000
RENAMED = "renamed, as MLflow refuses the name"

NOT_FINITE = {word: float(word) for word in ("nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity")}
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


class Point(NamedTuple):
    """A value at a step: None where it was not measured; ``time`` in milliseconds since 1970, where the log tells."""

    step: int
    value: Any
    time: int | None = None


@dataclass(frozen=True)
class Raw:
    """What stands in a log.

    Attributes:
        files: what it was read from, by the path that each gets among the artifacts.
        params: values of any type by key; the keys of nested fields have dots.
        points: of any type by key.
        steps: every step, also one at which nothing was measured.
        notes: what the reader of the format has to say.
    """

    files: dict[str, Path]
    params: dict[str, Any]
    points: dict[str, list[Point]]
    steps: frozenset[int]
    notes: tuple[str, ...] = ()


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
            _depth({key: str(_spell(key, key, value)) for key, value in self.params.items()})
        except FATrackError as error:
            raise UsageError(str(error)) from None


@dataclass(frozen=True)
class Log:
    """A log as a run of ours: every point's value is a float.

    Attributes:
        given: what of it was said by hand.
        contradiction: between its accuracies, in the words of the run's report; empty where there is none.
    """

    source: Path
    sha256: str
    files: dict[str, Path]
    params: dict[str, str]
    points: dict[str, list[Point]]
    epochs: int
    given: dict[str, Any]
    notes: tuple[str, ...]
    contradiction: str


def standard(source: Path, raw: Raw, fields: Fields, given: Given) -> Log:
    """The run that a log becomes.

    Raises:
        FATrackError: the log contradicts itself, or holds what no log of a training can hold.
    """
    notes = list(raw.notes)
    if wrong := [step for step in raw.steps if not 0 <= step <= LARGEST_STEP]:
        raise FATrackError(f"epoch {wrong[0]} is not between 0 and {LARGEST_STEP}")
    params, by_hand = _params(source, raw, fields, given, notes)
    points = _points(raw, fields, _depth(params), given, notes)
    contradiction = _final_accuracy(raw, fields, points, notes) if raw.steps else ""
    if not points:
        raise FATrackError(f"there is no number in any of its {len(raw.steps)} epochs")
    if not any(name == names.ACCURACY_TEST or name.startswith(DIAGNOSED) for name in points):
        raise FATrackError(
            "holds nothing that an audit reads: no test accuracy, no norm; a --map says what they are called"
        )
    if missing := [key for key in ("method", "seed") if key not in params]:
        give = " ".join(f"--param {key}=…" for key in missing)
        notes.append(f"it says no {' and '.join(missing)}, which the comparison of seeds needs: {give}, or a --map")
    handed = _handed(given, by_hand, points, notes)
    return Log(
        source,
        _sha256(raw.files.values()),
        raw.files,
        params,
        points,
        len(raw.steps),
        handed,
        tuple(notes),
        contradiction,
    )


def _handed(given: Given, params: list[str], points: dict[str, list[Point]], notes: list[str]) -> dict[str, Any]:
    """What of the run was given by hand, as its tag says it."""
    said: dict[str, Any] = {"control_accuracy": given.control_accuracy, "grad_batch": given.grad_batch}
    if given.h0_norm is not None and names.residual_norm(0) in points:
        notes.append("its own ‖h_0‖ is used, not --h0-norm")
    else:
        said["h0_norm"] = given.h0_norm
    return {key: value for key, value in said.items() if value is not None} | ({"params": params} if params else {})


def _params(source: Path, raw: Raw, fields: Fields, given: Given, notes: list[str]) -> tuple[dict[str, str], list[str]]:
    """The params, and which of them were given by hand."""
    found: dict[str, str] = {}
    origin: dict[str, str] = {}
    left_out, renamed = [], []
    for key, value in [*raw.params.items(), *_of_the_path(source, fields, notes)]:
        if key == fields.final_accuracy.key or fields.ignores(key) or value is None:
            continue
        name = fields.param(key) or safe(key)
        text = _spell(name, key, value)
        if text is None or len(text) > LONGEST_PARAM:
            left_out.append(key)
        elif found.setdefault(name, text) != text:
            raise FATrackError(f"{_both(origin[name], key, f'the param {name}')}: {found[name]!r} and {text!r}")
        origin.setdefault(name, key)
        renamed += [key] if name != key and not fields.param(key) and name in found else []
    notes += _listed(RENAMED, renamed)
    notes += _listed("not imported, as it is neither a number nor a text of a line", left_out)
    notes += _listed("in the map, but not in the log", [k for k in fields.params.values() if raw.params.get(k) is None])
    by_hand = [key for key in given.params if key not in found]
    for key in given.params.keys() & found.keys():
        if found[key] != _spell(key, key, given.params[key]):
            notes.append(f"its own {key} is used, not that of --param")
    params = found | {key: str(_spell(key, key, given.params[key])) for key in by_hand}
    if wrong := cells.contradiction(params):
        raise FATrackError(wrong)
    return params, by_hand


def _of_the_path(source: Path, fields: Fields, notes: list[str]) -> list[tuple[str, str]]:
    if fields.path is None:
        return []
    found = re.search(fields.path, source.absolute().as_posix())
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


def _depth(params: dict[str, str]) -> int | None:
    text = params.get("depth")
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,4}", text):
        raise FATrackError(f"a depth of {text!r}: it must be a number of blocks, up to {DEEPEST}")
    return int(text)


def _points(raw: Raw, fields: Fields, depth: int | None, given: Given, notes: list[str]) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    origin: dict[str, str] = {}
    not_numbers, never, renamed = [], [], []
    for key, series in raw.points.items():
        if fields.ignores(key):
            continue
        known = fields.metric(key)
        name, scale = known or (safe(key), 1.0)
        name = _layered(name, key, depth)
        if _is_gradient(name):
            scale *= (given.grad_batch or REFERENCE_BATCH) / REFERENCE_BATCH
        values, others = _numbers(key, series, scale, strict=known is not None)
        not_numbers += [key] if others else []
        never += [key] if not values and not others else []
        renamed += [key] if name != key and not known and values else []
        _check_accuracy(name, key, values)
        _check_norm(name, key, values)
        if values:
            found[name] = _together(origin.get(name, ""), key, name, found.get(name, []), values)
            origin.setdefault(name, key)
    notes += _listed("not imported where it is no number", not_numbers)
    notes += _listed("not measured in any epoch", never)
    notes += _listed(RENAMED, renamed)
    notes += _listed("in the map, but in no epoch", [n.key for n in fields.metrics.values() if n.key not in raw.points])
    if given.grad_batch is None and any(map(_is_gradient, found)):
        notes.append(
            f"its gradient norms are taken as at mean reduction over {REFERENCE_BATCH} samples; "
            "--grad-batch says otherwise"
        )
    return found


def _layered(name: str, key: str, depth: int | None) -> str:
    """The name of a metric with its layer as a number; ``L`` is the deepest."""
    if name in (f"{RESIDUAL}L", f"{GRAD}L"):
        if depth is None:
            raise FATrackError(f"{key!r} is of the deepest layer, and the log tells no depth: --param depth=4, say")
        return f"{name[:-1]}{depth}"
    layer = re.fullmatch(r"(\w+/[a-z])(\d+)", name)
    if layer is None:
        return name
    of_ours = layer[1] in (RESIDUAL, GRAD)
    deepest = depth if of_ours and depth is not None else DEEPEST
    if len(layer[2]) > 9 or int(layer[2]) > deepest:
        raise FATrackError(f"{key!r} is of a layer beyond the deepest, {deepest}")
    return f"{layer[1]}{int(layer[2])}" if of_ours else name


def _is_gradient(name: str) -> bool:
    return name.startswith(GRAD) or name == names.DEEPEST_GRAD_NORM


def _numbers(key: str, series: list[Point], scale: float, strict: bool) -> tuple[list[Point], bool]:
    """The points that hold a number, multiplied by ``scale``, and whether others hold something else.

    Raises:
        FATrackError: others do, and ``strict``: the key is one whose meaning is known.
    """
    found, others = [], False
    for point in series:
        value = as_number(point.value)
        if value is not None:
            found.append(point._replace(value=value * scale))
        elif point.value is not None:
            others = True
            if strict:
                raise FATrackError(f"epoch {point.step}: {key!r} is {_brief(point.value)}, which is no number")
    return found, others


def as_number(value: Any) -> float | None:
    """A float, also of the spellings of NaN and infinity that JSON needs; None: it is no number."""
    if isinstance(value, str):
        return NOT_FINITE.get(value.strip().lower())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _brief(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 2**63 else "an integer beyond a double"
    return text if len(text) <= 40 else f"{text[:40]}…"


def _check_accuracy(name: str, key: str, series: list[Point]) -> None:
    if name not in (names.ACCURACY_TEST, names.ACCURACY_TRAIN):
        return
    for point in series:
        if math.isfinite(point.value) and not 0 <= point.value <= 1:
            raise FATrackError(
                f"epoch {point.step}: {key!r} gives an accuracy of {point.value:.6g}, which is not in [0, 1]: where it "
                f'is in percent, give --map FILE.toml with [metrics] "{name}" = {{ key = "{key}", scale = 0.01 }}'
            )


def _check_norm(name: str, key: str, series: list[Point]) -> None:
    if not name.startswith(NORMS):
        return
    for point in series:
        if point.value < 0:
            raise FATrackError(f"epoch {point.step}: {key!r} is {point.value:.6g}, and a norm is not negative")


def _together(first: str, second: str, name: str, one: list[Point], other: list[Point]) -> list[Point]:
    """Two series of one name, where they do not contradict each other."""
    known: dict[int, set[str]] = defaultdict(set)
    for point in one:
        known[point.step].add(repr(point.value))
    for point in other:
        if point.step in known and repr(point.value) not in known[point.step]:
            raise FATrackError(f"{_both(first, second, name)}, and differ at epoch {point.step}")
    return one + [point for point in other if point.step not in known]


def _both(first: str, second: str, name: str) -> str:
    return f"{first!r} and {second!r} are both {name} (a --map can `ignore` one)"


def _final_accuracy(raw: Raw, fields: Fields, points: dict[str, list[Point]], notes: list[str]) -> str:
    """The accuracy at the end of training is that of the last epoch where that has none; else the two are compared.

    What the run's report must say of the two where they differ is returned.
    """
    contradiction = ""
    key, scale = fields.final_accuracy.key, fields.final_accuracy.scale
    stated = raw.params.get(key)
    if stated is None or fields.ignores(key):
        return contradiction
    value = as_number(stated)
    if value is None:
        raise FATrackError(f"{key!r} is {_brief(stated)}, which is no number")
    value *= scale
    if math.isfinite(value) and not 0 <= value <= 1:
        raise FATrackError(
            f"{key!r} gives an accuracy of {value:.6g}, which is not in [0, 1]: where it is in percent, give --map "
            f'FILE.toml with final_accuracy = {{ key = "{key}", scale = 0.01 }}'
        )
    last = max(raw.steps)
    logged = [point.value for point in points.get(names.ACCURACY_TEST, []) if point.step == last]
    if not logged:
        points.setdefault(names.ACCURACY_TEST, []).append(Point(last, value))
        notes.append(f"{key!r} is taken as the test accuracy of the last epoch, {last}, which logs none")
    elif repr(logged[-1]) != repr(value) and not math.isclose(logged[-1], value, rel_tol=1e-9):
        notes.append(
            f"{key!r} is {value:.6g}, but the last epoch, {last}, says {logged[-1]:.6g}, which is the headline"
        )
        contradiction = f"{key} {value:.6g} in the log, last epoch {logged[-1]:.6g}"
    points.setdefault(safe(key), []).append(Point(last, value))
    return contradiction


def _listed(says: str, keys: list[str]) -> list[str]:
    shown = ", ".join(map(repr, keys[:8])) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
    return [f"{says}: {shown}"] if keys else []


def _sha256(files: Iterable[Path]) -> str:
    """Of one file its own; of several, of their sorted digests, so that moving or renaming them changes nothing."""
    digests = []
    for path in files:
        try:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise FATrackError(f"{path.name} cannot be read: {error.strerror}") from None
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


class UnknownShape(FATrackError):  # noqa: N818  the shape is no failure of its own
    """A log whose shape no reader knows; the format's EXAMPLE shows what is expected."""
