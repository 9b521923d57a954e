"""What a run has reported and its store has not taken yet: a SQLite file on this machine, which outlives the process.

An entry is handed to the kernel before ``append`` returns, so that a killed process loses none. A power cut may take
what was appended since the last ``sync``, and no more: SQLite's write-ahead log with ``synchronous = normal`` keeps the
file whole and waits for no disk. Folders that are to be uploaded lie beside it. While a process lives it holds a lock,
so that nobody else delivers its entries.
"""

import hashlib
import json
import logging
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from fa_tracking.errors import FATrackError
from fa_tracking.tracking.spool import lines

_LOG = logging.getLogger("fa_tracking")

SPOOL = "FA_TRACK_SPOOL"
NAME = "journal.sqlite"
LOCK = "lock"
_TABLES = (
    "create table if not exists head (key text primary key, value text not null) without rowid",
    "create table if not exists entries (number integer primary key, entry text not null)",
)
_SETTINGS = (
    "page_size = 1024",  # entries are small, and so may be the room
    "locking_mode = exclusive",  # no memory that processes share, which network folders do not have
    "synchronous = off",  # making a file waits for no disk
    "journal_mode = wal",
    "synchronous = normal",
)
_INSERT = "insert into entries values (?, ?)"
_LAST = "select coalesce(max(number), 0) from entries"
_LINES = "lines"
"""The key in ``head`` of the digest of the old journal whose entries have been taken over."""


def spool() -> Path:
    """The folder of all journals: FA_TRACK_SPOOL, else one in the user's state folder."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return Path(os.environ.get(SPOOL) or state / "fa-track" / "spool")


class NoJournalError(FATrackError):
    """No journal lies there, or no longer."""


class Journal:
    """The journal of one run, open for this process alone.

    Attributes:
        folder: where it lies, and the folders that its entries upload.
        head: what it begins with: ``run_id``, and the ``tracking_uri`` of the run's store; empty where its process was
            killed before it had begun.
    """

    def __init__(self, folder: Path, head: Mapping[str, str] | None = None) -> None:
        """Open the journal in ``folder``; where there is none, make one that begins with ``head``.

        The entries of a journal that an older fa-track left there are taken over.

        Raises:
            BlockingIOError: another process has it open.
            NoJournalError: there is none, and no ``head``.
            FATrackError: the folder cannot be written to, or what lies there is no journal.
        """
        self.folder = folder
        self._turn = threading.Lock()
        self._is_readable = True
        if head is None and not is_journal(folder):
            raise NoJournalError(f"there is no journal in {folder}")
        with ExitStack() as undo, spool_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(folder)
            undo.callback(os.close, self._lock)
            if head is None and not is_journal(folder):  # whoever had it has delivered all of it
                raise NoJournalError(f"there is no journal in {folder}")
            if {path.name for path in folder.iterdir()} == {LOCK}:
                undo.callback(shutil.rmtree, folder, ignore_errors=True)
            self._connection = _connect(folder / NAME)
            undo.callback(self._connection.close)
            self._begin(head)
            undo.pop_all()

    def _begin(self, head: Mapping[str, str] | None) -> None:
        with lines.found(self.folder) as old:
            digest = hashlib.sha256(old).hexdigest() if old else None
            with self._transaction() as connection:
                for table in _TABLES:
                    connection.execute(table)
                known: dict[str, str] = dict(connection.execute("select key, value from head"))
                if digest not in (None, known.get(_LINES)):
                    read = lines.read(old)
                    self._report(read, head or known)
                    known = {**read.head, **known, _LINES: str(digest)}
                    (last,) = connection.execute(_LAST).fetchone()
                    rows = [(number, _text(entry)) for number, entry in enumerate(read.entries, last + 1)]
                    connection.executemany(_INSERT, rows)
                known = {**(head or {}), **known}
                connection.executemany("insert or replace into head values (?, ?)", known.items())
            if digest:  # what was on the disk stays on it
                self._connection.execute("pragma wal_checkpoint(truncate)")
        (self._waiting,) = self._connection.execute("select count(*) from entries").fetchone()
        self.head = {key: value for key, value in known.items() if key != _LINES}
        (self._last,) = self._connection.execute(_LAST).fetchone()
        self._at = self._number = 0

    def _report(self, read: lines.Read, head: Mapping[str, str]) -> None:
        """Keep the damaged lines of an old journal aside, and say so; they keep no other from its delivery.

        Raises:
            FATrackError: its head is one of them, and nothing else says whose run it is.
        """
        path = self.folder / lines.NAME
        if not read.damaged:
            return
        if not read.head and not head:
            raise FATrackError(f"{path} is damaged: line 1 does not say whose run it is: mend it, or remove the folder")
        kept = lines.keep_aside(read.damaged, self.folder)
        at = ", ".join(map(str, read.damaged))
        _LOG.warning("%s is damaged at line %s: what stands there is not delivered, and kept in %s", path, at, kept)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("begin immediate")
        try:
            yield self._connection
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("rollback")
            raise
        self._connection.execute("commit")

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write one more entry.

        Raises:
            FATrackError: the disk is full, or the folder cannot be written to; what was written before stands.
        """
        with spool_errors(self.folder), self._turn:
            self._connection.execute(_INSERT, (self._last + 1, _text(entry)))
            self._last += 1
            self._waiting += 1

    def next(self) -> dict[str, Any] | None:
        """The first entry that is not delivered; None: there is none.

        Raises:
            FATrackError: it cannot be read; ``finish`` leaves an unreadable journal where it is.
        """
        asked = "select number, entry from entries where number > ? order by number limit 1"
        try:
            with spool_errors(self.folder), self._turn:
                row = self._connection.execute(asked, (self._at,)).fetchone()
        except FATrackError:
            self._is_readable = False  # not before it has failed: another thread may ask how many wait
            raise
        self._number = row[0] if row else self._at
        return _entry(row[1], self.folder) if row else None

    def delivered(self) -> None:
        """The entry that ``next`` gave has been delivered."""
        with self._turn:
            self._waiting -= self._number > self._at
            self._at = self._number
            with suppress(sqlite3.Error):  # a full disk keeps it: what comes twice leaves what it leaves once
                self._connection.execute("delete from entries where number <= ?", (self._at,))

    @property
    def waiting(self) -> int:
        """How many entries are not delivered, and can be."""
        return self._waiting if self._is_readable else 0

    def sync(self) -> None:
        """Bring the entries to the disk itself; where that is full, the file grows later, and none of them is lost."""
        with suppress(sqlite3.Error), self._turn:
            self._connection.execute("pragma wal_checkpoint(truncate)")

    def new_folder(self) -> Path:
        """A new folder beside the journal.

        Raises:
            FATrackError: the disk is full, or the folder cannot be written to.
        """
        with spool_errors(self.folder):
            return Path(tempfile.mkdtemp(prefix="upload-", dir=self.folder))

    def finish(self) -> None:
        """Remove the journal and all that lies beside it."""
        if not self._is_readable:
            self.close()
            return
        self._connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)
        if os.name == "nt":  # which removes no open file, such as the lock
            shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Leave the journal to whoever opens it next."""
        self._connection.close()
        os.close(self._lock)


@contextmanager
def spool_errors(folder: Path) -> Iterator[None]:
    """Turn what the file system and SQLite say into one line."""
    try:
        yield
    except BlockingIOError:
        raise
    except (OSError, sqlite3.OperationalError) as error:
        said = getattr(error, "strerror", None) or error
        raise FATrackError(
            f"cannot write to {folder}: {said}; what was logged before is safe. "
            f"Make room, or name another folder by {SPOOL}"
        ) from error
    except sqlite3.DatabaseError as error:
        raise FATrackError(f"{folder / NAME} is damaged: {error}: remove the folder") from error


def is_journal(folder: Path) -> bool:
    """Whether a journal lies in a folder, of this fa-track or of an older one."""
    return (folder / NAME).is_file() or (folder / lines.NAME).is_file()


def folders() -> list[Path]:
    """The folders of all journals."""
    return sorted(folder for folder in spool().glob("*/") if is_journal(folder))


def _lock(folder: Path) -> int:
    """A handle on the lock of a folder.

    Raises:
        BlockingIOError: another process has it, or has just removed it with the folder.
    """
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        is_ours = lock_descriptor(handle, blocking=False)
        if not is_ours or not os.path.samestat(os.fstat(handle), (folder / LOCK).stat()):
            raise BlockingIOError(f"{folder} is another process's")
    except BaseException as error:
        os.close(handle)
        if isinstance(error, FileNotFoundError):
            raise BlockingIOError(f"{folder} was another process's") from error
        raise
    return handle


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite alone would let others read it
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for setting in _SETTINGS:
            connection.execute(f"pragma {setting}")
    except BaseException:
        connection.close()
        raise
    return connection


def _text(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False)  # NaN and infinities are JSON to Python


def _entry(text: str, folder: Path) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FATrackError(f"{folder / NAME} is damaged: an entry is no JSON")
    return found
