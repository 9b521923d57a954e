"""The summary run of an experiment: one run of the store that trains nothing and carries the dashboard."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fa_tracking import markdown
from fa_tracking.protocol.verdicts import caveats
from fa_tracking.publishing.publication import mean_and_sd
from fa_tracking.results.database import DEFAULT_DATABASE, ask, connect, find_query, run_sql, sql_errors
from fa_tracking.spelled import short
from fa_tracking.tracking import names, store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from mlflow import MlflowClient

VERDICTS = "select verdict, count(*) as runs from runs_of($experiment) group by verdict order by runs desc, verdict"
CONFIG = ("architecture", "width", "depth", "epochs", "lr", "penalty", "frozen_blocks", "augmentation", "also")
"""Of a cell, beside its method: shown where cells differ in it."""


def log_summary(
    experiment: str, page: Path, database: str | Path = DEFAULT_DATABASE, tracking_uri: str | None = None
) -> str:
    """Put ``page`` into the experiment's summary run as ``dashboard.html``, and its cells and verdicts into the note.

    The run is made where there is none. It has the tag ``fa.summary``, by which every reader of the store here leaves
    it out: it is no run to audit, count, export or replay. Where the store fails midway the next call mends the run.

    Returns:
        Its run id.

    Raises:
        UsageError: the database or the store holds no such experiment.
        FATrackError: the store or the database does not answer.
    """
    with connect(database) as connection, sql_errors():
        text = note(connection, experiment)
    client, home = find_home(experiment, tracking_uri)
    with store.store_errors():
        run_id = (
            _find(client, home)
            or client.create_run(home, tags={names.TAG_SUMMARY: "dashboard"}, run_name=names.SUMMARY).info.run_id
        )
        client.log_text(run_id, page.read_text(), names.DASHBOARD)
        client.set_tag(run_id, names.TAG_NOTE, text)
        client.set_terminated(run_id)
    return str(run_id)


def find_home(experiment: str, tracking_uri: str | None = None) -> "tuple[MlflowClient, str]":
    """The store and the id of the experiment in it, to which its summary run belongs.

    Raises:
        UsageError: the store holds no such experiment.
        FATrackError: the store does not answer.
    """
    store.must_answer(tracking_uri)
    client = store.reader(tracking_uri)
    return client, store.find_experiment(client, experiment).experiment_id


def note(connection: "DuckDBPyConnection", experiment: str) -> str:
    """How many runs have which verdict, and the cells over their seeds, as Markdown that MLflow does not cut."""
    answer = ask(connection, find_query("cross_seed"), experiment)
    cells = [dict(zip(answer.columns, row, strict=True)) for row in answer.fetchall()]
    counts = run_sql(connection, VERDICTS, {"experiment": experiment}).fetchall()
    said = "".join(f"- {runs} × {markdown.escaped(verdict)}\n" for verdict, runs in counts)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    said += "".join(f"\n{markdown.escaped(caveat)}\n" for caveat in caveats(verdict for verdict, _ in counts))
    above = f"**{sum(runs for _, runs in counts)} finished runs in {len(cells)} cells**\n\n{said}\n"
    below = f"\nThe charts: the artifact {names.DASHBOARD} of this run. Made {made} by FA-Track.\n"
    room = names.TAG_LIMIT - len(above) - len(below)
    return above + _table(cells, room) + below


def _table(cells: list[dict[str, Any]], room: int) -> str:
    """The cells, or as many of them as ``room`` characters hold, and how many more there are."""
    varied = ["method", *(c for c in CONFIG if len({cell[c] for cell in cells}) > 1)]
    headings = [*(column.replace("_", " ") for column in varied), "n", "accuracy", "flags", "verdict"]
    rows = [
        [
            *(short(cell[column]) for column in varied),
            str(cell["n"]),
            mean_and_sd(cell["accuracy_mean"], cell["accuracy_sd"]),
            cell["flags"],
            cell["verdict"],
        ]
        for cell in cells
    ]
    for shown in range(len(rows), -1, -1):
        table = markdown.table(headings, rows[:shown])
        if shown < len(rows):
            table += f"\nand {len(rows) - shown} more cells\n"
        if len(table) <= room:
            return table
    return ""


def _find(client: "MlflowClient", experiment_id: str) -> str | None:
    """The summary run; the oldest, should there be several."""
    found = client.search_runs(
        [experiment_id], f"tags.`{names.TAG_SUMMARY}` != ''", order_by=["attributes.start_time ASC"], max_results=1
    )
    return found[0].info.run_id if found else None
