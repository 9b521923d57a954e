"""Writes the tables of docs/reference/ from the code that they document.

The rest of a page is written by hand. What stands between `<!-- NAME -->` and `<!-- /NAME -->` is PARTS["NAME"].

python docs/reference.py [FOLDER]
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from itertools import starmap
from pathlib import Path
from types import ModuleType
from typing import Any

from fa_tracking import catalogue, cells, importers, markdown, pitfalls
from fa_tracking.dashboards import charts
from fa_tracking.protocol import diagnostics
from fa_tracking.results import database, views
from fa_tracking.tracking import names
from fa_tracking.trainers import data, datasets, methods, models
from fa_tracking.trainers.augmentation import AUGMENTATIONS
from fa_tracking.trainers.study import grid

PAGES = Path(__file__).parent / "reference"
PART = re.compile(r"^<!-- (\w+) -->\n(?:.*?\n)?<!-- /\1 -->$", re.MULTILINE | re.DOTALL)
MARKUP = re.compile(r"(`[^`]*`)|([*<]|\[(?=\w*\]\())")


def prose(text: str) -> str:
    """Plain text with ``code`` in it, as Markdown that says the same; indented blocks stay."""
    lines = text.replace("``", "`").splitlines()
    kept = [MARKUP.sub(lambda m: m[1] or f"\\{m[2]}", each) if each[:4].strip() else each for each in lines]
    return "\n".join(line if line[:4].strip() else line.replace("`", "") for line in kept).strip()


def told(*documented: Any) -> str:
    return "\n\n".join(prose(inspect.getdoc(each) or "") for each in documented if each and each.__doc__)


def first(documented: Any) -> str:
    return told(documented).partition("\n\n")[0]


def table(head: str, rows: Iterable[Sequence[Any]], name: str = "`{}`") -> str:
    cells = [[name.format(row[0]), *(" ".join(str(cell).split()) for cell in row[1:])] for row in rows]
    return markdown.table(head.split(" | "), cells, is_markdown=True).rstrip()


def listed(head: str, rows: Iterable[Sequence[Any]]) -> str:
    """A table of the rows, and a section for each, of what stands in its last cell."""
    found = [*rows]
    sections = ["\n\n".join(filter(None, [f"## `{name}`", *parts])) for name, *_, parts in found]
    return "\n\n".join([table(head, [row[:-1] for row in found], "[`{0}`](#{0})"), *sections])


def items(package: ModuleType) -> list[tuple[str, Any]]:
    return [(name, catalogue.load(package, name)) for name in catalogue.names(package)]


def query(name: str, query: database.Query) -> Sequence[Any]:
    drawn = ", ".join(f"[{n}](charts.md#{n})" for n, chart in items(charts) if name == chart.QUERY)
    columns = f"Columns: {', '.join(f'`{column}`' for column in query.columns)}"
    return name, prose(query.title), [prose(query.notes), columns, drawn and f"Drawn by {drawn}"]


def chart(name: str, chart: Any) -> Sequence[Any]:
    picture = f"![{chart.TITLE}](../images/{name}.png)" if (PAGES / f"../images/{name}.png").is_file() else ""
    section = [told(chart), picture, told(chart.draw)]
    return name, prose(chart.TITLE), f"[{chart.QUERY}](queries.md#{chart.QUERY})", section


def pitfall(name: str, pitfall: ModuleType) -> Sequence[Any]:
    rule = f"Its rule says: {prose(pitfall.FIX)}." if hasattr(pitfall, "FIX") else ""
    section = [prose(pitfalls.why(pitfall)), f"In FA-Track: {prose(pitfall.CURE)}.", rule]
    return name, prose(pitfalls.title(pitfall)), "yes" if rule else "no", section


def diagnostic(one: Any) -> Sequence[Any]:
    name, required = one.__name__.rpartition(".")[2], "yes" if one.REQUIRED else "no"
    return name, one.FLAG, one.TITLE, one.WORDING, required, [told(one)]


def rule(name: str, rule: Any) -> Sequence[Any]:
    return name, first(rule), "yes" if rule.Method.has_credit else "no", [told(rule, rule.Method)]


def data_set(name: str, data_set: ModuleType) -> Sequence[Any]:
    where = data.from_files().get(name)
    return name, first(data_set), f"`--data-dir`: `{where}`, or Parquet; or `--download`" if where else "built in"


def study(name: str) -> Sequence[Any]:
    whole = grid.load(name)
    return name, len(whole.configs()), whole.title, whole.reduced.says if whole.reduced else ""


def spelled(kind: str) -> str:
    """The names of one kind, with their docstrings; what is spelled for a number is spelled for 3."""
    found = re.findall(r'^[A-Z\d_]+ = "([^"]+[^/"])"\n"""(.*?)"""', inspect.getsource(names), re.MULTILINE | re.DOTALL)
    found += [(spell(3), inspect.getdoc(spell)) for _, spell in inspect.getmembers(names, inspect.isfunction)]
    kinds = {r"(fa|mlflow)\.": "tag", f"{names.CHECKPOINTS}|{names.STATE}": "name", ".*/": "metric", "": "name"}
    chosen = ((name, prose(said)) for name, said in found if next(kinds[k] for k in kinds if re.match(k, name)) == kind)
    return table(f"{kind} | what it is", chosen)


def sql(file: str, statement: str) -> list[tuple[str, str]]:
    """What a file says of every statement of one kind: the comment above it, and the statement."""
    text = files("fa_tracking.results").joinpath(file).read_text()
    return re.findall(rf"((?:^-- [^\n]*\n)*)^{statement}", text, re.MULTILINE | re.DOTALL)


def schema() -> str:
    tables = sql("schema.sql", r"(create table .*?\);)$")
    return "\n\n".join(f"## `{made.split()[2]}`\n\n```sql\n{above}{made}\n```" for above, made in tables)


def macros() -> str:
    found = (each for p in views.PARTS for each in sql(f"macros/{p}.sql", r"create or replace macro (\w+\([^)]*\))"))
    return table("macro | what it is", ((call, prose(above.replace("-- ", ""))) for above, call in found))


PARTS: dict[str, Callable[[], str]] = {
    "queries": lambda: listed("query | answers", starmap(query, database.queries().items())),
    "charts": lambda: listed("chart | shows | draws", starmap(chart, items(charts))),
    "pitfalls": lambda: listed("file | pitfall | has a rule", starmap(pitfall, pitfalls.catalogue().items())),
    "diagnostics": lambda: listed("file | flag | measures | says | required", map(diagnostic, diagnostics.catalogue())),
    "rules": lambda: listed("file | rule | has Γ", starmap(rule, items(methods))),
    "architectures": lambda: listed(
        "file | network", ((n, first(m), [told(m, getattr(m, "Block", None), m.Model)]) for n, m in items(models))
    ),
    "thresholds": lambda: table("threshold | default", ((t.name, f"{t.default:g}") for t in diagnostics.thresholds())),
    "data_sets": lambda: table("`--dataset` | holds | from", starmap(data_set, items(datasets))),
    "augmentations": lambda: table("`--augmentation` | does", ((n, first(f)) for n, f in AUGMENTATIONS.items())),
    "studies": lambda: table("study | runs | asks | reduced form", map(study, grid.studies())),
    "formats": lambda: table("file | `fa-track import` | reads", ((n, m.NAME, m.TITLE) for n, m in items(importers))),
    "params": lambda: table("param | a run without it", ((p, cells.ABSENT.get(p, "")) for p in names.PARAMS)),
    "names": lambda: "\n\n".join(f"## {kind.capitalize()}s\n\n{spelled(kind)}" for kind in ("metric", "tag", "name")),
    "schema": schema,
    "macros": macros,
}


if __name__ == "__main__":
    for page in PAGES.glob("*.md"):
        text = PART.sub(lambda m: f"<!-- {m[1]} -->\n\n{PARTS[m[1]]()}\n\n<!-- /{m[1]} -->", page.read_text())
        (Path(*sys.argv[1:]) / page.name if sys.argv[1:] else page).write_text(text)
