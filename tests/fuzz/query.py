"""Query parameters, references to values, and the headers of query files."""

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fa_tracking.publishing.reference import Answers, parse, spell
from fa_tracking.results import database

from . import _database
from ._values import TEXTS, edited, scalars, texts

TITLE = "query parameters, references, headers"
WEIGHT = 12

HEADER = b"-- title: T\n-- columns: a, b\nselect $experiment as a, 1 as b\n"
REFERENCE = "cross_seed[experiment=e,method=dfa].accuracy_mean"


def inputs() -> st.SearchStrategy[Any]:
    _database.connection()
    words = st.sampled_from(
        ["cross_seed", "board", "e", "*", "experiment", "method", "max(", ")", "[", "]", "=", ",", "."]
    )
    references = st.lists(words | texts, max_size=9).map("".join) | edited(REFERENCE.encode()).map(
        lambda b: b.decode(errors="replace")
    )
    return (
        st.tuples(st.just("ask"), texts | st.sampled_from(["e", "*", "~*", "[", "~e*"]) | st.none())
        | st.tuples(st.just("reference"), references)
        | st.tuples(st.just("spell"), st.tuples(scalars, texts | st.sampled_from([".3f", "d", ".99%"])))
        | st.tuples(st.just("header"), edited(HEADER, [t.encode("utf-8", "replace") for t in TEXTS]))
    )


def feed(value: Any, folder: Path) -> None:
    kind, content = value
    connection = _database.connection()
    match kind:
        case "ask":
            query = database.find_query("runs" if "runs" in database.queries() else "board")
            database.explain_query(query, content)
            database.ask(connection, query, content).fetchall()
        case "reference":
            Answers(connection, "e").find(parse(content))
        case "spell":
            spell(*content)
        case "header":
            (folder / "q.sql").write_bytes(content)
            database._parse(folder / "q.sql")
