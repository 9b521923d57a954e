"""Reads what a report's ``to_dict`` has written: the numbers; what follows from them is derived anew."""

from collections.abc import Collection, Mapping
from dataclasses import field, fields
from typing import Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from fa_tracking.errors import InvalidError
from fa_tracking.protocol import PROTOCOL, VERSION
from fa_tracking.protocol.diagnostics import catalogue
from fa_tracking.protocol.table import Kind


@dataclass(frozen=True)
class Derived:
    """What stands beside the numbers of a report in JSON."""

    protocol: str = PROTOCOL
    kinds: dict[str, Kind] = field(default_factory=dict)
    max_per_block_growth: float | None = None
    margin_pp: float | None = None
    flags: tuple[str, ...] = ()
    verdict: str = ""
    knockout: dict[str, Any] = field(default_factory=dict)


def numbers(data: Any, own: Collection[str]) -> dict[str, Any]:
    """What of a report in JSON is not derived, not yet checked.

    Args:
        own: the names that a report of this version has.

    Raises:
        InvalidError: it is no mapping, or a newer version or another diagnostic has judged it.
        ValidationError: of pydantic: what is derived has a wrong type.
    """
    if not isinstance(data, Mapping):
        raise InvalidError(f"a report is a mapping by name, not {data!r:.60}")
    derived = {each.name for each in fields(Derived)}
    found = {name: value for name, value in data.items() if name not in derived}
    if newer := [name for name in found if name not in own]:
        raise InvalidError(f"it holds {', '.join(map(repr, newer))}, which a newer version of fa-track writes")
    said = TypeAdapter(Derived).validate_python({name: data[name] for name in data if name in derived})
    if said.protocol != PROTOCOL:
        raise InvalidError(f"it is of protocol {said.protocol}, which a newer version reads: here is {PROTOCOL}")
    if unknown := sorted({*said.flags, *said.kinds} - {d.FLAG for d in catalogue()}):
        raise InvalidError(
            f"no diagnostic of flag {', '.join(map(repr, unknown))} is installed here: its verdict is lost"
        )
    if (revision := data.get("protocol_version")) is not None and _numbered(revision) > _numbered(VERSION):
        raise InvalidError(
            f"protocol_version: it is of measurement revision {revision}, which a newer version reads: "
            f"here is {VERSION}"
        )
    return found


def _numbered(revision: Any) -> tuple[int, ...]:
    """A measurement revision such as 1.1, to be compared."""
    try:
        return tuple(int(part) for part in revision.split("."))
    except (AttributeError, ValueError):
        raise InvalidError(f"protocol_version: {revision!r:.60} is no measurement revision such as {VERSION}") from None
