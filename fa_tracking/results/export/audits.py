"""Fills the tables that follow from the tags of an audit: audits, knockouts and functional."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fa_tracking.protocol.diagnostics import finite, stored
from fa_tracking.protocol.functional_report import CREDITS, SERIES
from fa_tracking.tracking import names
from fa_tracking.tracking.audited import NUMBERS, TAGS, Stored, parsed

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Row = dict[str, Any]

TABLES = ("audits", "knockouts", "functional")
BATCH = 1000
"""Runs whose tags are in memory together."""
OWN = tuple(d.FLAG for d in (finite, *stored()))
"""The letters that have a column ``fires_…``."""
LARGEST = 2**31 - 1
"""What a column of integers holds at the most."""


def fill_audits(connection: "DuckDBPyConnection") -> None:
    """Bring the tables up to date for the runs in ``touched``.

    A run whose tags cannot be read as an audit writes them has no audit.
    """
    import pyarrow as pa

    for table in TABLES:
        connection.execute(f"delete from {table} where run_id in (from touched)")
    asked = "select run_id from tags semi join touched using (run_id) where key = $1 order by run_id"
    ids = [run for (run,) in connection.execute(asked, [names.TAG_VERDICT]).fetchall()]
    for start in range(0, len(ids), BATCH):
        found: dict[str, list[Row]] = {table: [] for table in TABLES}
        for run, tags in _tags(connection, ids[start : start + BATCH]):
            try:
                rows = rows_of(run, tags)
            except (ValueError, TypeError, OverflowError):
                continue
            for table in TABLES:
                found[table] += rows[table]
        for table, told in found.items():
            schema = connection.sql(f"from {table} limit 0").to_arrow_table().schema
            connection.register("told", pa.Table.from_pylist(told, schema))
            connection.execute(f"insert into {table} by name from told")
            connection.unregister("told")


def _tags(connection: "DuckDBPyConnection", ids: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    return connection.execute(
        "select run_id, map_from_entries(list((key, value))) from tags "
        "where run_id in (select unnest($1::varchar[])) and key in (select unnest($2::varchar[])) "
        "group by run_id order by run_id",
        [ids, [names.TAG_VERDICT, *TAGS]],
    ).fetchall()


def rows_of(run: str, tags: Mapping[str, str]) -> dict[str, list[Row]]:
    """The rows of ``TABLES`` that a run's tags tell.

    Raises:
        ValueError, TypeError, OverflowError: they are not as an audit writes them.
    """
    told = Stored(tags[names.TAG_VERDICT], parsed(tags, names.TAG_MEASURED), parsed(tags, names.TAG_THRESHOLDS))
    json.dumps(told.measured, ensure_ascii=False).encode()  # half a character is no text
    return {
        "audits": [{"run_id": run} | _audit(tags, told)],
        "knockouts": [{"run_id": run} | row for row in _knockouts(told.measured.get("knockout"))],
        "functional": [{"run_id": run} | row for row in _functional(told.measured.get("functional"))],
    }


def _audit(tags: Mapping[str, str], told: Stored) -> Row:
    fired = {flag: _truth(fires) for flag, fires in told.fired.items()}
    columns = {name: _double(told.measured.get(name)) for name in NUMBERS if name not in ("epoch", "reference")}
    return {
        "verdict": told.verdict,
        "flags": tags.get(names.TAG_FLAGS, ""),
        "evidence": tags.get(names.TAG_EVIDENCE),
        "epoch": _integer(told.measured.get("epoch")),
        "reference": _text(told.measured.get("reference")),
        **columns,
        **{f"fires_{flag}": fired.get(flag) for flag in OWN},
        **{d.THRESHOLD.name: _double(told.thresholds.get(d.THRESHOLD.name)) for d in stored()},
        "kinds": _object(told.measured.get("kinds")),
        "inexact": _object(told.measured.get("inexact")),
        "extra": [(name, _double(value)) for name, value in (told.measured.get("extra") or {}).items()],
        "further": [_further(flag, fires, told) for flag, fires in fired.items() if flag not in OWN],
        "control_runs": [run for run in tags.get(names.TAG_CONTROL_RUNS, "").split(",") if run],
        "protocol_version": tags.get(names.TAG_PROTOCOL_VERSION),
        "checkpoint_sha256": tags.get(names.TAG_CHECKPOINT_SHA256),
        "audited_at": _time(tags.get(names.TAG_AUDITED_AT)),
    }


def _further(flag: str, fires: bool | None, told: Stored) -> Row:
    """What the audit told of a diagnostic without columns of its own, whether or not it is installed here."""
    known = told.further.get(flag, {})
    return {
        "flag": flag,
        "value": _double(known.get("value")),
        "threshold": _double(known.get("threshold")),
        "fires": fires,
        "kind": told.kinds.get(flag),
    }


def _knockouts(told: Any) -> Iterator[Row]:
    if not isinstance(told, dict):
        return
    accuracies = {"none": told.get("whole"), "all": told.get("without_all")}
    accuracies |= {str(block): accuracy for block, accuracy in enumerate(_list(told.get("without")))}
    for removed, accuracy in accuracies.items():
        row = {"removed": removed, "accuracy": _double(accuracy), "samples": _integer(told.get("samples"))}
        if None in row.values():
            raise ValueError("a block knock-out is told in part")
        yield row


def _functional(told: Any) -> Iterator[Row]:
    """A row a credit and hidden state; a list that is shorter than the first has nothing to say of the others."""
    if not isinstance(told, dict):
        return
    samples = _integer(told.get("samples"))
    if samples is None and told.get("cut") is None:
        raise ValueError("the functional measures are told in part")
    for credit in CREDITS if samples and samples > 0 else ():
        of = told.get(credit)
        series = {name: _list(of.get(name) if isinstance(of, dict) else None) for name in SERIES}
        own = {name: _list(told.get(name)) if credit == "rule" else [] for name in ("alignment", "alignment_error")}
        for layer in range(len(next(iter(series.values())))):
            at = {name: _double(v[layer]) if layer < len(v) else None for name, v in (series | own).items()}
            yield {"layer": layer, "credit": credit, "samples": samples, **at}


def _double(value: Any) -> float | None:
    """NaN and infinities stand as words."""
    if isinstance(value, bool):
        raise ValueError("a truth is no number")
    return None if value is None else float(value)


def _integer(value: Any) -> int | None:
    number = _double(value)
    if number is None:
        return None
    if not number.is_integer() or abs(number) > LARGEST:
        raise ValueError("it is no integer of 32 bits")
    return int(number)


def _truth(value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ValueError("it is no truth")
    return value


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError("it is no text")
    return value


def _list(value: Any) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise ValueError("it is no list")
    return value or []


def _object(value: Any) -> str | None:
    return json.dumps(value, separators=(",", ":"), allow_nan=False) if isinstance(value, dict) else None


def _time(value: str | None) -> datetime | None:
    """In UTC, where it says no other zone."""
    if value is None:
        return None
    time = datetime.fromisoformat(value)
    return (time.astimezone(UTC) if time.tzinfo else time).replace(tzinfo=None)
