"""The two errors a user may meet; the command line prints their message as one line and exits with their code."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

LONGEST = 2000
"""Characters of a message: what is wrong may be a name of any length, or one of 100,000 experiments."""


class FATrackError(Exception):
    """Says that something failed, such as a broken checkpoint or a silent store: what, where and what to do."""

    exit_code = 1

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


class CheckpointError(FATrackError):
    """Says that a run's checkpoint is missing or damaged: no verdict can rest on it."""


class OtherDefinitionError(FATrackError):
    """Says that a whole checkpoint's network has another definition here; another version reads it."""


class NoCheckpointError(CheckpointError):
    """Says that a run holds no model that can be rebuilt; its logged numbers may still be judged."""


class StoreAwayError(FATrackError):
    """Says that the store does not answer; unwritten data waits on this machine."""


class UsageError(FATrackError):
    """Says that a request makes no sense, such as an unknown experiment or a missing folder."""

    exit_code = 2


class InvalidError(UsageError, ValueError):
    """A value is none that its name can have: a cosine of −7, an epoch of −1, a text for a number.

    Attributes:
        found: what pydantic has found, where it did.
    """

    def __init__(self, says: str, found: "ValidationError | None" = None) -> None:
        super().__init__(says)
        self.found = found


def what_is_wrong(error: "ValidationError") -> str:
    """The first thing that pydantic has found wrong, as one line that names the field."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] in ("missing", "missing_argument"):
        return f"{where} is missing"
    says = first["msg"].removeprefix("Value error, ")
    return f"{where}: {says}, got {first['input']!r:.60}" if where else says


class NoTablesError(FATrackError):
    """A database is there, and holds no MLflow store."""


class StatementError(UsageError):
    """A SQL statement is wrong, would write, or does not fit the database's tables."""


def no_such(what: str, name: str, known: Iterable[str]) -> str:
    """Say that there is no ``what`` named ``name``, which is meant if one is near, and what there is."""
    names = list(known)
    return f"no {what} named {name!r}{meant(name, names)}; there are: {', '.join(names) or 'none'}"


def meant(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` of the nearest known name; empty where none is near."""
    by_lower = {each.lower(): each for each in reversed([*known])}
    longer = [each for each in reversed(by_lower) if name and each.startswith(name.lower())]
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6) or longer
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""


def first_line(error: Exception) -> str:
    """Of what a library says went wrong; the name of the error where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def reason_of(detail: Mapping[str, Any]) -> str:
    """Say what is wrong by one of pydantic's error details; where a validator has refused a value, in its own words."""
    return str(detail["ctx"]["error"] if detail["type"] == "value_error" else detail["msg"])
