"""A small results database, and a file beside it that no SQL may read."""

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SECRET = "the content of a file that no SQL may read"


@cache
def folder() -> Path:
    """Kept until the process ends."""
    _keep.append(tempfile.TemporaryDirectory(prefix="fa-fuzz-db-"))
    return Path(_keep[0].name)


_keep: list["tempfile.TemporaryDirectory[str]"] = []


@cache
def path() -> Path:
    """Two runs of a study, made as an export makes a database."""
    import duckdb

    from fa_tracking.results.database import create_views
    from fa_tracking.results.export.replace import schema_sql

    (folder() / "secret.csv").write_text(f"a\n{SECRET}\n")
    made = folder() / "small.duckdb"
    with duckdb.connect(str(made)) as connection:
        connection.execute(schema_sql())
        connection.execute(
            "insert into runs by name select 'r' || i as run_id, 'sqlite:///x' as source, 'e' as experiment, 'n' as "
            "run_name, 'FINISHED' as status, 'dfa' as method, i as seed, 'c' as cell from range(2) t(i)"
        )
        create_views(connection)
    return made


@cache
def connection() -> "DuckDBPyConnection":
    """Read-only, as every command opens it."""
    from fa_tracking.results.database import connect

    return connect(path())
