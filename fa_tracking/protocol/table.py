"""What the table of diagnostics is made of: how far a number is known, and where a diagnostic fires."""

from enum import StrEnum
from math import inf
from typing import Literal, NamedTuple


class Kind(StrEnum):
    """How far a diagnostic's number is known, the best first."""

    EXACT = "exact"
    BOUND = "bound"
    PROXY = "proxy"
    NOT_MEASURED = "not measured"


class Reference(StrEnum):
    """Whether the gradient that autograd returned is BP's: the derivative of the function that the network computes."""

    CHECKED = "checked"
    NOT_CHECKED = "not checked"
    NOT_BP = "not BP's"


class Evidence(StrEnum):
    """What a report rests on: a network that was measured, or what was logged of one."""

    FULL = "full"
    PARTIAL = "partial"


class Threshold(NamedTuple):
    """Where a diagnostic fires. The comparison is strict: a value equal to the threshold does not fire.

    Attributes:
        name: in a report and in the database.
        default: the protocol's own.
        fires: on which side of it.
        option: on the command line.
        says: what it is held against, as the option's help says it.
        least, most: what it may be.
    """

    name: str
    default: float
    fires: Literal["above", "below"]
    option: str
    says: str
    least: float = -inf
    most: float = inf
