"""What a value rests on: the runs behind it, and a digest of the database's content that a later reader can compare."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fa_tracking.publishing.reference import Answers, literal, parse, spell
from fa_tracking.results.database import find_query, run_sql
from fa_tracking.results.folders import ADDED

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

TABLES = {
    "runs": ("source", "artifact_uri"),
    "params": (),
    "metrics": (),
    "layers": (),
    "knockouts": (),
    "functional": (),
    "audits": (),
}
"""The tables that a digest is of, less the columns that name a machine. Tags name machines too, and what is measured in
them stands in audits, knockouts and functional."""


@dataclass(frozen=True)
class Cited:
    """A value with its provenance.

    Attributes:
        reference: with the experiment in it.
        text: the value as it was asked to be written.
        title: of the query.
        experiment: None where the query asks for none.
        rows: of the query that the value is taken from.
        measured: rows whose value is not NULL.
        runs: ids of the runs behind the rows; None where the query does not tell.
        digest: of the experiment's content, or of the whole database's.
    """

    reference: str
    value: Any
    text: str
    query: str
    title: str
    experiment: str | None
    selection: dict[str, str]
    rows: int
    measured: int
    runs: tuple[str, ...] | None
    digest: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def cite(connection: "DuckDBPyConnection", text: str, form: str = "", experiment: str | None = None) -> Cited:
    """The value that a reference names, and what it rests on.

    Args:
        form: a number format such as ``.3f``.
        experiment: where the reference names none.

    Raises:
        UsageError: the reference or the format is wrong, or no single value is meant.
    """
    reference, answers = parse(text), Answers(connection, experiment)
    found = answers.find(reference)
    about = answers.experiment(reference)
    return Cited(
        reference=reference.of_experiment(about),
        value=found.value,
        text=spell(found.value, form),
        query=reference.query,
        title=find_query(reference.query).title,
        experiment=about,
        selection=dict(reference.selection),
        rows=found.rows,
        measured=found.measured,
        runs=runs_behind(connection, answers.rows(reference), about),
        digest=digest(connection, about),
    )


def runs_behind(
    connection: "DuckDBPyConnection", rows: "DuckDBPyRelation", experiment: str | None
) -> tuple[str, ...] | None:
    """The ids of the runs that rows of an answer are made of; None where the rows do not tell.

    Rows tell by a column ``run_id``, or ``run_ids``; or by ``n_runs``, where as many finished runs as that share all
    their columns that configure a run.
    """
    for column, ids in {"run_id": "run_id", "run_ids": "unnest(run_ids)"}.items():
        if column in rows.columns:
            return _ids(rows.project(f"{ids} as run_id"))
    if "n_runs" not in rows.columns:
        return None
    shared = [column for column in connection.table("runs").columns if column in rows.columns]
    same = " and ".join(f'runs."{column}" is not distinct from answer."{column}"' for column in shared) or "true"
    finished = f"status = 'FINISHED' and {_concerns(experiment)}"
    runs = rows.query("answer", f"select distinct run_id from runs join answer on {same} where {finished}")
    found = _ids(runs) if runs else ()
    return found if len(found) == rows.aggregate("sum(n_runs)").fetchall()[0][0] else None


def digest(connection: "DuckDBPyConnection", experiment: str | None = None) -> str:
    """Sixteen hexadecimal digits that change with any value of the experiment's runs, or of all where it is None.

    It is of one experiment because another one's new runs change no value of this one. The order of rows and columns,
    the kind of file and the machine do not change it: it is a sum over rows of MD5, which unlike DuckDB's own hash
    stays the same from version to version. Nor does a column that a later version has added, where it is NULL.
    """
    tables = connection.sql(
        "select distinct table_name, column_name from duckdb_columns() where not internal"
    ).fetchall()
    parts = []
    for name, left_out in TABLES.items():
        columns = sorted(column for table, column in tables if table == name and column not in left_out)
        if columns:
            row = ", ".join(_spelled(column, column in ADDED.get(name, ())) for column in columns)
            parts.append(
                f"select '{name}' as name, count(*) as n, sum(md5_number_lower(concat_ws(chr(31), {row}))) as content "
                f"from {name} where run_id in (select run_id from runs where {_concerns(experiment)})"
            )
    whole = "md5(coalesce(string_agg(concat_ws(' ', name, n, content), ',' order by name), ''))"
    found = run_sql(connection, f"select {whole}[:16] from ({' union all '.join(parts)}) where n > 0").fetchall()
    return str(found[0][0])


def _spelled(column: str, is_added: bool) -> str:
    """A value as the digest takes it; concat_ws passes over a NULL."""
    text = f'cast("{column}" as varchar)'
    return f"'{column}=' || {text}" if is_added else f"coalesce({text}, chr(0))"


def _concerns(experiment: str | None) -> str:
    """A condition on runs; an experiment may be a pattern."""
    if experiment is None:
        return "true"
    return f"is_asked(runs.experiment, {literal(experiment)})"


def _ids(rows: "DuckDBPyRelation") -> tuple[str, ...]:
    return tuple(run for (run,) in rows.filter("run_id is not null").distinct().order("run_id").fetchall())
