"""Where runs come from: a SQL store read directly, in bulk, or any store through MLflow's client.

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

from fa_tracking.errors import FATrackError
from fa_tracking.tracking import address as address  # the dashboard's board shows where runs are
from fa_tracking.tracking.address import without_password

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


def open_source(tracking_uri: str | None, say: Say) -> Source:
    """The fastest source for a store: directly where it is a SQL database whose tables are as they are read here.

    Raises:
        UsageError: there is no such store on this machine.
        FATrackError: the store does not answer, or the installed MLflow would have to change it.
    """
    from fa_tracking.results.export.sources.sql import KNOWN_SCHEMAS, SqlSource, has_what_is_read
    from fa_tracking.tracking import schema

    uri = address.given(tracking_uri)
    if not uri:  # MLflow's default, which MLflow alone can name: its import takes longer than most exports
        import mlflow

        uri = mlflow.get_tracking_uri()
    if address.is_sql(uri):
        version = schema.version(uri)
        if version in KNOWN_SCHEMAS or (schema.is_older(version) and has_what_is_read(uri)):
            return SqlSource(uri)
        if schema.is_older(version):
            raise FATrackError(schema.older(uri, version))
        said = f"has a schema ({version}) that is not known here"
        say(f"{without_password(uri)} {said}: reading it through MLflow's client, which is slower")
    from fa_tracking.results.export.sources.client import ClientSource
    from fa_tracking.tracking import store

    store.must_answer(uri)
    return ClientSource(store.reader(uri))


LABELLED = re.compile(r"^(\w[\w.-]*)=(?=.)")
"""What stands before the address of a store whose runs `fa-track merge` has taken over: its laboratory."""


def store_of(source: str) -> str:
    """The tracking URI in ``runs.source``."""
    return LABELLED.sub("", source)


def id_in_store(run_id: str) -> str:
    """The id by which a run's own store knows it: a merged database may call it ``ID@LABORATORY``."""
    return run_id.partition("@")[0]
