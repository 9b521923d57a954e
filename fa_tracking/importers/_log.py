"""What a reader of logs hands over, and what becomes of it: the values of a log, and the run of ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fa_tracking.errors import FATrackError


class UnknownShapeError(FATrackError):
    """A log whose shape no reader knows; the format's ``EXAMPLE`` shows what is expected."""


class Point(NamedTuple):
    """A value at a step: None where it was not measured; ``time`` in milliseconds since 1970, where the log tells."""

    step: int
    value: Any
    time: int | None = None


@dataclass(frozen=True)
class Raw:
    """What stands in a log, or in one part of it.

    Attributes:
        files: what it was read from, by the path that each gets among the artifacts.
        params: values of any type by key; the keys of nested fields have dots.
        points: of any type by key.
        steps: every step, also one at which nothing was measured.
        notes: what the reader of the format has to say.
        part: the name of the training, where the log holds several.
    """

    files: dict[str, Path]
    params: dict[str, Any]
    points: dict[str, list[Point]]
    steps: frozenset[int]
    notes: tuple[str, ...] = ()
    part: str = ""


@dataclass(frozen=True)
class Log:
    """A log as a run of ours: every point's value is a float.

    Attributes:
        part: the name of the training, where the log holds several.
        given: what of it was said by hand.
        said: what the run's report must say of its accuracy; empty where that is plain.
    """

    source: Path
    part: str
    sha256: str
    files: dict[str, Path]
    params: dict[str, str]
    points: dict[str, list[Point]]
    epochs: int
    given: dict[str, Any]
    notes: tuple[str, ...]
    said: str
