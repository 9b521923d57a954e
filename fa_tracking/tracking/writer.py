"""Hands writes to one background thread: in order, bounded, and never silent when one fails."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from fa_tracking.tracking.store import store_errors

MAX_PENDING = 16


class Writer:
    """Training waits for the store only when ``MAX_PENDING`` writes are under way."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fa-track-writer")
        self._pending: deque[Future[Any]] = deque()

    def submit(self, write: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Queue one write.

        Raises:
            FATrackError: an earlier write failed.
        """
        while self._pending and (self._pending[0].done() or len(self._pending) >= MAX_PENDING):
            self._settle()
        self._pending.append(self._thread.submit(write, *args, **kwargs))

    def flush(self) -> None:
        """Wait for every write.

        Raises:
            FATrackError: one failed.
        """
        while self._pending:
            self._settle()

    def close(self) -> None:
        """Flush and end the thread."""
        try:
            self.flush()
        finally:
            self._thread.shutdown()

    def abandon(self) -> None:
        """Finish what is queued and end the thread, while another error is already on its way."""
        self._thread.shutdown(wait=True)

    def _settle(self) -> None:
        with store_errors():
            self._pending.popleft().result()
