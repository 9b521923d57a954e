"""What builds others' models and rules: installed entry points, and bounds on what they may make."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from fa_tracking import catalogue, untrusted
from fa_tracking.errors import CheckpointError, FATrackError, UsageError

LONGEST_REASON = 400
"""Characters of another library's words that a message repeats."""
PARAMETERS_PER_TENSOR = 8
"""Parameters that a factory may make for each tensor of the file: tied ones and replaced heads count twice."""
MODULES_PER_TENSOR = 64
"""Modules likewise: activations and containers hold no tensor. So a depth of 10^9 is refused, not counted up to."""


def installed(group: str, kind: str, item: str, name: str, where: str) -> Any:
    """What an installed entry point gives: a callable, or of a catalogue the ``item`` of one of its files.

    Raises:
        CheckpointError: there is none of this name.
    """
    entry, _, file = name.partition(":")
    points = entry_points_of(group)
    if entry not in points.names:
        raise CheckpointError(
            f"{where} names the {kind} {name!r}, which is no entry point of the group {group!r}; "
            f"installed are: {', '.join(sorted(points.names)) or 'none'}"
        )
    found = load(points[entry])
    if not isinstance(found, ModuleType):
        return found
    try:
        return getattr(catalogue.load(found, file), item)
    except UsageError as error:
        raise CheckpointError(f"{where}: {error}") from error


@contextmanager
def no_more_parts_than(tensors: int) -> Iterator[None]:
    """Refuse to build more parameters or modules than a file of so many tensors can be of.

    Raises:
        ValueError: the next one would be too many.
    """
    from torch.nn.modules import module

    counts = {"parameters": tensors * PARAMETERS_PER_TENSOR, "modules": tensors * MODULES_PER_TENSOR}

    def count(kind: str) -> None:
        counts[kind] -= 1
        if counts[kind] < 0:
            raise ValueError(f"it has more {kind} than its file has tensors for")

    hooks = (
        module.register_module_parameter_registration_hook(lambda *_: count("parameters")),
        module.register_module_module_registration_hook(lambda *_: count("modules")),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@cache
def entry_points_of(group: str) -> EntryPoints:
    """The installed entry points: to look for them reads a file of every installed package."""
    return entry_points(group=group)


def load(point: EntryPoint) -> Any:
    """What an entry point names.

    Raises:
        FATrackError: it cannot be loaded.
    """
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise FATrackError(f"the entry point {point.name} = {point.value} cannot be loaded: {error}") from error


def first_line(error: Exception) -> str:
    """What went wrong, as one line of bounded length."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"[:LONGEST_REASON]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return untrusted.one_line(" ".join(lines[:2]))[:LONGEST_REASON] if lines else type(error).__name__
