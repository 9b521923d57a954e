"""Sentences that can be walked back: each with the rows it is about and a condition, checked against the database."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fa_tracking import markdown, untrusted
from fa_tracking.errors import UsageError
from fa_tracking.publishing.provenance import digest, runs_behind
from fa_tracking.publishing.tables import numeric_columns
from fa_tracking.results.database import find_query, run_sql, sql_errors
from fa_tracking.results.files import write_whole
from fa_tracking.spelled import short

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

HOLDS, WALKED_BACK, MIXED, NO_EVIDENCE = "holds", "walked back", "mixed", "no evidence"
VERDICT = "holds"
"""The column that a condition becomes, in an evidence summary."""
OUTCOME, ROW, RESTS = '"fa-track: outcome"', '"fa-track: row"', '"fa-track: rests on nan"'
"""The same, the number of a row, and whether a NaN is in what it is judged by, while a claim is asked: a query's own
columns may be called anything."""
PLAIN = frozenset(("COMPARISON", "CONJUNCTION", "BETWEEN", "CONSTANT", "COLUMN_REF", "LAMBDA", "TYPE"))
"""Parts of a condition that are no number, or are looked at already."""


class Claim(BaseModel):
    """A sentence and what would make it true.

    Attributes:
        query: a name of the catalogue, or SQL that returns rows.
        experiment: the query's ``$experiment``; SQL without it asks the whole database.
        where: an SQL condition that chooses rows.
        holds: an SQL condition of one row: the sentence holds where it is true on every chosen row. NULL, or a NaN
            anywhere in a column that a condition names or in what it computes: the row was not measured.
        show: columns, or SQL expressions, that the evidence summary shows of each row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sentence: str = Field(min_length=1)
    query: str = Field(min_length=1)
    experiment: str | None = None
    where: str = Field(default="true", min_length=1)
    holds: str = Field(min_length=1)
    show: tuple[str, ...] = ()

    @property
    def sql(self) -> str:
        """The query as SQL.

        Raises:
            UsageError: it is a name that the catalogue does not hold.
        """
        return self.query if self.is_sql else find_query(self.query.strip()).sql

    @property
    def is_sql(self) -> bool:
        """Whether ``query`` is SQL: a name of the catalogue has no white space in it."""
        return len(self.query.split()) > 1

    @property
    def key(self) -> str:
        """Changes with the sentence, the rows and the condition: an edited claim has no history."""
        said = [self.sentence, self.query, self.experiment, self.where, self.holds]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


class Claims(BaseModel):
    """A file of claims.

    Attributes:
        title: of the evidence summary.
        experiment: of the claims that name none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = "Claims"
    experiment: str | None = None
    claims: tuple[Claim, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Held:
    """When a claim last held, to the record, and on which content."""

    date: str
    digest: str
    n: int
    sentence: str


@dataclass(frozen=True)
class Checked:
    """What the database says of a claim.

    Attributes:
        verdict: ``HOLDS`` on every measured row, ``WALKED_BACK`` on none of them, ``MIXED`` on some, or
            ``NO_EVIDENCE``: no row was measured.
        true, false, unmeasured: rows on which the condition is true, false and NULL.
        runs: ids of the runs behind the rows; None where the rows do not tell.
        last_held: None where no record says so.
        columns, rows: what is shown of each row, the condition last.
        note: why there is no evidence; empty where the rows say it.
    """

    claim: Claim
    verdict: str
    true: int
    false: int
    unmeasured: int
    runs: tuple[str, ...] | None
    digest: str
    last_held: Held | None
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""

    @property
    def n(self) -> int:
        """Rows that were measured."""
        return self.true + self.false

    @property
    def counted(self) -> str:
        """The verdict's counts, in words."""
        unmeasured = f"; not measured on {self.unmeasured}" if self.unmeasured else ""
        return self.note or f"true on {self.true} of {self.n}{unmeasured}"

    def to_dict(self) -> dict[str, Any]:
        found = {k: v for k, v in asdict(self).items() if k not in ("claim", "columns", "rows")}
        return self.claim.model_dump() | found | {"n": self.n}


def load(path: Path) -> Claims:
    """The claims of a YAML file, each with its experiment.

    Raises:
        UsageError: it is no YAML, or no file of claims; the message names what and where.
    """
    try:
        found = Claims.model_validate(untrusted.read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part + 1 if isinstance(part, int) else part) for part in first["loc"])
        raise UsageError(f"{path}: {where or 'the file'}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no YAML: {error}") from None
    named = (c if c.experiment else c.model_copy(update={"experiment": found.experiment}) for c in found.claims)
    return found.model_copy(update={"claims": tuple(named)})


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


def history_path(claims: Path) -> Path:
    """The record beside a file of claims."""
    return claims.with_suffix(".history.json")


def read_history(path: Path) -> dict[str, Held]:
    """When claims last held, by their keys; empty where there is no record.

    Raises:
        UsageError: the file is no record.
    """
    if not path.exists():
        return {}
    try:
        found = {key: Held(**held) for key, held in untrusted.read_json(path).items()}
        values = [(field.name, getattr(held, field.name)) for held in found.values() for field in fields(held)]
        if not all(isinstance(value, int if name == "n" else str) for name, value in values):
            raise TypeError
        return found
    except (OSError, ValueError, TypeError, AttributeError):
        raise UsageError(f"{path} is no record of claims: restore it, or delete it to begin anew") from None


def record(path: Path, checked: Sequence[Checked]) -> list[Checked]:
    """Write down that the claims that hold do so today (UTC), and forget claims that are no longer made.

    Raises:
        FATrackError: the file cannot be written.
    """
    today = datetime.now(UTC).date().isoformat()
    fresh = [
        replace(c, last_held=Held(today, c.digest, c.n, c.claim.sentence)) if c.verdict == HOLDS else c for c in checked
    ]
    history = {c.claim.key: asdict(c.last_held) for c in fresh if c.last_held}
    write_whole(path, f"{json.dumps(history, indent=2, ensure_ascii=False)}\n".encode())
    return fresh


def summary(title: str, checked: Sequence[Checked]) -> str:
    """The evidence as Markdown: every claim with its verdict, then what the rows say."""
    verdicts = Counter(c.verdict for c in checked)
    counts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in (HOLDS, MIXED, WALKED_BACK, NO_EVIDENCE))
    cells = [
        [
            str(i),
            markdown.escaped(c.claim.sentence),
            c.verdict,
            c.counted,
            markdown.escaped(c.last_held.date) if c.last_held else "no record",
        ]
        for i, c in enumerate(checked, 1)
    ]
    columns = ["", "claim", "verdict", "rows", "last held"]
    table = markdown.table(columns, cells, [True, False, False, False, False], is_markdown=True)
    evidence = "\n".join(_evidence(i, c) for i, c in enumerate(checked, 1))
    return f"# {markdown.escaped(title)}\n\nOf {len(checked)} claims: {counts}.\n\n{table}\n{evidence}"


def _evidence(number: int, checked: Checked) -> str:
    claim = checked.claim
    runs = (
        "not told by the query"
        if checked.runs is None
        else markdown.escaped(", ".join(run[:8] for run in checked.runs)) or "none"
    )
    query = "SQL of the file of claims" if claim.is_sql else f"query {_code(claim.query)}"
    experiment = claim.experiment if "$experiment" in claim.sql else "all experiments"
    said = markdown.escaped(checked.note) if checked.note else f"{_code(claim.holds)} is {checked.counted}"
    lines = [
        f"## {number}. {markdown.escaped(claim.sentence)}",
        f"{checked.verdict.capitalize()}: {said}, where {_code(claim.where)}.",
        f"From the {query}, {markdown.escaped(str(experiment))}, database digest {checked.digest}. Runs: {runs}.",
    ]
    if claim.show and checked.rows:
        cells = [["–" if value is None else short(value) for value in row] for row in checked.rows]
        right = numeric_columns(checked.columns, checked.rows)
        lines.append(markdown.table(checked.columns, cells, right).rstrip())
    return "\n\n".join(lines) + "\n"


def _code(sql: str) -> str:
    """SQL on one line, as code: between more ticks than it holds one after the other."""
    said = " ".join(sql.split())
    ticks = "`" * (1 + max(map(len, re.findall("`+", said)), default=0))
    blank = " " if said[:1] == "`" or said[-1:] == "`" else ""
    return f"{ticks}{blank}{said}{blank}{ticks}"
