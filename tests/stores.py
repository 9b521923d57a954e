"""Empty stores in a moment: one is made per test run, and copied. MLflow takes seconds to make its tables."""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

from filelock import FileLock

STORE = "mlflow.db"
TEMPLATE = "FA_TRACK_TEST_STORE"
"""The folder of the store that is copied: set by the process that begins the tests, read by its workers."""


def new_store(where: Path) -> str:
    """Copy an empty store into ``where``, MLflow's default one there, and give its URI."""
    shutil.copyfile(_template(Path(os.environ[TEMPLATE])), where / STORE)
    with contextlib.closing(sqlite3.connect(where / STORE)) as store, store:
        store.execute(
            "update experiments set artifact_location = ? where experiment_id = 0", (str(where / "mlruns/0"),)
        )
    return f"sqlite:///{where / STORE}"


def _template(folder: Path) -> Path:
    made = folder / STORE
    with FileLock(folder / "lock"):
        if not made.exists():
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            store = SqlAlchemyStore(f"sqlite:///{folder / 'new.db'}", str(folder / "mlruns"))
            store.search_experiments()
            store.engine.dispose()
            (folder / "new.db").rename(made)
    return made
