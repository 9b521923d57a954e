"""An export into a database and a Parquet copy that hold an older state of the store."""

from collections.abc import Callable, Iterator
from pathlib import Path

from fa_tracking.results.database import connect
from tests.faults._kill import Left
from tests.faults._store import TINY, small_store

COMMAND = ["export", "--db", "r.duckdb", "--parquet", "copy"]
HELD = ("r.duckdb", "copy")
TABLES = ("runs", "params", "tags", "metrics", "layers", "audits", "knockouts", "functional")

Content = dict[str, dict[str, list[str]]]


def prepare(folder: Path, fa_track: Callable[..., None]) -> None:
    small_store(fa_track, "dfa")
    fa_track(*COMMAND)
    fa_track("train", "bp", "--experiment", "small", "--epochs", "2", *TINY)
    fa_track("audit", "--experiment", "small")


def held(folder: Path) -> Content:
    return {name: _content(folder / name) for name in HELD}


def broken(before: Content, left: Left, after: Content) -> Iterator[str]:
    for name in HELD:
        if left.held[name] not in (before[name], after[name]):
            yield f"{name} is neither the old one nor the new one"


def unlike(left: Left, again: Content, after: Content) -> Iterator[str]:
    if again != after:
        yield "the rows differ from those of an undisturbed export"


def _content(database: Path) -> dict[str, list[str]]:
    """Every table as sorted text, so that NaN equals NaN."""
    with connect(database) as connection:
        return {table: sorted(map(str, connection.execute(f"from {table}").fetchall())) for table in TABLES}
