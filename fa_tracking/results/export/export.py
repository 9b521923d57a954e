"""Carries runs from an MLflow store into the results database."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking import cells
from fa_tracking.results.database import DEFAULT_DATABASE
from fa_tracking.results.export.carry import Exported, bring_up_to_date
from fa_tracking.results.export.replace import refuse_other_files, replacing
from fa_tracking.results.export.source import Progress, unseen
from fa_tracking.results.export.sources import open_source
from fa_tracking.tracking import names

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def export(
    database: str | Path = DEFAULT_DATABASE,
    tracking_uri: str | None = None,
    experiment: str | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda message: None,
    full: bool = False,
) -> Exported:
    """Bring ``database`` up to date with the store: only the metrics of new or changed runs are read.

    The same store twice gives identical rows. The file is replaced as a whole at the end, so a reader never sees half
    of it and a killed export leaves the old one.

    A run whose audit cannot be read, because a tag of it was changed by hand, is carried without it, and named.

    Args:
        experiment: only this one; the database keeps the others. All of the store where None. Runs that the database
            holds of other stores are always kept.
        say: takes a line for the person at the terminal.
        full: read the metrics of every run again.

    Raises:
        UsageError: there is no such experiment, or ``database`` is a file that is no results database.
        FATrackError: the store does not answer, or the database cannot be written.
    """
    refuse_other_files(Path(database))
    source = open_source(tracking_uri, say)
    found = source.snapshot(experiment)
    with replacing(Path(database)) as connection:
        connection.execute("begin")
        done = bring_up_to_date(connection, source, found, experiment, full, progress or unseen)
        unreadable = _unreadable(connection, source.uri, experiment)
        contradictory = _contradictory(connection, source.uri, experiment)
        absurd = _of_no_layer(connection)
        connection.execute("commit")
    for line in unreadable + contradictory + absurd:
        say(line)
    return replace(done, unreadable=len(unreadable))


def _unreadable(connection: "DuckDBPyConnection", uri: str, experiment: str | None) -> list[str]:
    """Of every run that has a verdict and no audit, what to do about it."""
    found = connection.execute(
        "select run_id, run_name, experiment from runs semi join (from tags where key = $3) using (run_id) "
        "anti join audits using (run_id) "
        "where source = $1 and experiment = coalesce($2, experiment) order by experiment, start_time, run_id",
        [uri, experiment, names.TAG_VERDICT],
    )
    return [
        f"{run_id} ({name}) stands as not audited: its tags {names.TAG_MEASURED}, {names.TAG_THRESHOLDS} or "
        f"{names.TAG_AUDITED_AT} are not as an audit writes them; `fa-track audit --experiment {shlex.quote(within)}` "
        "writes them anew"
        for run_id, name, within in found.fetchall()
    ]


def _contradictory(connection: "DuckDBPyConnection", uri: str, experiment: str | None) -> list[str]:
    """Of every run whose params say two things of its blocks, which of them counts."""
    found = connection.execute(
        "select run_id, run_name, map_from_entries(list((key, value))) from runs join params using (run_id) "
        "where source = $1 and experiment = coalesce($2, experiment) and key in ($3, $4, 'depth') "
        "group by all having bool_or(key = $3) order by all",
        [uri, experiment, names.TRAINABLE_BLOCKS, names.FROZEN_BLOCKS],
    )
    told = ((run_id, name, cells.contradiction(params)) for run_id, name, params in found.fetchall())
    return [f"{run_id} ({name}): {wrong}; the latter counts" for run_id, name, wrong in told if wrong]


def _of_no_layer(connection: "DuckDBPyConnection") -> list[str]:
    """Of every run that was read and names a layer which is none, which metric it is."""
    found = connection.execute(
        "select distinct run_id, run_name, key_codes.key from points join key_codes on key_codes.code = points.key "
        "join run_codes on run_codes.code = points.run join runs using (run_id) "
        "where key_codes.key in (select key from layer_names where not is_layer) order by all"
    )
    return [
        f"{run_id} ({name}): {cells.quoted(key)} names no layer, which is 0 to 9999 without leading zeros: it stands "
        "among the metrics, not among the layers"
        for run_id, name, key in found.fetchall()
    ]
