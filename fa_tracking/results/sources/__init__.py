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

import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from fa_tracking.errors import FATrackError

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
    """The fastest source for a store: directly where it is a SQL database of a schema that is known here.

    Raises:
        FATrackError: the store does not answer.
    """
    from fa_tracking.results.sources.sql import KNOWN_SCHEMAS, SqlSource, is_sql, schema_version

    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri and is_sql(uri):  # known without MLflow, whose import takes longer than most exports
        version = schema_version(uri)
        if version in KNOWN_SCHEMAS:
            return SqlSource(uri)
        said = f"has a schema ({version}) that is not known here"
        say(f"{without_password(uri)} {said}: reading it through MLflow's client, which is slower")
    if uri:
        refuse_silent(uri)
    return _by_client(tracking_uri)


def without_password(uri: str) -> str:
    """A tracking URI as it may be shown and handed on."""
    address = urlsplit(uri)
    if address.password is None:
        return uri
    return uri.replace(f":{address.password}@", "@", 1)


LABELLED = re.compile(r"^(\w[\w.-]*)=(?=.)")
"""What stands before the address of a store whose runs `fa-track merge` has taken over: its laboratory."""


def address(source: str) -> str:
    """The tracking URI in ``runs.source``."""
    return LABELLED.sub("", source)


def id_in_store(run_id: str) -> str:
    """The id by which a run's own store knows it: a merged database may call it ``ID@LABORATORY``."""
    return run_id.partition("@")[0]


def refuse_silent(uri: str) -> None:
    """Say at once of a tracking server what MLflow's client would say after minutes of trying again.

    Raises:
        FATrackError: it does not answer.
    """
    from urllib.request import getproxies, proxy_bypass  # loads what commands that ask no server wait for

    address = urlsplit(uri)
    if address.scheme not in ("http", "https"):
        return
    port = address.port or (443 if address.scheme == "https" else 80)
    if getproxies().get(address.scheme) and not proxy_bypass(address.hostname or ""):
        return
    try:
        socket.create_connection((address.hostname or "", port), timeout=10).close()
    except OSError as error:
        raise FATrackError(
            f"the tracking server {without_password(uri)} does not answer: {error.strerror or error}"
        ) from error


def _by_client(tracking_uri: str | None) -> Source:
    from fa_tracking.results.sources.client import ClientSource
    from fa_tracking.results.sources.sql import KNOWN_SCHEMAS, SqlSource, is_sql, schema_version
    from fa_tracking.tracking import store

    client = store.client(tracking_uri)
    if not tracking_uri and is_sql(client.tracking_uri) and schema_version(client.tracking_uri) in KNOWN_SCHEMAS:
        return SqlSource(client.tracking_uri)  # MLflow's default store, which MLflow alone can name
    return ClientSource(client)
