"""The schema of a store's database: which it has, and whether MLflow would change it."""

from typing import TYPE_CHECKING

from fa_tracking.errors import FATrackError, NoTablesError, UsageError
from fa_tracking.tracking import _mlflow_compat, address

if TYPE_CHECKING:
    pass


import sqlite3

VERSIONS = "alembic_version"
VERSION = f"select version_num from {VERSIONS}"
TABLES = "select name from sqlite_master where type in ('table', 'view')"
OF_MLFLOW = frozenset({"experiments", "runs", "params", "tags", "metrics"})
"""Tables that every store of MLflow's has, by whatever version."""


def version(uri: str) -> str:
    """The Alembic version of a store, read without a change to it.

    Raises:
        FATrackError: it does not answer, or is no store of MLflow's, which its client would make of it.
    """
    return _version(uri, *_held(uri))


def refuse_other(uri: str, may_make: bool) -> None:
    """Refuse a database that MLflow would change, since it is nobody's to change by the way.

    Args:
        may_make: whether a store may be made of a database without a table, or of an empty file.

    Raises:
        FATrackError: it does not answer, its tables are not MLflow's, or they are of another MLflow than the installed.
    """
    if address.scheme(uri) == "sqlite" and not _is_begun(uri):
        return
    found, tables = _held(uri)
    if may_make and not tables:
        return
    version = _version(uri, found, tables)
    if is_older(version):
        raise FATrackError(older(uri, version))
    if not is_known(version):
        raise FATrackError(newer(uri, version))


def is_older(version: str) -> bool:
    """Whether the installed MLflow would upgrade a store of this schema."""
    return any(_of_migration(text, "down_revision") == version for text in _mlflow_compat.migrations())


def is_known(version: str) -> bool:
    """Whether it is a schema of the installed MLflow's, or of one before it."""
    return any(_of_migration(text, "revision") == version for text in _mlflow_compat.migrations())


def older(uri: str, version: str) -> str:
    """What to do about an older schema, in a line."""
    from importlib.metadata import version as installed

    shown = address.without_password(uri)
    return (
        f"{shown}: its schema {version} is older than that of MLflow {installed('mlflow')}, which does not open it: "
        f"make a copy, then run `mlflow db upgrade {shown!r}`, which changes its tables so that an older MLflow no "
        "longer opens it; or install the MLflow that wrote it"
    )


def newer(uri: str, version: str) -> str:
    """What there is to say of a schema that the installed MLflow does not know."""
    from importlib.metadata import version as installed

    return f"{address.without_password(uri)}: its schema {version} is newer than MLflow {installed('mlflow')}"


def _of_migration(text: str, name: str) -> str | None:
    """What a migration says of itself; Alembic has them say it as assignments, a line each."""
    line = next((line for line in text.splitlines() if line.partition("=")[0].strip() == name), "")
    return line.partition("=")[2].strip().strip("'\"") or None


def _is_begun(uri: str) -> bool:
    path = address.file(uri)
    return path is not None and path.is_file() and path.stat().st_size > 0


def _version(uri: str, found: list[str], tables: frozenset[str]) -> str:
    if len(found) != 1 or not tables >= OF_MLFLOW:
        shown = address.without_password(uri)
        raise NoTablesError(f"{shown} holds no tables of MLflow's: give the --tracking-uri of a store")
    return found[0]


def _held(uri: str) -> tuple[list[str], frozenset[str]]:
    """The Alembic versions that a database says, and the names of its tables."""
    return _of_sqlite(uri) if address.scheme(uri) == "sqlite" else _of_server(uri)


def _of_sqlite(uri: str) -> tuple[list[str], frozenset[str]]:
    path = address.file(uri)
    if path is None or not path.is_file():
        raise UsageError(f"there is no store {path or uri}")
    try:
        connection = sqlite3.connect(address.opened_by_sqlite(path, "rw"), timeout=60, uri=True)
        try:
            tables = frozenset(str(name) for (name,) in connection.execute(TABLES))
            return [str(found) for (found,) in connection.execute(VERSION)] if VERSIONS in tables else [], tables
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_ERROR:  # a table of this name, and not its column
            return [], frozenset({VERSIONS})
        raise FATrackError(f"the MLflow store {path} failed: {error}") from error
    except sqlite3.DatabaseError:
        return [], frozenset({str(path)})  # no database, and somebody's file


def _of_server(uri: str) -> tuple[list[str], frozenset[str]]:
    from sqlalchemy import NullPool, create_engine, inspect, text
    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    try:
        with create_engine(uri, poolclass=NullPool).connect() as connection:
            found = inspect(connection)
            tables = frozenset(found.get_table_names())
            tables |= {name for name in {VERSIONS, *OF_MLFLOW} - tables if found.has_table(name)}  # in another schema
            return [str(found) for (found,) in connection.execute(text(VERSION))] if VERSIONS in tables else [], tables
    except ImportError as error:
        driver = f"{uri.split(':', maxsplit=1)[0]}:// needs the Python package {error.name}"
        raise FATrackError(f"{driver}: install it, or name another driver, as mysql+pymysql:// does") from error
    except OperationalError as error:
        raise FATrackError(f"the MLflow store failed: {what_failed(error)}") from error
    except SQLAlchemyError:
        return [], frozenset({VERSIONS})  # a table of this name, and not its column


def what_failed(said: object) -> str:
    """The line of an error's text that says what failed; SQLAlchemy may begin with when it did."""
    return next((line for line in str(said).strip().splitlines() if "raised as a result of" not in line), "")
