"""From the shape that a log has to rows: a row is a mapping of what was logged together.

The shapes:

    a list of objects             one a row, alone or at the key that the map names
    lines of objects              the same, a line each
    an object keyed by epoch      {"epoch_1": {...}, "2": {...}}
    columns                       {"loss": [...], "acc": [...]}, as Keras' History; {"loss": {"0": ...}} and
                                  {"columns": [...], "data": [[...], ...]}, as pandas
    series with their own steps   {"loss": {"steps": [...], "values": [...]}}, as Sacred
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fa_tracking.errors import FATrackError
from fa_tracking.importers._fields import Fields
from fa_tracking.importers._log import UnknownShapeError
from fa_tracking.importers._numbers import as_number
from fa_tracking.importers._said import listed

Row = dict[str, Any]

COUNT = ""
"""The key of a row's own number, where nothing in the row says its epoch."""
EPOCHS = ("epoch", "epochs")
WRAPPERS = ("log", "log_history", "history", "logs")

_KEYED = re.compile(r"(epochs?|ep|steps?|iter|iteration)?[ _.:-]?(\d{1,12})", re.IGNORECASE)


@dataclass
class Rows:
    """A log as rows.

    Attributes:
        rows: in the order of the log.
        what: the rows together, for a message: "'log'".
        params: what stands beside them.
        count: rows have a number of their own, at ``COUNT``: "first", which counts before any key; "last", where no
            key tells the epoch; or "".
        headed: a row without an epoch is no error: it holds params, as the first line of a file may.
    """

    rows: list[Row]
    what: str
    params: Row
    count: str = ""
    headed: bool = False


def found_in(value: Any, fields: Fields) -> Rows:
    """The rows of what a JSON file holds.

    Raises:
        UnknownShapeError: it has none of the shapes.
        FATrackError: it has one, and contradicts it.
    """
    if rows := _of_list(value, "the list"):
        return rows
    if isinstance(value, dict):
        value = {key: inner for key, inner in value.items() if not fields.ignores(key)}
    else:
        raise UnknownShapeError(f"holds {_kind(value)}, not an object or a list with epochs")
    wrapper = _wrapper(value, fields)
    if wrapper is not None:
        path, inner, beside = wrapper
        rows = _of_list(inner, repr(path)) or _of_object(inner, repr(path))
        if rows is None:
            raise UnknownShapeError(f"{path!r} is {_kind(inner)}, not a list of epochs{_holds(inner)}")
        return Rows(rows.rows, rows.what, _beside(beside, rows), rows.count)
    rows = _of_object(value, "the log")
    if rows is not None:
        return rows
    for test in (_of_list, _of_object):
        inside = {key: found for key, inner in value.items() if (found := _fits(test, inner, repr(key)))}
        if len(inside) > 1:
            names = " and ".join(map(repr, inside))
            raise UnknownShapeError(
                f"{names} may each be the epochs: a --map says which, by log = {next(iter(inside))!r}"
            )
        for key, rows in inside.items():
            return Rows(rows.rows, rows.what, {k: v for k, v in value.items() if k != key} | rows.params, rows.count)
    raise UnknownShapeError(f"has no {fields.log!r}{_holds(value)}; a --map says which key holds the epochs")


def flattened(found: Row, lists: set[str] = frozenset()) -> Row:  # type: ignore[assignment]
    """Every value by its path, dots between the keys; of the lists those named in ``lists`` are taken apart.

    Raises:
        FATrackError: two values have the same path.
    """
    flat: Row = {}
    waiting = [(str(key), value) for key, value in reversed(found.items())]
    while waiting:
        path, value = waiting.pop()
        inner = value if isinstance(value, dict) else None
        if isinstance(value, list) and path in lists:
            inner = {str(index): each for index, each in enumerate(value)}
        if inner is not None:
            waiting += [(f"{path}.{key}", each) for key, each in reversed(inner.items())]
        elif path in flat:
            raise FATrackError(f"the path {path!r} stands in it twice")
        else:
            flat[path] = value
    return flat


def _wrapper(value: Row, fields: Fields) -> tuple[str, Any, Row] | None:
    """The key that holds the epochs, by the map or by custom; what it holds; and what stands beside it."""
    mapped = "log" in fields.model_fields_set
    for path in [fields.log] if mapped else WRAPPERS:
        for parts in ([path], path.split(".")):
            inner = _at(value, parts)
            if isinstance(inner, list | dict) or (inner is not None and mapped):
                return path, inner, _without(value, parts)
    if mapped:
        raise UnknownShapeError(f"has no {fields.log!r}{_holds(value)}; a --map says which key holds the epochs")
    if fields.log in value:
        raise UnknownShapeError(f"{fields.log!r} is {_kind(value[fields.log])}, not a list of epochs")
    return None


def _at(value: Any, parts: list[str]) -> Any:
    for part in parts:
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


def _without(value: Row, parts: list[str]) -> Row:
    first, *rest = parts
    return {k: (_without(v, rest) if rest and k == first else v) for k, v in value.items() if rest or k != first}


def _beside(beside: Row, rows: Rows) -> Row:
    """What stands beside the rows; the column of their epochs, as Keras keeps it, becomes part of them."""
    length = len(rows.rows)
    for key in EPOCHS:
        column = beside.get(key)
        if isinstance(column, list) and len(column) == length and not any(key in row for row in rows.rows):
            for row, epoch in zip(rows.rows, column, strict=True):
                row[key] = epoch
            beside = {k: v for k, v in beside.items() if k != key}
    return beside | rows.params


def _fits(test: Any, inner: Any, what: str) -> Rows | None:
    """The rows of a value, where it has the shape that ``test`` knows; a list of anything else is no error here."""
    try:
        found: Rows | None = test(inner, what)
    except FATrackError:
        return None
    return found


def _of_list(value: Any, what: str) -> Rows | None:
    if not isinstance(value, list):
        return None
    if not value:
        raise FATrackError(f"{what} is empty: there is no epoch")
    for number, entry in enumerate(value, start=1):
        if not isinstance(entry, dict):
            raise UnknownShapeError(f"entry {number} of {what} is {_kind(entry)}, not an object")
    if all(isinstance(entry.get("name"), str) and _is_series(entry) for entry in value):
        return Rows(list(_series({entry["name"]: entry for entry in value})), what, {}, "first")
    return Rows([dict(entry) for entry in value], what, {})


def _of_object(value: Any, what: str) -> Rows | None:
    """The rows of an object; None where it has no shape that is known."""
    if not isinstance(value, dict):
        return None
    for shape in (_keyed_by_epoch, _with_own_steps, _split, _by_index, _columns):
        if rows := shape(value, what):
            return rows
    return None


def _keyed_by_epoch(value: Row, what: str) -> Rows | None:
    matches = {key: match for key in value if (match := _KEYED.fullmatch(key)) and isinstance(value[key], dict)}
    objects = [key for key, inner in value.items() if isinstance(inner, dict)]
    if not matches or (len(matches) < len(objects) and not all(match[1] for match in matches.values())):
        return None
    rows = [{COUNT: int(match[2]), **value[key]} for key, match in matches.items()]
    named = all(match[1] for match in matches.values())
    beside = {key: inner for key, inner in value.items() if key not in matches}
    return Rows(rows, what, beside, "first" if named else "last")


def _with_own_steps(value: Row, what: str) -> Rows | None:
    series = {key: inner for key, inner in value.items() if _is_series(inner)}
    if not series:
        return None
    return Rows(list(_series(series)), what, {k: v for k, v in value.items() if k not in series}, "first")


def _is_series(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("steps"), list) and isinstance(value.get("values"), list)


def _series(series: Mapping[str, Row]) -> Iterator[Row]:
    for key, each in series.items():
        if len(each["steps"]) != len(each["values"]):
            raise FATrackError(f"{key!r} has {len(each['steps'])} steps and {len(each['values'])} values")
        for step, value in zip(each["steps"], each["values"], strict=True):
            # Sacred writes a number of NumPy as an object that holds it
            number = value["value"] if isinstance(value, dict) and "value" in value else value
            yield {COUNT: step, key: number}


def _split(value: Row, what: str) -> Rows | None:
    """As pandas writes a frame in parts: the names of the columns, and the rows."""
    names, data = value.get("columns"), value.get("data")
    if not (isinstance(names, list) and isinstance(data, list) and all(isinstance(row, list) for row in data)):
        return None
    if wrong := [number for number, row in enumerate(data, start=1) if len(row) != len(names)]:
        raise FATrackError(f"row {wrong[0]} of its data has {len(data[wrong[0] - 1])} values for {len(names)} columns")
    rows = [{COUNT: number, **dict(zip(map(str, names), row, strict=True))} for number, row in enumerate(data, start=1)]
    return Rows(rows, what, {k: v for k, v in value.items() if k not in ("columns", "data", "index")}, "last")


def _by_index(value: Row, what: str) -> Rows | None:
    """As pandas writes a frame: each column an object of its values by row."""
    columns = {
        key: inner
        for key, inner in value.items()
        if isinstance(inner, dict)
        and inner
        and all(_KEYED.fullmatch(k) for k in inner)
        and all(map(_is_cell, inner.values()))
    }
    if not columns:
        return None
    rows: dict[int, Row] = {}
    for key, inner in columns.items():
        for index, each in inner.items():
            number = int(_KEYED.fullmatch(index)[2])  # type: ignore[index]
            rows.setdefault(number, {COUNT: number})[key] = each
    return Rows(list(rows.values()), what, {k: v for k, v in value.items() if k not in columns}, "last")


def _columns(value: Row, what: str) -> Rows | None:
    """Lists of one length; an object of nothing but such lists may stand in place of one."""
    columns = {key: inner for key, inner in value.items() if _is_column(inner)}
    flat = flattened(columns)
    if not flat:
        return None
    lengths = Counter(map(len, flat.values()))
    if len(lengths) > 1:
        (most, _), *_ = lengths.most_common()
        usual = next(key for key, column in flat.items() if len(column) == most)
        other = next(key for key, column in flat.items() if len(column) != most)
        raise FATrackError(
            f"{usual!r} has {most} values and {other!r} has {len(flat[other])}: columns hold one value an epoch, "
            "so write null where nothing was measured, or let a --map ignore one"
        )
    (length,) = lengths
    rows = [{COUNT: i + 1, **{key: column[i] for key, column in flat.items()}} for i in range(length)]
    return Rows(rows, what, {k: v for k, v in value.items() if k not in columns}, "last")


def _is_column(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(map(_is_column, value.values()))
    return isinstance(value, list) and bool(value) and all(map(_is_cell, value)) and any(map(_is_number, value))


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, str | bool) or _is_number(value)


def _is_number(value: Any) -> bool:
    return as_number(value) is not None


def _holds(value: Any) -> str:
    keys: Iterable[str] = value if isinstance(value, dict) else ()
    return f": it holds {listed(keys)}" if keys else ""


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
