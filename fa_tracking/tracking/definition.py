"""Which definition of its name a network is: one that changes under its old name has another number, and is another.

A network, or the factory that builds it, says so by an attribute ``definition``; without one it is the first.
"""

from importlib.metadata import version as installed
from typing import Any

from fa_tracking.errors import OtherDefinitionError
from fa_tracking.untrusted import one_line

FIRST = 1
LARGEST = 2**31 - 1


def says(network: Any) -> bool:
    """Return whether a network, or a factory, gives its definition."""
    return isinstance(getattr(network, "definition", None), int)


def of(network: Any) -> int:
    """Which one it is."""
    return int(network.definition) if says(network) else FIRST


def must_be(network: Any, saved: int, name: str, where: str, version: str) -> None:
    """Refuse weights of another definition.

    Args:
        network: what ``name`` stands for here.
        saved: the definition whose weights were saved.
        version: of the FA-Track that saved them.

    Raises:
        OtherDefinitionError: ``network`` is of another definition.
    """
    if of(network) != saved:
        wrote = ".".join(version.split(".")[:2])
        here = ".".join(installed("fa-track").split(".")[:2])
        reader = f"an earlier state of FA-Track {here}" if wrote == here else f"FA-Track {one_line(wrote):.20}"
        raise OtherDefinitionError(
            f"{where} holds definition {saved} of {one_line(name)}, which {reader} reads; "
            f"here it is definition {of(network)}"
        )
