"""Ways to get a wrong number out of feedback-alignment research, each with a reproducer: one file a pitfall.

A file's contract, as module attributes (none of them imports torch at the top):

    docstring  its title, and why it happens
    ORDER      its number in the listing
    CURE       what FA-Track does instead, in at most 28 characters

    reproduce() -> Outcome        computed on the spot, in under a second on the CPU

and, where a line of code can give it away, a rule for ``fa-track pitfalls check``:

    FIX                           what to write instead
    find(source) -> Iterator[(node, reason)]
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from fa_tracking import catalogue as folder

Value = float | str


@dataclass(frozen=True)
class Outcome:
    """What a reproducer computed.

    Attributes:
        expected: what a careful reader takes the number for, by name.
        seen: what the code with the pitfall gives.
        reproduced: whether the two differ as the pitfall says.
    """

    expected: Mapping[str, Value]
    seen: Mapping[str, Value]
    reproduced: bool


@cache
def catalogue() -> dict[str, ModuleType]:
    """Every pitfall of this folder by name, in the order of the listing."""
    here = sys.modules[__name__]
    modules = {name: folder.load(here, name) for name in folder.names(here)}
    return dict(sorted(modules.items(), key=lambda item: item[1].ORDER))


def title(pitfall: ModuleType) -> str:
    """The first line of its docstring."""
    return (pitfall.__doc__ or "").partition("\n")[0]


def why(pitfall: ModuleType) -> str:
    """The rest of its docstring, as one paragraph of plain text."""
    return " ".join((pitfall.__doc__ or "").partition("\n")[2].replace("``", "`").split())
