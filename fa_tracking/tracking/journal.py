"""What a run has reported and its store has not taken yet: a file on this machine, which outlives the process.

An entry is one line of JSON, handed to the kernel before ``append`` returns: a killed process loses none of them.
Folders that are to be uploaded lie beside it. While a process lives it holds a lock, so that nobody else delivers its
entries.
"""

import errno
import fcntl
import json
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fa_tracking.errors import FATrackError

SPOOL = "FA_TRACK_SPOOL"
NAME = "journal.jsonl"
_COMPACT = 1 << 20
"""A journal of more bytes, all of them delivered, forgets them."""


def spool() -> Path:
    """The folder of all journals: FA_TRACK_SPOOL, else one in the user's state folder."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return Path(os.environ.get(SPOOL) or state / "fa-track" / "spool")


class Journal:
    """The journal of one run, open for this process alone.

    Attributes:
        folder: where it lies, and the folders that its entries upload.
        head: its first line: ``run_id``, and the ``tracking_uri`` of the run's store.
    """

    def __init__(self, folder: Path, head: Mapping[str, Any] | None = None) -> None:
        """Open the journal in ``folder``; where there is none, a new one that begins with ``head``.

        Raises:
            BlockingIOError: another process has it open.
            FATrackError: the folder cannot be written to, or what lies there is no journal.
        """
        self.folder = folder
        self._lock = threading.Lock()
        with spool_errors(folder):
            if head is not None:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(
                folder / NAME, os.O_RDWR | os.O_APPEND | (os.O_CREAT if head is not None else 0), 0o600
            )
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._open(head)
            except BaseException:
                os.close(self._file)
                raise

    def _open(self, head: Mapping[str, Any] | None) -> None:
        with (self.folder / NAME).open("rb") as file:
            lengths = [len(line) for line in file if line.endswith(b"\n")]
        os.ftruncate(self._file, sum(lengths))  # what a full disk or a dead machine has left of a last line
        if not lengths and head is not None:
            lengths = [os.write(self._file, _line(head))]
        if not lengths:
            raise FATrackError(f"{self.folder / NAME} is no journal: remove the folder")
        self.head: dict[str, Any] = _entry(os.pread(self._file, lengths[0], 0), self.folder)
        self._read = self._first = lengths[0]
        self._lengths = deque(lengths[1:])

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write one more entry.

        Raises:
            FATrackError: the disk is full, or the folder cannot be written to; what was written before stands.
        """
        line = _line(entry)
        with spool_errors(self.folder), self._lock:
            end = os.fstat(self._file).st_size
            try:
                if os.write(self._file, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(self._file, end)
                raise
            self._lengths.append(len(line))

    def next(self) -> dict[str, Any] | None:
        """The first entry that is not delivered; None: there is none."""
        with self._lock:
            line = os.pread(self._file, self._lengths[0], self._read) if self._lengths else None
        return None if line is None else _entry(line, self.folder)

    def delivered(self) -> None:
        """The entry that ``next`` gives has been delivered."""
        with self._lock:
            self._read += self._lengths.popleft()
            if not self._lengths and self._read > _COMPACT:
                os.ftruncate(self._file, self._first)
                self._read = self._first

    @property
    def waiting(self) -> int:
        """How many entries are not delivered."""
        return len(self._lengths)

    def sync(self) -> None:
        """Bring the entries to the disk itself."""
        os.fsync(self._file)

    def new_folder(self) -> Path:
        """A new folder beside the journal.

        Raises:
            FATrackError: the disk is full, or the folder cannot be written to.
        """
        with spool_errors(self.folder):
            return Path(tempfile.mkdtemp(prefix="upload-", dir=self.folder))

    def finish(self) -> None:
        """Remove the journal and all that lies beside it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._file)

    def close(self) -> None:
        """Leave the journal to whoever opens it next."""
        os.close(self._file)


@contextmanager
def spool_errors(folder: Path) -> Iterator[None]:
    """Turn what the file system says into one line."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise FATrackError(
            f"cannot write to {folder}: {error.strerror or error}; what was logged before is safe. "
            f"Make room, or name another folder by {SPOOL}"
        ) from error


def left_behind() -> Iterator[Journal]:
    """The journals of processes that are gone, each open for this one."""
    for path in sorted(spool().glob(f"*/{NAME}")):
        try:
            yield Journal(path.parent)
        except BlockingIOError:  # its process is alive
            continue


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"  # NaN and infinities are JSON to Python


def _entry(line: bytes, folder: Path) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FATrackError(f"{folder / NAME} is damaged: remove the folder, or mend its lines of JSON by hand")
    return found
