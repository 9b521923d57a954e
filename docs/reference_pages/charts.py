import inspect
from pathlib import Path
from types import ModuleType

from fa_tracking import catalogue
from fa_tracking.dashboards import charts
from reference_pages._markdown import docstring, prose

IMAGES = Path(__file__).parent.parent / "images"

INTRODUCTION = """# Charts

One file each in `dashboards/charts/`; each draws the answer of one query and nothing else.
"""


def page() -> str:
    sections = [_section(name, catalogue.load(charts, name)) for name in catalogue.names(charts)]
    return INTRODUCTION + "".join(sections) + f"\n## A chart's file\n\n```text\n{inspect.getdoc(charts)}\n```\n"


def _section(name: str, chart: ModuleType) -> str:
    parts = [
        f"\n## `{name}`",
        f"**{prose(chart.TITLE)}**",
        docstring(chart),
        f"![{chart.TITLE}](../images/{name}.png)" if (IMAGES / f"{name}.png").is_file() else "",
        docstring(chart.draw),
        f"Draws [{chart.QUERY}](queries.md#{chart.QUERY}).",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
