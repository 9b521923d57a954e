"""Folders of Parquet files that are given as a database."""

from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fa_tracking.results.database import ask, connect, find_query, sql_errors

from . import _database
from ._values import edited, texts

TITLE = "Parquet folders"
WEIGHT = 1


@cache
def seeds() -> dict[str, bytes]:
    """The small database as a folder."""
    from fa_tracking.results.export.parquet import write_parquet

    folder = _database.folder() / "parquet"
    write_parquet(_database.path(), folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}


def inputs() -> st.SearchStrategy[Any]:
    one = st.sampled_from(sorted(seeds())).flatmap(lambda name: st.tuples(st.just(name), edited(seeds()[name])))
    folders = texts.map(lambda t: f"runs/experiment={t.replace('/', '_').replace(chr(0), '')[:60]}/data.parquet")
    moved = st.tuples(folders, st.just(next(content for name, content in seeds().items() if name.startswith("runs/"))))
    return one | moved


def feed(value: Any, folder: Path) -> None:
    name, content = value
    for each, whole in (seeds() | {name: content}).items():
        try:
            (folder / each).parent.mkdir(parents=True, exist_ok=True)
            (folder / each).write_bytes(whole)
        except UnicodeEncodeError:
            return  # no file system holds a surrogate
    with connect(folder) as connection, sql_errors():
        ask(connection, find_query("board"), "~*").fetchall()
