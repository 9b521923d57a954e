"""Holds claims against a database: the rows that each is about, and on which of them its condition is true."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from fa_tracking.errors import UsageError
from fa_tracking.publishing.claims import HOLDS, MIXED, NO_EVIDENCE, VERDICT, WALKED_BACK, Checked, Claim, Claims, Held
from fa_tracking.publishing.provenance import digest, runs_behind
from fa_tracking.results.database import run_sql, sql_errors

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

OUTCOME, ROW, RESTS = '"fa-track: outcome"', '"fa-track: row"', '"fa-track: rests on nan"'
"""The same, the number of a row, and whether a NaN is in what it is judged by, while a claim is asked: a query's own
columns may be called anything."""
PLAIN = frozenset(("COMPARISON", "CONJUNCTION", "BETWEEN", "CONSTANT", "COLUMN_REF", "LAMBDA", "TYPE"))
"""Parts of a condition that are no number, or are looked at already."""


def check(
    connection: "DuckDBPyConnection",
    claims: Claims,
    history: dict[str, Held],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Checked]:
    """Hold every claim against the database; ``progress`` is told after each how many of all are done.

    Raises:
        UsageError: a query or condition is wrong; the message names the claim.
    """
    digests: dict[str | None, str] = {}
    checked = []
    for number, claim in enumerate(claims.claims, 1):
        about = claim.experiment if "$experiment" in claim.sql else None
        if about not in digests:
            digests[about] = digest(connection, about)
        try:
            checked.append(_check(connection, claim, about, digests[about], history.get(claim.key)))
        except UsageError as error:
            raise UsageError(f"claim {number} ({claim.sentence}): {error}") from None
        progress(number, len(claims.claims))
    return checked


def _check(
    connection: "DuckDBPyConnection", claim: Claim, experiment: str | None, content: str, held: Held | None
) -> Checked:
    if "$experiment" in claim.sql and experiment is None:
        raise UsageError(f"the query {claim.query!r} needs an experiment")
    chosen = _chosen(connection, claim, experiment)
    kind = chosen.types[-1]
    if str(kind) != "BOOLEAN":
        raise UsageError(f"holds: {claim.holds!r} is no condition: it gives {kind}")
    counts = ", ".join(f"count(*) filter ({OUTCOME} is {value})" for value in ("true", "false", "null"))
    with sql_errors():
        true, false, unmeasured = chosen.aggregate(counts).fetchall()[0]
        shown = chosen.project(", ".join((*claim.show, f"{OUTCOME} as {VERDICT}")))
        rows = tuple(shown.fetchall())
        runs = runs_behind(connection, chosen, experiment)
    verdict = MIXED if true and false else HOLDS if true else WALKED_BACK if false else NO_EVIDENCE
    note = "" if rows else _why_no_row(connection, experiment)
    columns = tuple(shown.columns)
    return Checked(claim, verdict, true, false, unmeasured, runs, content, held, columns, rows, note)


def _chosen(connection: "DuckDBPyConnection", claim: Claim, experiment: str | None) -> "DuckDBPyRelation":
    """The rows that a claim is about, with its condition as the last column, ``OUTCOME``.

    DuckDB has NaN above all numbers, and many a function passes over it, so that it would fulfil many a condition:
    where a row is judged by a NaN, the condition is NULL.
    """
    sql = _without_end(claim.sql)
    params = {"experiment": experiment} if experiment else None
    _refuse_malformed(connection, "query", f"from ({sql}\n)")
    asked = run_sql(connection, f"from ({sql}\n)", params)
    where, holds = (_parsed(connection, name, part) for name, part in (("where", claim.where), ("holds", claim.holds)))
    named = [_rests(_quoted(name)) for name in _named(where + holds, asked.columns)]
    computed = [f"try({_rests(part)})" for part in _computed(connection, where + holds)]
    anywhere = "bool_or({0}) over ()" if any(part.get("class") == "WINDOW" for part in holds) else "{0}"

    def judged(tests: Sequence[str]) -> "DuckDBPyRelation":
        return run_sql(
            connection,
            f"""
            with told as materialized (select *, row_number() over () as {ROW} from ({sql}
            )),
            kept as materialized (select * from told where ({claim.where}
            )),
            judged as (
                select {ROW}, ({claim.holds}
                ) as {OUTCOME}, {" or ".join(f"coalesce({test}, false)" for test in tests) or "false"} as {RESTS}
                from kept
            )
            select kept.* exclude ({ROW}), if({anywhere.format(f"judged.{RESTS}")}, null, judged.{OUTCOME}) as {OUTCOME}
            from kept join judged using ({ROW}) order by kept.{ROW}
            """,
            params,
        )

    judged([])  # what is wrong with the condition itself
    try:
        return judged(named + computed)
    except UsageError:  # a part cannot be asked for by itself: one that is drawn by chance, or a name of a kind
        return judged(named + [test for test in computed if _is_asked(judged, test)])


def _without_end(sql: str) -> str:
    """SQL without the semicolons behind it, and what comments follow them."""
    import duckdb

    text = sql.encode()  # DuckDB counts bytes
    starts = [start for start, kind in duckdb.tokenize(sql) if kind != duckdb.token_type.comment]
    while starts and text[starts[-1] :].startswith(b";"):
        text = text[: starts.pop()]
    return text.decode()


def _parsed(connection: "DuckDBPyConnection", name: str, sql: str) -> list[dict[str, Any]]:
    """A condition and all that it is made of, as DuckDB writes down what it has parsed.

    Raises:
        UsageError: it is no single condition, or one that asks other rows, in which a NaN would not be seen.
    """
    _refuse_malformed(connection, name, f"select ({sql}\n)")
    ((text,),) = connection.execute("select json_serialize_sql($1)", [f"select ({sql}\n)"]).fetchall()
    node = json.loads(text)["statements"][0]["node"]
    if len(node["select_list"]) != 1:
        raise UsageError(f"{name}: {sql!r} is several conditions: write one, with `and` or `or`")
    parts = list(_parts(node["select_list"]))
    if any(part.get("class") == "SUBQUERY" for part in parts):
        raise UsageError(
            f"{name}: {sql!r} asks other rows, in which a NaN would not be seen: let the query give what it needs of "
            "them as a column"
        )
    return parts


def _parts(node: Any) -> Iterator[dict[str, Any]]:
    """The expressions in a parsed one, itself first."""
    if isinstance(node, dict):
        if "class" in node:
            yield node
        yield from chain.from_iterable(map(_parts, node.values()))
    elif isinstance(node, list):
        yield from chain.from_iterable(map(_parts, node))


def _named(parts: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """The columns that conditions name; all where one may name any."""
    if any(part["class"] in ("STAR", "POSITIONAL_REFERENCE") for part in parts):
        return list(columns)
    names = {name.lower() for part in parts for name in part.get("column_names", ())}
    return [column for column in columns if column.lower() in names or "kept" in names]


def _computed(connection: "DuckDBPyConnection", parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The SQL of what conditions compute, such as x / y, outside of functions of their own (lambda)."""
    inside = [id(part) for each in parts if each["class"] == "LAMBDA" for part in _parts(each)]
    found = [part for part in parts if part["class"] not in PLAIN and id(part) not in inside]
    ((text,),) = connection.execute("select json_serialize_sql('select 1')").fetchall()
    select = json.loads(text)
    written = []
    for part in found:
        select["statements"][0]["node"]["select_list"] = [part]
        ((sql,),) = connection.execute("select json_deserialize_sql($1::json)", [json.dumps(select)]).fetchall()
        written.append(sql.removeprefix("SELECT "))
    return written


def _is_asked(judged: Callable[[Sequence[str]], Any], test: str) -> bool:
    try:
        judged([test])
    except UsageError:
        return False
    return True


def _rests(value: str) -> str:
    """The SQL of whether a NaN stands in a value, also in what it is made of: a list, a map, a union, JSON.

    A text is one where all of it says so, or where it is a list or JSON.
    """
    said = f"cast({value} as varchar)"
    of_text = rf"regexp_matches({said}, '^\s*[-+]?nan\s*$|^\s*[\[{{].*\bnan\b', 'si')"
    return rf"if(typeof({value}) = 'VARCHAR', {of_text}, regexp_matches({said}, '\bnan\b', 'i'))"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _refuse_malformed(connection: "DuckDBPyConnection", name: str, sql: str) -> None:
    """One part at a time, so that the message can name it."""
    try:
        with sql_errors():
            if len(connection.extract_statements(sql)) != 1:
                raise UsageError("SQL: it holds several statements")
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None


def _why_no_row(connection: "DuckDBPyConnection", experiment: str | None) -> str:
    known = "select 1 from runs where is_asked(experiment, $experiment) limit 1"
    if experiment and not len(run_sql(connection, known, {"experiment": experiment})):
        return f"the database holds no experiment {experiment!r}"
    return "no row is chosen"
