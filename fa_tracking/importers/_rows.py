"""From rows to points at steps: which key tells the epoch, what is a param, and which rows are one."""

import math
from typing import Any

from fa_tracking.errors import FATrackError
from fa_tracking.importers._fields import Fields
from fa_tracking.importers._log import Point, UnknownShapeError
from fa_tracking.importers._numbers import as_number
from fa_tracking.importers._said import listed
from fa_tracking.importers._shapes import COUNT, EPOCHS, Row, Rows, flattened

STEPS = (
    "step",
    "steps",
    "_step",
    "global_step",
    "trainer/global_step",
    "iteration",
    "training_iteration",
    "iter",
    "it",
)
TELL_APART = ("method", "seed", "architecture", "dataset", "width", "depth")
"""Params that differ between trainings, never within one."""


def points(rows: Rows, fields: Fields) -> tuple[Row, dict[str, list[Point]], frozenset[int], list[str]]:
    """The params, points, steps and notes of rows.

    Raises:
        FATrackError: no key tells the epoch of every row, or two rows contradict each other.
    """
    notes: list[str] = []
    lists = fields.lists()
    flat = [flattened(row, lists) for row in rows.rows]
    params = flattened(rows.params, lists)
    if rows.headed:
        flat, params = _without_heads(flat, params, fields)
    if not flat:
        raise FATrackError(f"{rows.what} is empty: there is no epoch")
    flat, params = _constants(flat, params, fields)
    axis = _axis(flat, rows, fields, notes)
    found: dict[str, list[Point]] = {}
    steps: set[int] = set()
    for step, row in axis:
        steps.add(step)
        for key, value in row.items():
            found.setdefault(key, []).append(Point(step, value))
    return params, found, frozenset(steps), notes


def _without_heads(rows: list[Row], params: Row, fields: Fields) -> tuple[list[Row], Row]:
    """Rows that tell no epoch, where others do, are params."""
    keys = {key for row in rows for key in _candidates(row, fields)}
    heads = [row for row in rows if not any(row.get(key) is not None for key in keys)] if keys else []
    changing: set[str] = set()
    for row in heads:
        for key, value in row.items():
            if params.setdefault(key, value) == value:
                continue
            if fields.param(key) not in TELL_APART and _are_texts(params[key], value):
                changing.add(key)  # such as the kind of a line, which is no param
            else:
                raise FATrackError(
                    f"{key!r} stands in two lines without an epoch: {params[key]!r:.40} and {value!r:.40}; those lines "
                    f"hold {listed(dict.fromkeys(k for head in heads for k in head))}; a --map can ignore {key!r}"
                )
    params = {key: value for key, value in params.items() if key not in changing}
    return [row for row in rows if not any(row is head for head in heads)], params


def _constants(rows: list[Row], params: Row, fields: Fields) -> tuple[list[Row], Row]:
    """Texts, and params by name, that are the same in every row are the log's params, not what it measured.

    Raises:
        FATrackError: a param that tells trainings apart changes from row to row.
    """
    moved: Row = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row[key] for row in rows if row.get(key) is not None]
        name = fields.param(key)
        text = bool(values) and all(isinstance(v, str | bool) and as_number(v) is None for v in values)
        different = list(dict.fromkeys(map(repr, values)))
        if fields.metric(key) or not (name or text) or (key in EPOCHS and len(different) == len(values)):
            continue
        if len(different) == 1 and key not in params:
            moved[key] = values[0]
        elif name in TELL_APART and len(different) > 1:
            raise FATrackError(
                f"{key!r} is {different[0]:.40} and {different[1]:.40}: it holds several trainings; "
                "write a file for each"
            )
    return [{key: value for key, value in row.items() if key not in moved} for row in rows], params | moved


def _candidates(row: Row, fields: Fields) -> list[str]:
    """The keys of a row that may tell its epoch, the best first."""
    if "epoch" in fields.model_fields_set:
        return [fields.epoch] if fields.epoch in row else []
    known = [fields.epoch, *EPOCHS, *STEPS]
    return [key for name in dict.fromkeys(known) for key in row if key.lower() == name]


def _axis(rows: list[Row], table: Rows, fields: Fields, notes: list[str]) -> list[tuple[int, Row]]:
    """Every step with what was logged at it, by the first key that tells the epochs without a contradiction.

    Raises:
        FATrackError: none does; the message says why the best does not.
    """
    mapped = "epoch" in fields.model_fields_set
    keys = list(dict.fromkeys(key for row in rows for key in _candidates(row, fields)))
    order = {"first": [COUNT, *keys], "last": [*keys, COUNT], "": keys}[table.count]
    if mapped:
        order = keys
    if not order:
        raise UnknownShapeError(_without_epoch(1, rows[0], table, fields.epoch))
    problem: FATrackError | None = None
    for key in order:
        try:
            between = [row for row in rows if _is_between(row.get(key))] if mapped else []
            found = _merged(rows, between, key, table, fields)
        except FATrackError as error:
            problem = problem or error
            continue
        if between:
            notes.append(
                f"{len(between)} of its {len(rows)} entries stand between two epochs, as {key!r} says, and are not "
                "imported"
            )
        _say_axis(key, problem, table, notes)
        return [
            (step, {k: v for k, v in row.items() if k not in (key, COUNT) and not (k in EPOCHS and v == step)})
            for step, row in found.items()
        ]
    assert problem is not None
    raise problem


def _say_axis(key: str, problem: FATrackError | None, table: Rows, notes: list[str]) -> None:
    if key == COUNT and table.count == "last":
        notes.append("it tells no epochs: its steps are the numbers of its rows")
    elif problem:
        notes.append(f"its steps are those of {key!r}, as {problem}")
    elif key.lower() not in (*EPOCHS, COUNT):
        notes.append(f"its steps are those of {key!r}")


def _is_between(value: Any) -> bool:
    number = None if isinstance(value, str) else as_number(value)
    return number is not None and math.isfinite(number) and not number.is_integer()


def _merged(rows: list[Row], left_out: list[Row], key: str, table: Rows, fields: Fields) -> dict[int, Row]:
    """The rows by step; those of one step are one, where they do not contradict each other."""
    found: dict[int, Row] = {}
    axes = {COUNT, *(name for row in rows for name in row if name.lower() in (*EPOCHS, *STEPS))}
    for number, row in enumerate(rows, start=1):
        if any(row is each for each in left_out):
            continue
        step = _step(row, number, key, table, fields)
        known = found.setdefault(step, {})
        for name, value in row.items():
            if value is None:
                known.setdefault(name, value)
            elif known.get(name) is None or name in axes:
                known[name] = value
            elif _are_texts(known[name], value):
                known[name] = value  # such as the kind of an entry, which measures nothing
            elif not _same(known[name], value):
                raise FATrackError(
                    f"{_called(key)} {step} stands in it twice, with {name!r} {known[name]!r:.40} and {value!r:.40}"
                )
    return found


def _are_texts(one: Any, other: Any) -> bool:
    return all(isinstance(each, str) and as_number(each) is None for each in (one, other))


def _same(one: Any, other: Any) -> bool:
    first, second = as_number(one), as_number(other)
    if first is None or second is None:
        return bool(one == other)
    return first == second or (math.isnan(first) and math.isnan(second))


def _step(row: Row, number: int, key: str, table: Rows, fields: Fields) -> int:
    if row.get(key) is None:
        raise UnknownShapeError(_without_epoch(number, row, table, key or fields.epoch))
    value = row[key]
    step = None if isinstance(value, str) else as_number(value)
    if step is None or not step.is_integer():
        raise FATrackError(f"entry {number} of {table.what}: {key or 'its step'!r} is {value!r:.40}, not an integer")
    return int(step)


def _without_epoch(number: int, row: Row, table: Rows, key: str) -> str:
    return f"entry {number} of {table.what} has no {key!r}: it holds {listed(row)}; a --map says what it is called"


def _called(key: str) -> str:
    return "epoch" if key.lower() in (*EPOCHS, COUNT) else key
