"""Names a value of the query catalogue, so that a document can say where its number comes from.

``cross_seed[experiment=demo,method=dfa,penalty=0].accuracy_mean`` is the value in the one row that has these values,
``cross_seed[experiment=demo].max(growth_median)`` an aggregate over the selected rows. Without a column it names the
rows. ``experiment`` is the query's parameter (``experiment~=repro*`` a pattern of names), every other key one of its
columns; ``key=`` selects what is NULL.
"""

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fa_tracking.errors import UsageError, meant
from fa_tracking.results.database import PATTERN, ask, find_query, sql_errors
from fa_tracking.spelled import short

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

AGGREGATES = ("min", "max", "avg", "count")
NOT_MEASURED = "not measured"
LISTED = 8
"""Values that a message names before it says how many more there are."""

_REFERENCE = re.compile(r"(\w+)(?:\[([^\[\]]*)\])?(?:\.(?:(\w+)\((\w+)\)|(\w+)))?")
_FORMAT = re.compile(r"\+?,?(\.\d{1,2})?[deEfFgG%]?")


@dataclass(frozen=True)
class Reference:
    """A value of a query, or its rows where ``column`` is None.

    Attributes:
        selection: pairs of key and value that choose the rows.
        aggregate: one of ``AGGREGATES`` over the rows; None: the value of the one row.
    """

    text: str
    query: str
    selection: tuple[tuple[str, str], ...]
    column: str | None
    aggregate: str | None

    def of_experiment(self, experiment: str | None) -> str:
        """The text, with the experiment in it."""
        chosen = dict(self.selection) if experiment is None else {"experiment": experiment, **dict(self.selection)}
        pairs = (
            f"{key}~={value.removeprefix(PATTERN)}"
            if key == "experiment" and value.startswith(PATTERN)
            else f"{key}={value}"
            for key, value in chosen.items()
        )
        selection = f"[{','.join(pairs)}]" if chosen else ""
        value = f"{self.aggregate}({self.column})" if self.aggregate else self.column
        return f"{self.query}{selection}" + (f".{value}" if value else "")


@dataclass(frozen=True)
class Found:
    """The value of a reference.

    Attributes:
        value: None where it was not measured.
        rows: that were selected.
        measured: rows in which the column is not NULL.
    """

    value: Any
    rows: int
    measured: int


def parse(text: str) -> Reference:
    """The reference that ``text`` spells.

    Raises:
        UsageError: it spells none.
    """
    matched = _REFERENCE.fullmatch(text.strip())
    if not matched:
        raise UsageError(f"{text!r} is no reference: write one such as cross_seed[method=dfa].accuracy_mean")
    query, selection, aggregate, over, column = matched.groups()
    if aggregate and aggregate not in AGGREGATES:
        raise UsageError(f"{text!r}: {aggregate!r} is none of {', '.join(AGGREGATES)}")
    pairs = [part.partition("=") for part in selection.split(",")] if selection else []
    if any(not key.strip() or not sign for key, sign, _ in pairs):
        raise UsageError(f"{text!r}: [{selection}] is no selection: write it such as [method=dfa,penalty=0.01]")
    chosen = tuple(
        ("experiment", PATTERN + value.strip())
        if key.strip() == f"experiment{PATTERN}"
        else (key.strip(), value.strip())
        for key, _, value in pairs
    )
    if len(dict(chosen)) < len(chosen):
        raise UsageError(f"{text!r}: a key is selected by more than once")
    return Reference(text.strip(), query, chosen, over or column, aggregate)


class Answers:
    """What references name in one database; each query is asked once."""

    def __init__(self, connection: "DuckDBPyConnection", experiment: str | None = None) -> None:
        """``experiment``: of the references that name none."""
        self.connection = connection
        self._experiment = experiment
        self._tables: dict[tuple[str, str | None], str] = {}

    def experiment(self, reference: Reference) -> str | None:
        """The experiment that the reference is about; None where neither it nor the caller names one."""
        return dict(reference.selection).get("experiment", self._experiment)

    def rows(self, reference: Reference) -> "DuckDBPyRelation":
        """The rows that the selection leaves, perhaps none.

        Raises:
            UsageError: there is no such query, experiment or column.
        """
        answer = self._ask(reference)
        conditions = [
            _condition(_column(reference, key, answer), value)
            for key, value in reference.selection
            if key != "experiment"
        ]
        return answer.filter(" and ".join(conditions)) if conditions else answer

    def find(self, reference: Reference) -> Found:
        """The value of the reference.

        Raises:
            UsageError: it names no column, or one that does not exist; its selection leaves no row or, without an
                aggregate, several.
        """
        rows = self.rows(reference)
        if reference.column is None:
            raise UsageError(f"{reference.text!r} names no column: {_one_of(rows.columns)}")
        column = _column(reference, reference.column, rows)
        number = self.selected(reference)
        if reference.aggregate:
            return _aggregate(rows, column, reference.aggregate)
        if number > 1:
            raise UsageError(f"{reference.text!r} matches {number} rows, which differ in {self._difference(rows)}")
        value = rows.project(column).fetchall()[0][0]
        return Found(value, 1, int(value is not None))

    def selected(self, reference: Reference) -> int:
        """How many rows the selection leaves.

        Raises:
            UsageError: none.
        """
        number = len(self.rows(reference))
        if not number:
            raise UsageError(f"{reference.text!r} matches no row: {self._why_none(reference)}")
        return number

    def _ask(self, reference: Reference) -> "DuckDBPyRelation":
        key = (reference.query, experiment := self.experiment(reference))
        if key not in self._tables:
            name = f"answer_{uuid4().hex}"
            answer = ask(self.connection, find_query(reference.query), experiment)
            answer.query("answer", f"create temp table {name} as from answer")
            self._tables[key] = name
        return self.connection.table(self._tables[key])

    def _why_none(self, reference: Reference) -> str:
        """The keys whose value no row has, with the values that there are."""
        answer = self._ask(reference)
        wrong = [
            f"of {key} {_one_of(_distinct(answer, key))}"
            for key, value in reference.selection
            if key in answer.columns and not len(answer.filter(_condition(f'"{key}"', value)))
        ]
        return "; ".join(wrong) or ("no row has all of these values" if len(answer) else "the query has no rows")

    def _difference(self, rows: "DuckDBPyRelation") -> str:
        """The columns that set the rows apart: what configures a run where that does, else any."""
        told = self.connection.table("runs").columns
        values = {column: _distinct(rows, column) for column in rows.columns}
        differing = [column for column in rows.columns if len(values[column]) > 1]
        named = [column for column in differing if column in told and column != "run_id"] or differing
        return "; ".join(f"{column}: {_some(values[column])}" for column in named) or "nothing"


def spell(value: Any, form: str = "") -> str:
    """A value as a document has it: by a format such as ``.3f``, four significant digits without one.

    NULL is "not measured", and what is not finite is spelled out, whatever the format.

    Raises:
        UsageError: the format is none, or the value is no number of its kind.
    """
    if value is None:
        return NOT_MEASURED
    if not form or (isinstance(value, float) and not math.isfinite(value)):
        return short(value)
    if not _FORMAT.fullmatch(form):
        raise UsageError(f"{form!r} is no format: write one such as .3f, +.1f, .2e, d or .1%")
    try:
        if isinstance(value, bool):
            raise ValueError
        if isinstance(value, float):  # what rounds to zero has no sign
            form = re.sub(r"^\+?", r"\g<0>z", form)
        return format(value, form)
    except (ValueError, TypeError, OverflowError):
        raise UsageError(f"{short(value)[:40]!r} cannot be written as {form!r}") from None


def literal(text: str) -> str:
    """A text as SQL spells it."""
    return "'" + text.replace("'", "''") + "'"


def _condition(column: str, value: str) -> str:
    text, given = f"cast({column} as varchar)", literal(value)
    if not value:
        return f"coalesce({text}, '') = ''"
    return f"(lower({text}) = lower({given}) or try_cast({text} as double) = try_cast({given} as double))"


def _column(reference: Reference, name: str, answer: "DuckDBPyRelation") -> str:
    """The column ``name`` as SQL spells it."""
    if name not in answer.columns:
        raise UsageError(
            f"{reference.text!r}: {reference.query} has no column {name!r}{meant(name, answer.columns)}: "
            f"{_one_of(answer.columns)}"
        )
    return f'"{name}"'


def _aggregate(rows: "DuckDBPyRelation", column: str, aggregate: str) -> Found:
    """A NaN among the rows is the answer of min, max and avg."""
    nan = "false" if aggregate == "count" else f"coalesce(bool_or(isnan(cast({column} as double))), false)"
    with sql_errors():
        answer = rows.aggregate(f"{aggregate}({column}), {nan}, count(*), count({column})")
        value, is_nan, number, measured = answer.fetchall()[0]
    return Found(math.nan if is_nan else value, number, measured)


def _distinct(rows: "DuckDBPyRelation", column: str) -> list[str]:
    """The values of a column, sorted, as a selection spells them."""
    name = f'"{column}"'
    found = rows.project(name).distinct().order(name).project(f"cast({name} as varchar)").fetchall()
    return [value or "(empty)" for (value,) in found]


def _some(values: list[str]) -> str:
    return ", ".join(values[:LISTED]) + (f" and {len(values) - LISTED} more" if len(values) > LISTED else "")


def _one_of(values: list[str]) -> str:
    return f"there are {_some(values)}"
