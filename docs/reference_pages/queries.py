import re

from fa_tracking import catalogue
from fa_tracking.dashboards import charts
from fa_tracking.results.database import Query, queries
from reference_pages._markdown import prose, table

INTRODUCTION = """# Queries

One file each in `queries/`, asked with

```sh
fa-track query cross_seed --experiment mine
```

`--experiment` takes the name of an experiment, `--experiment-glob` a pattern of names (`'reproduction*'`): runs of one cell in several
experiments are then seeds of one cell. A cell is a configuration without its seed. Differences between cells are paired by the seeds
that both have. `also` holds the params that set the rows' runs apart and have no column of their own. NULL means not measured.

`fa-track query NAME --explain` prints the SQL for any DuckDB client that opens a database file: the
[macros](schema.md#macros) that it uses stand in the file. A folder of Parquet does not carry them.
"""


def page() -> str:
    rows = [(f"[`{query.name}`](#{query.name})", _title(query)) for query in queries().values()]
    return f"{INTRODUCTION}\n{table(('query', 'answers'), rows)}\n" + "".join(
        _section(query) for query in queries().values()
    )


def _section(query: Query) -> str:
    drawn = [name for name in catalogue.names(charts) if query.name == catalogue.load(charts, name).QUERY]
    parts = [
        f"\n## `{query.name}`",
        f"**{_title(query)}**",
        prose(_comment(query.sql)),
        f"Columns: {_listed(query.columns)}",
        "Drawn by " + ", ".join(f"[{name}](charts.md#{name})" for name in drawn) if drawn else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(query: Query) -> str:
    return prose(query.title)


def _comment(sql: str) -> str:
    """The lines of comment behind the header."""
    lines = re.match(r"(?:-- (?:title|columns):.*\n)*((?:-- .*\n)*)", sql)
    assert lines is not None
    return re.sub(r"^-- ", "", lines[1], flags=re.MULTILINE).strip()


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
