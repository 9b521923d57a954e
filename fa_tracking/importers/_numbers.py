"""A log's numbers under our names and in our scales; what no training can give is refused."""

import math
import re
from collections import defaultdict
from typing import Any

from fa_tracking.errors import FATrackError, InvalidError
from fa_tracking.importers._fields import GRAD, RESIDUAL, Fields, safe
from fa_tracking.importers._log import Point, Raw
from fa_tracking.importers._params import Given
from fa_tracking.importers._said import RENAMED, both, brief, noted
from fa_tracking.protocol.ranges import DEEPEST_LAYER
from fa_tracking.tracking import names
from fa_tracking.tracking.possible import refuse_impossible

REFERENCE_BATCH = 128
"""The batch over which a gradient norm of ours is averaged."""

NOT_FINITE = {word: float(word) for word in ("nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity")}


def points_of(
    raw: Raw, fields: Fields, depth: int | None, given: Given, notes: list[str], held_out: str | None
) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    origin: dict[str, str] = {}
    not_numbers, never, renamed = [], [], []
    for key, series in raw.points.items():
        if fields.ignores(key):
            continue
        known = (names.ACCURACY_TEST, 1.0) if key == held_out else fields.metric(key)
        name, scale = known or (safe(key), 1.0)
        name = _layered(name, key, depth)
        if _is_gradient(name):
            scale *= (given.grad_batch or REFERENCE_BATCH) / REFERENCE_BATCH
        values, others = _numbers(key, series, scale, strict=known is not None)
        not_numbers += [key] if others else []
        never += [key] if not values and not others else []
        renamed += [key] if name != key and not known and values else []
        for point in values:
            entry = f'[metrics] "{name}" = {{ key = "{key}", scale = 0.01 }}'
            _refuse_impossible(name, point.value, f"epoch {point.step}: {key!r}", entry)
        if values:
            found[name] = _together(origin.get(name, ""), key, name, found.get(name, []), values)
            origin.setdefault(name, key)
    notes += noted("not imported where it is no number", not_numbers)
    notes += noted("not measured in any epoch", never)
    notes += noted(RENAMED, renamed)
    notes += noted("in the map, but in no epoch", [n.key for n in fields.metrics.values() if n.key not in raw.points])
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
    deepest = depth if of_ours and depth is not None else DEEPEST_LAYER
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
                raise FATrackError(f"epoch {point.step}: {key!r} is {brief(point.value)}, which is no number")
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


def _refuse_impossible(name: str, value: float, where: str, entry: str) -> None:
    """Refuse what no training gives under a name of ours; of an accuracy in percent, say what the map says of it.

    Args:
        where: what of the log it is; ``entry``: the map's line for it.
    """
    try:
        refuse_impossible({name: value})
    except InvalidError as error:
        percent = ""
        if name in (names.ACCURACY_TEST, names.ACCURACY_TRAIN):
            percent = f": where it is in percent, give --map FILE.toml with {entry}"
        raise FATrackError(f"{where}: {error}{percent}") from None


def _together(first: str, second: str, name: str, one: list[Point], other: list[Point]) -> list[Point]:
    """Two series of one name, where they do not contradict each other."""
    known: dict[int, set[str]] = defaultdict(set)
    for point in one:
        known[point.step].add(repr(point.value))
    for point in other:
        if point.step in known and repr(point.value) not in known[point.step]:
            raise FATrackError(f"{both(first, second, name)}, and differ at epoch {point.step}")
    return one + [point for point in other if point.step not in known]


def final_accuracy(raw: Raw, fields: Fields, points: dict[str, list[Point]], notes: list[str]) -> str:
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
        raise FATrackError(f"{key!r} is {brief(stated)}, which is no number")
    value *= scale
    entry = f'final_accuracy = {{ key = "{key}", scale = 0.01 }}'
    _refuse_impossible(names.ACCURACY_TEST, value, repr(key), entry)
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
