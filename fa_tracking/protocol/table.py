"""What the table of diagnostics is made of: how far a number is known, and where a diagnostic fires."""

from enum import StrEnum
from math import inf
from typing import Literal, NamedTuple


class Kind(StrEnum):
    """Says how exactly a diagnostic's number is known, the best first."""

    EXACT = "exact"
    BOUND = "bound"
    PROXY = "proxy"
    NOT_MEASURED = "not measured"


class Reference(StrEnum):
    """Says whether autograd's gradient is BP's: the derivative of the network's function."""

    CHECKED = "checked"
    NOT_CHECKED = "not checked"
    NOT_BP = "not BP's"


class Evidence(StrEnum):
    """Says what a report rests on: a measured network, or logged numbers."""

    FULL = "full"
    PARTIAL = "partial"


class Threshold(NamedTuple):
    """Describes where a diagnostic fires. The comparison is strict: a value equal to the threshold does not fire.

    Attributes:
        name: in a report and in the database.
        default: the protocol's own.
        fires: on which side of the threshold.
        option: its option on the command line.
        says: the compared quantity, in the option's help.
        least, most: what it may be.
    """

    name: str
    default: float
    fires: Literal["above", "below"]
    option: str
    says: str
    least: float = -inf
    most: float = inf
