"""How notes and refusals name the keys and values of a log."""

from collections.abc import Iterable
from typing import Any

RENAMED = "renamed, as MLflow refuses the name"


def brief(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 2**63 else "an integer beyond a double"
    return text if len(text) <= 40 else f"{text[:40]}…"


def both(first: str, second: str, name: str) -> str:
    return f"{first!r} and {second!r} are both {name} (a --map can `ignore` one)"


def noted(says: str, keys: list[str]) -> list[str]:
    return [f"{says}: {listed(keys)}"] if keys else []


def listed(keys: Iterable[str]) -> str:
    """The first eight keys, and how many there are beyond."""
    every = [f"{key!r:.60}" for key in keys]
    return ", ".join(every[:8]) + (f" and {len(every) - 8} more" if len(every) > 8 else "")
