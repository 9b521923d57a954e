"""Brings a run's journal to its store in one background thread: in order, patient with a store that is away."""

import contextlib
import itertools
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fa_tracking.errors import FATrackError, StoreAwayError, UsageError
from fa_tracking.scratch import scratch
from fa_tracking.tracking import _mlflow_compat
from fa_tracking.tracking.schema import what_failed
from fa_tracking.tracking.spool.deliver import is_away
from fa_tracking.tracking.spool.journal import Journal, spool_errors
from fa_tracking.tracking.store import store_errors

_LOG = logging.getLogger("fa_tracking")

PATIENCE = "FA_TRACK_PATIENCE"
"""Seconds that the end of a run waits for a store that is away."""
_USUAL_PATIENCE = 600.0
_PATIENCE_AFTER_ERROR = 10.0
_PAUSES = (0.2, 0.5, 1, 2, 5)
"""Seconds between attempts; the last one again and again."""


class Silent:
    """What a process writes that is not the first of those that train together: nothing."""

    def submit(self, entry: Mapping[str, Any]) -> None:
        pass

    @contextmanager
    def upload(self, target: str) -> Iterator[Path]:
        with scratch() as folder:
            yield folder

    def flush(self) -> None:
        pass


class Writer:
    """Training never waits for the store: what it writes waits on this machine, and goes out while training goes on.

    Raises:
        UsageError: FA_TRACK_PATIENCE is no number of seconds.
    """

    def __init__(self, journal: Journal, deliver: Callable[[dict[str, Any]], None]) -> None:
        self._journal, self._deliver = journal, deliver
        self._patience = _patience()
        self._news = threading.Condition()
        self._problem: BaseException | None = None
        self._away: BaseException | None = None
        self._is_ended = False
        self._thread = threading.Thread(target=self._work, name="fa-track-writer", daemon=True)
        self._thread.start()

    def submit(self, entry: Mapping[str, Any]) -> None:
        """Write one entry into the journal, and have it delivered.

        Raises:
            FATrackError: the store has refused an earlier one, or the journal cannot be written.
        """
        self._raise_problem()
        self._append(entry)

    def end(self, status: str) -> None:
        """Write the run's status behind all else, also where the store has refused an entry before.

        Raises:
            FATrackError: the journal cannot be written.
        """
        self._append({"status": status})

    def _append(self, entry: Mapping[str, Any]) -> None:
        self._journal.append(entry)
        with self._news:
            self._news.notify_all()

    @contextmanager
    def upload(self, target: str) -> Iterator[Path]:
        """A folder to write files into; at the end of the ``with`` block it becomes the artifact folder ``target``.

        Raises:
            FATrackError: as ``submit`` does; nothing of the folder is left then.
        """
        folder = self._journal.new_folder()
        try:
            with spool_errors(folder):
                yield folder
                for file in (*folder.iterdir(), folder):
                    _sync(file)
            self.submit({"upload": folder.name, "path": target})
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def flush(self, patience: float | None = None) -> None:
        """Wait until the store has taken every entry.

        Args:
            patience: seconds; FA_TRACK_PATIENCE where None.

        Raises:
            StoreAwayError: it does not answer; the entries wait on this machine.
            FATrackError: it has refused one.
        """
        until = time.monotonic() + (self._patience if patience is None else patience)
        with self._news:
            while self._journal.waiting and not self._problem:
                self._news.wait(timeout=max(0.0, until - time.monotonic()))
                if self._journal.waiting and not self._problem and time.monotonic() >= until:
                    raise StoreAwayError(self._still_away()) from self._away
        self._raise_problem()

    def close(self, patience: float | None = None) -> None:
        """Flush, end the thread and remove the journal; where the store is away the journal stays.

        Raises:
            StoreAwayError, FATrackError: as ``flush`` does; the entries behind a refused one are delivered too.
        """
        refused: FATrackError | None = None
        while True:
            try:
                self.flush(patience)
                break
            except StoreAwayError:
                self._end()
                self._journal.sync()  # the thread may be in the middle of a call, and ends with the process
                raise
            except FATrackError as error:
                refused = refused or error
        self._end()
        self._thread.join()
        self._journal.finish()
        if refused:
            raise refused

    def abandon(self) -> None:
        """Deliver what the store takes soon, while another error is already on its way."""
        with contextlib.suppress(FATrackError):
            self.close(_PATIENCE_AFTER_ERROR)

    def _end(self) -> None:
        with self._news:
            self._is_ended = True
            self._news.notify_all()

    def _work(self) -> None:
        while True:
            with self._news:
                while not self._journal.waiting and not self._is_ended:
                    self._news.wait()
                if self._is_ended:
                    return
            try:
                if not self._is_taken(self._journal.next() or {}):
                    return
            except BaseException as problem:  # whatever it is, the training thread has to hear of it
                self._problem = self._problem or problem
            with self._news:
                self._journal.delivered()
                self._news.notify_all()

    def _is_taken(self, entry: dict[str, Any]) -> bool:
        """Try again until the store has taken the entry; False where the run has ended before."""
        for pause in itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1])):
            try:
                with _mlflow_compat.quiet():
                    self._deliver(entry)
            except Exception as error:
                if not is_away(error):
                    raise
                if self._away is None:
                    _LOG.warning(
                        "the MLflow store is away (%s); training goes on, its log waits in %s",
                        _first_line(error),
                        self._journal.folder,
                    )
                self._away = error
                self._journal.sync()
            else:
                if self._away is not None:
                    _LOG.warning("the MLflow store is back")
                self._away = None
                return True
            with self._news:
                self._news.wait_for(lambda: self._is_ended, timeout=pause)
                if self._is_ended:
                    return False
        return False

    def _raise_problem(self) -> None:
        if self._problem is not None:
            problem, self._problem = self._problem, None
            try:
                with store_errors():
                    raise problem
            except FATrackError:
                raise
            except BaseException:
                said = f"{type(problem).__name__}: {problem}"
                raise FATrackError(f"the run could not be written: {said}") from problem

    def _still_away(self) -> str:
        said = _first_line(self._away or "it has not answered yet")
        waiting = self._journal.waiting
        return (
            f"the MLflow store is away ({said}); {waiting} entries of the run wait in {self._journal.folder}: "
            "`fa-track recover` brings them to the store"
        )


def _first_line(said: object) -> str:
    return what_failed(said)[:200]


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows opens no folder, and syncs what is open for writing alone
        return
    file = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _patience() -> float:
    text = os.environ.get(PATIENCE, "")
    try:
        seconds = float(text) if text else _USUAL_PATIENCE
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise UsageError(f"{PATIENCE} is {text!r}: give the seconds that the end of a run waits for its store")
    return seconds
