"""Brings what killed processes have left on this machine to the stores of their runs."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from fa_tracking.errors import FATrackError
from fa_tracking.tracking import store
from fa_tracking.tracking.spool.deliver import deliver
from fa_tracking.tracking.spool.journal import Journal, NoJournalError, folders, spool


@dataclass(frozen=True)
class Recovered:
    """What became of one journal: how many entries the store has taken, and why the rest waits where some does."""

    run_id: str
    tracking_uri: str
    delivered: int
    waiting: int
    problem: str | None


def recover() -> Iterator[Recovered]:
    """Deliver every journal whose process is gone; a run that was under way then ends as KILLED, and can be resumed.

    A store that does not answer, or refuses an entry, keeps its journal waiting, and a damaged journal stays; the
    others go on.
    """
    for folder in folders():
        try:
            journal = Journal(folder)
        except (BlockingIOError, NoJournalError):  # its process is alive, or has delivered it by now
            continue
        except FATrackError as error:
            yield Recovered(folder.name, "", 0, 0, str(error))
            continue
        if journal.head:
            yield _recovered(journal)
        else:  # its process was killed before it logged anything
            journal.finish()


def clear(run_ids: Iterable[str]) -> None:
    """The same for finished runs whose processes were killed between their last word to the store and their end."""
    for run_id in run_ids:
        with suppress(BlockingIOError, FATrackError):  # its process is alive; there is none, or it is damaged
            _recovered(Journal(spool() / run_id))


def _recovered(journal: Journal) -> Recovered:
    run_id, uri = str(journal.head.get("run_id")), str(journal.head.get("tracking_uri"))
    before, problem = journal.waiting, None
    try:
        _deliver(journal, run_id, uri)
    except FATrackError as error:
        problem = str(error)
    found = Recovered(run_id, uri, before - journal.waiting, journal.waiting, problem)
    if problem:
        journal.close()
    else:
        journal.finish()
    return found


def _deliver(journal: Journal, run_id: str, uri: str) -> None:
    client = store.client(uri)
    while (entry := journal.next()) is not None:
        with store.store_errors():
            deliver(client, run_id, journal.folder, entry)
        journal.delivered()
    with store.store_errors():
        if client.get_run(run_id).info.status == "RUNNING":
            client.set_terminated(run_id, "KILLED")
