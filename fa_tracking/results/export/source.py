"""What a source of runs is: an export's view of a store, and how the database names where a run is from.

A source offers

    uri                          the tracking URI
    snapshot(experiment)         every active run with its params and tags, as Arrow tables (``Snapshot``)
    marks(snapshot, known, progress)   a mark for every run, given those of the last export: where it differs, or is
                                       empty, the run's metrics are carried anew
    metrics(run_ids, progress)   Arrow tables of their metric points, of the columns of ``METRICS``

where ``progress`` is told how much of all is read, in what the source counts: points, rows or runs,

and never writes to the store. Values are as the store holds them: the export undoes what it does to infinities.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

RUNS = ("run_id", "experiment", "run_name", "status", "start_time", "end_time", "artifact_uri")
PAIRS = ("run_id", "key", "value")
METRICS = ("run_id", "key", "step", "value", "is_nan", "timestamp")
"""Times are milliseconds since 1970, as MLflow counts them."""

Say = Callable[[str], None]
Progress = Callable[[int, int], None]
"""progress(done, total)"""


def unseen(done: int, total: int) -> None:
    """The progress that nobody looks at."""


@dataclass(frozen=True)
class Snapshot:
    """Arrow tables of the columns of ``RUNS``, ``PAIRS`` and ``PAIRS``."""

    runs: "pa.Table"
    params: "pa.Table"
    tags: "pa.Table"


class Source(Protocol):
    """What the export asks of a store."""

    uri: str

    def snapshot(self, experiment: str | None) -> Snapshot: ...

    def marks(self, snapshot: Snapshot, known: Mapping[str, str], progress: Progress = unseen) -> dict[str, str]: ...

    def metrics(self, run_ids: Sequence[str], progress: Progress = unseen) -> "Iterator[pa.Table]": ...


LABELLED = re.compile(r"^(\w[\w.-]*)=(?=.)")
"""What stands before the address of a store whose runs `fa-track merge` has taken over: its laboratory."""


def store_of(source: str) -> str:
    """The tracking URI in ``runs.source``."""
    return LABELLED.sub("", source)


def id_in_store(run_id: str) -> str:
    """The id by which a run's own store knows it: a merged database may call it ``ID@LABORATORY``."""
    return run_id.partition("@")[0]
