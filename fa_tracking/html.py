"""Makes every page: Jinja templates that escape what they are given, over one style sheet.

A page is one file: its template takes in the style and the scripts, and loads nothing.
"""

from functools import cache
from typing import Any

from fa_tracking.untrusted import one_line, printable_lines

OURS = ("fa_tracking", "templates")


def render(template: str, folder: tuple[str, str] = OURS, /, **values: Any) -> str:
    """Fill a template.

    Args:
        template: the name of its file.
        folder: a package, and its folder in which the template stands; the template may extend and include ``OURS``.
    """
    return str(_environment(folder).get_template(template).render(**values))


@cache
def _environment(folder: tuple[str, str]) -> Any:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=ChoiceLoader([PackageLoader(*folder), PackageLoader(*OURS)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"one_line": one_line, "printable_lines": printable_lines}
    return made
