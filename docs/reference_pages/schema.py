import re
from importlib.resources import files

import duckdb

from fa_tracking.results.views import views_sql
from reference_pages._markdown import prose, table

INTRODUCTION = """# The results database

What `fa-track export` writes. Times are UTC. NaN and infinities are kept as the doubles that they are; NULL means not measured.
`fa-track sql` and any DuckDB client can ask it.
"""

MACROS = """## Macros

What the queries share. They stand in the database file, so that any client can use them: `select * from cells_of('~*')`. `asked`
is the name of an experiment, or a tilde and a pattern of names.
"""

COLUMNS = (
    "select table_name, column_name, data_type, is_nullable from duckdb_columns() order by table_oid, column_index"
)


def page() -> str:
    schema = files("fa_tracking.results").joinpath("schema.sql").read_text()
    return "\n\n".join([INTRODUCTION.strip(), *_tables(schema), MACROS.strip(), *_macros(views_sql())])


def _tables(schema: str) -> list[str]:
    with duckdb.connect() as connection:
        connection.execute(schema)
        columns = connection.execute(COLUMNS).fetchall()
    sections = []
    for name, body in re.findall(r"create table (\w+) \((.*?)\);$", schema, re.MULTILINE | re.DOTALL):
        said = dict(re.findall(r"^    (\w+) .*-- (.*)$", body, re.MULTILINE))
        rows = [
            (f"`{column}`", kind.lower(), "" if nullable else "always", prose(said.get(column, "")))
            for table_name, column, kind, nullable in columns
            if table_name == name
        ]
        above = _comment_before(schema, f"create table {name} ")
        sections.append(f"## `{name}`\n\n{above}{table(('column', 'type', 'there', 'what it is'), rows)}")
    return sections


def _macros(views: str) -> list[str]:
    found = re.findall(r"^create or replace macro (\w+)(\(.*?\))", views, re.MULTILINE)
    return [
        f"### `{name}{given}`\n\n{_comment_before(views, f'create or replace macro {name}(')}".strip()
        for name, given in found
    ]


def _comment_before(sql: str, statement: str) -> str:
    """The comment that stands directly above a statement, as a paragraph."""
    above = re.search(r"((?:^-- .*\n)*)\Z", sql[: sql.index(statement)], re.MULTILINE)
    text = prose(re.sub(r"^-- ", "", above[1], flags=re.MULTILINE)) if above else ""
    return f"{text}\n\n" if text else ""
