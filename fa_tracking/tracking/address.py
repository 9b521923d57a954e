"""Reads the address of an MLflow store, its tracking URI. No other module takes one apart."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_plus, urlsplit, urlunsplit
from urllib.request import url2pathname
from uuid import uuid4

from fa_tracking.errors import UsageError

if TYPE_CHECKING:
    from sqlalchemy import URL

SQL = ("sqlite", "postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle")
PASSWORD = re.compile(r"^([^:/]+://[^:/@]*):[^@]*@(?:[^/?@]*@)*")
"""Of a database's address, where it may hold any letter but an @, as SQLAlchemy reads it."""
SECRET = ("pass", "pwd", "secret", "token", "credential", "apikey", "api_key", "access_key", "odbc_connect")
"""Parts of the names in an address's query whose values are shown to nobody."""
DEFAULT = "sqlite:///mlflow.db"
"""MLflow's store where none is named and there is no folder ``mlruns``: a file of the folder that one stands in."""
UI = "http://127.0.0.1:5000"
"""Where ``mlflow ui`` answers."""
DATABRICKS = ("databricks", "databricks-uc", "uc")
"""Addresses without a `://` that are no folders."""


def given(tracking_uri: str | None) -> str | None:
    """``tracking_uri``, else MLFLOW_TRACKING_URI; None where MLflow alone knows its default."""
    return tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None


def of_file(path: Path) -> str:
    """The address of a SQLite store in a file."""
    return f"sqlite:///{path}"


def scheme(uri: str) -> str:
    """``sqlite``, ``http``, ``file``, …, without a driver; empty of a folder's plain path."""
    name, found, _ = uri.partition(":")
    if name in DATABRICKS:
        return name
    return name.split("+", 1)[0].lower() if found and "/" not in name else ""


def is_server(uri: str) -> bool:
    """Return whether it is a tracking server's address."""
    return scheme(uri) in ("http", "https")


def is_sql(uri: str) -> bool:
    """Return whether it is a database's address."""
    return scheme(uri) in SQL


def is_shared(uri: str) -> bool:
    """Return whether others may write to the store: true unless it is a SQLite file or a folder on this machine."""
    return scheme(uri) not in ("", "sqlite", "file")


def parsed(uri: str) -> "URL":
    """A database's address in parts, as MLflow reads it: blanks and other letters may be percent-encoded."""
    from sqlalchemy import make_url

    return make_url(uri)


def file(uri: str) -> Path | None:
    """The file of a SQLite store; None of any other.

    Raises:
        UsageError: it is written as SQLite's own address, ``file:…``.
    """
    if scheme(uri) != "sqlite":
        return None
    name = parsed(uri).database
    if name and name.startswith("file:"):
        path = url2pathname(name.removeprefix("file:").removeprefix("//"))
        raise UsageError(f"{uri} names its file as {name}: write it as a path alone, {of_file(Path(path))}")
    return None if name in (None, "", ":memory:") else Path(str(name))


def opened_by_sqlite(path: Path, mode: str) -> str:
    """A file's address as SQLite itself takes it, in whatever folder.

    Args:
        mode: ``rw``, which can undo what a killed writer has left half written, or ``ro``; neither makes a new file.
    """
    return f"file:{quote(str(path.absolute()))}?mode={mode}"


def folder(uri: str) -> Path | None:
    """The folder of a file store; None of any other."""
    if scheme(uri) == "file":
        return Path(url2pathname(urlsplit(uri).path))
    return Path(uri) if not scheme(uri) else None


def place(uri: str) -> Path | None:
    """The file or folder of this machine that a store is; None where it is neither."""
    return file(uri) or folder(uri)


def lost(artifact_uri: str) -> Path | None:
    """The folder of this machine that held a run's artifacts, where nothing of it is here any more.

    MLflow writes down where artifacts are as a whole path, ``…/mlruns/EXPERIMENT/RUN/artifacts``: that of a store which
    was carried elsewhere is the old one. Where no run has artifacts yet, ``mlruns`` alone is missing.
    """
    found = folder(artifact_uri)
    root = None if found is None else found.parent.parent.parent
    return root if root is not None and not root.exists() and not root.parent.exists() else None


def artifact_location(uri: str) -> str | None:
    """Where a new experiment's artifacts go: None, as MLflow has it, but where it would put them into another folder.

    MLflow takes the path of this folder for percent-encoded, so that ``50%25`` were ``50%``.
    """
    here = Path("mlruns").absolute()
    if is_shared(uri) or url2pathname(str(here)) == str(here):
        return None
    return (here / uuid4().hex).as_uri()


def ui(uri: str) -> str | None:
    """Where MLflow's UI over a store answers, without a login; None: it is no store, as its address is a plain path."""
    if not is_server(uri):
        return UI if "://" in uri else None
    return bare(uri)


def bare(uri: str) -> str:
    """A server's address without a login, query and last slash."""
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def absolute(uri: str) -> str:
    """The address as any folder knows it: that of a file may be relative to this one."""
    if (found := file(uri)) is not None:
        return parsed(uri).set(database=str(found.resolve())).render_as_string(hide_password=False)
    return str(Path(uri).resolve()) if not scheme(uri) else uri


def without_password(uri: str) -> str:
    """Return the address for display: without a password before its host or in its query."""
    if is_sql(uri):
        uri = PASSWORD.sub(r"\1@", uri, count=1)
    elif (password := urlsplit(uri).password) is not None:
        uri = uri.replace(f":{password}@", "@", 1)
    place, mark, query = uri.partition("?")
    if not mark or not scheme(uri) or "://" not in uri:
        return uri
    query, sign, rest = query.partition("#")
    shown = "&".join(pair for pair in query.split("&") if not _is_secret(pair.partition("=")[0]))
    return f"{place}{mark if shown else ''}{shown}{sign}{rest}"


def _is_secret(key: str) -> bool:
    return any(word in unquote_plus(key).lower() for word in SECRET)


def without_login(uri: str) -> str:
    """The address alone, which is all that urllib takes."""
    login, sign, _ = urlsplit(uri).netloc.rpartition("@")
    return uri.replace(f"{login}{sign}", "", 1) if sign else uri
