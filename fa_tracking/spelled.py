"""Values as people and files read them."""

import math
from typing import Any

from fa_tracking.untrusted import printable


def counted(n: int, thing: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{n} {thing}{'' if n == 1 else 's'}"


def plain(value: Any) -> Any:
    """A value that JSON and CSV can carry without losing anything."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, float):
        return value + 0.0  # zero has no sign
    return value if value is None or isinstance(value, bool | int | float | str | list) else str(value)


def short(value: Any) -> str:
    """A value as a person reads it: four significant digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:z.4g}" if math.isfinite(value) else str(plain(value))
    return printable(" ".join(str(value).splitlines()))
