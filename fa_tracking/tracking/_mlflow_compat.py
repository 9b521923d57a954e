"""The private parts of MLflow that FA-Track touches, all in one place: where MLflow changes, this module follows.

Each says why the public parts do not do, and what breaks without it.
"""

import logging
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from mlflow.entities import Run
    from sqlalchemy import Engine

_SAID_BY_US = {"mlflow.store.db.utils": logging.CRITICAL, "urllib3.connectionpool": logging.ERROR}
"""Loggers that say at length what ``store_errors`` says in one line, and the level from which on they are heard."""
_OF_MLFLOW = "Mlflow"
"""How the names of the threads begin in which MLflow transfers artifacts."""
_BUSY = "PRAGMA busy_timeout = 20000;"
"""What MLflow begins each SQLite session with."""
_PATIENT: "weakref.WeakSet[Engine]" = weakref.WeakSet()
_PATIENT_LOCK = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what MLflow's calls in this thread log beside the error that they raise; other threads are heard.

    MLflow has no setting for it. Were the loggers named otherwise, a store that fails would print a traceback too.
    """
    mine = threading.get_ident()
    filters = {}
    for name, level in _SAID_BY_US.items():

        def is_heard(record: logging.LogRecord, level: int = level) -> bool:
            is_ours = record.thread == mine or (record.threadName or "").startswith(_OF_MLFLOW)
            return record.levelno >= level or not is_ours

        filters[name] = is_heard
        logging.getLogger(name).addFilter(is_heard)
    try:
        yield
    finally:
        for name, is_heard in filters.items():
            logging.getLogger(name).removeFilter(is_heard)


def be_patient(uri: str, milliseconds: int) -> None:
    """Let the SQLite store ``uri`` wait so long for other writers, and no other database of this process.

    MLflow waits for 20 seconds, which is written into its code. Without this many processes that write at once fail
    with "database is locked"; so they would where MLflow words its PRAGMA otherwise.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import event

    engine: Engine = SqlAlchemyStore._get_or_create_engine(uri)

    def connect(connection: Any, _: Any) -> None:
        connection.execute(f"pragma busy_timeout = {milliseconds}")

    def before_cursor_execute(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
        return statement.replace(_BUSY, f"PRAGMA busy_timeout = {milliseconds};"), parameters

    with _PATIENT_LOCK:
        if engine in _PATIENT:
            return
        event.listen(engine, "connect", connect)
        event.listen(engine, "before_cursor_execute", before_cursor_execute, retval=True)
        _PATIENT.add(engine)
    engine.dispose()  # of what it has opened before


def make_tables(file: Path) -> None:
    """Make the tables of a new SQLite store.

    MLflow offers it as `mlflow db upgrade` alone, and its client makes them in the file's own place, where a process
    that is killed leaves half of them. Without it a killed first command would leave a store that nothing opens.
    """
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables

    engine = sqlalchemy.create_engine(sqlalchemy.URL.create("sqlite", database=str(file)))
    _initialize_tables(engine)
    engine.dispose()


def migrations() -> list[str]:
    """The migrations of MLflow's tables, as text.

    MLflow tells what it would do to a database only by doing it. Without them no schema is known, and each store would
    be refused as too new.
    """
    package = find_spec("mlflow")
    places = (package.submodule_search_locations if package else None) or []
    return [
        path.read_text(encoding="utf-8")
        for place in places
        for path in sorted(Path(place, "store/db_migrations/versions").glob("*.py"))
    ]


def failed_file_store(traceback: "TracebackType | None") -> Path | None:
    """The folder of MLflow's file store whose own code an error came from; None where it came from elsewhere.

    The file store says of a damaged file what Python or YAML said. Without this that would be a traceback.
    """
    from mlflow.store.tracking.file_store import FileStore

    while traceback:
        if isinstance(found := traceback.tb_frame.f_locals.get("self"), FileStore):
            return Path(found.root_directory)
        traceback = traceback.tb_next
    return None


def delete_artifacts(artifact_uri: str, tracking_uri: str, path: str) -> None:
    """Remove artifacts of a run.

    MLflow's client offers it for whole runs alone. Without it training states stay in the store.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    get_artifact_repository(artifact_uri, tracking_uri=tracking_uri).delete_artifacts(path)


def context_tags(given: dict[str, str]) -> dict[str, str]:
    """The tags that MLflow gives each run of its fluent API: user, source, commit; ``given`` ones count more.

    MLflow's client gives none. Without them runs that are not the active one would name no user and no source.
    """
    from mlflow.tracking.context.registry import resolve_tags

    return dict(resolve_tags(given))


def leave_run(run_id: str) -> None:
    """Take a run off MLflow's stack of active ones without a word to its store, which the journal tells its end.

    ``mlflow.end_run`` asks the store too, and for minutes where that is away. Without this the run would stay active,
    and the next one could not begin.
    """
    from mlflow.tracking import fluent

    stack = fluent._active_run_stack.get()
    if not stack or stack[-1].info.run_id != run_id:
        return
    stack.pop()
    fluent._last_active_run_id.set(run_id)
    if (monitor := fluent.run_id_to_system_metrics_monitor.pop(run_id, None)) is not None:
        monitor.finish()


def is_uvicorn() -> bool:
    """Whether `mlflow server` runs its app of FastAPI, and not that of Flask alone.

    MLflow tells its apps by a private variable alone. Without it /fa/ would be missing, or MLflow's API of FastAPI.
    """
    from mlflow.environment_variables import _MLFLOW_SGI_NAME

    return bool(_MLFLOW_SGI_NAME.get() == "uvicorn")


def server_app(is_fast: bool) -> Any:
    """The app of `mlflow server`: that of FastAPI, else that of Flask.

    MLflow documents that an app plugin wraps the one of Flask; that of FastAPI it keeps for itself.
    """
    from mlflow.server import app

    if not is_fast:
        return app
    from mlflow.server.fastapi_app import app as served

    return served


def server_app_with_login() -> Any:
    """MLflow's app ``basic-auth``, which it offers by `--app-name` alone. Without it /fa/ would know no login.

    Raises:
        MlflowException, ImportError: it cannot be made.
    """
    from mlflow.server.auth import create_app

    return create_app()


def server_setting(name: str) -> str | None:
    """What `mlflow server` has told its workers: ``store`` or ``prefix``.

    It does so by variables of the environment, whose names are its own. Without them /fa/ would read another store
    than the server's, or stand in the wrong place.
    """
    from mlflow.server.constants import BACKEND_STORE_URI_ENV_VAR
    from mlflow.server.handlers import STATIC_PREFIX_ENV_VAR

    return os.environ.get({"store": BACKEND_STORE_URI_ENV_VAR, "prefix": STATIC_PREFIX_ENV_VAR}[name])


def last_points(run: "Run") -> list[Any]:
    """The last point of each metric, with its ``key``, ``value``, ``step`` and ``timestamp``; ``data.metrics`` has
    values alone."""
    return list(run.data.to_proto().metrics)


def refuse_pickles(archive: Path) -> None:
    """Refuse an exported model that may hold pickles.

    Raises:
        ImportError: this version of MLflow cannot tell.
        MlflowException: it may.
    """
    from mlflow.pytorch import _validate_pt2_archive_is_pickle_free

    _validate_pt2_archive_is_pickle_free(str(archive))
