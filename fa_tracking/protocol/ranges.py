"""What a number can be: a cosine, an accuracy, a norm, a count. Whatever takes numbers from outside asks here.

NaN and infinities are real results of networks that explode, and are carried as they are; a count has neither.
"""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from fa_tracking.errors import InvalidError, what_is_wrong

DEEPEST_LAYER = 9999
"""The last layer that is read: a report holds every layer up to the deepest that is named."""
ROUNDING_OF_COSINES = 2**-7
"""The step of bfloat16 at 1: how far above 1 a cosine that was computed in it can be."""
ROUNDING_OF_SHARES = 1e-6
"""How far a running mean in float32 can leave [0, 1]."""

T = TypeVar("T")


def _within(low: float, high: float, rounding: float, says: str) -> Callable[[float], float]:
    def check(value: float) -> float:
        if math.isfinite(value) and not low - rounding <= value <= high + rounding:
            raise ValueError(says)
        return value

    return check


cosine = _within(-1, 1, ROUNDING_OF_COSINES, "a cosine is in [-1, 1]")
share = _within(0, 1, ROUNDING_OF_SHARES, "an accuracy is a share in [0, 1], not a percentage")
norm = _within(0, math.inf, 0, "a norm is not negative")

Cosine = Annotated[float, AfterValidator(cosine)]
Accuracy = Annotated[float, AfterValidator(share)]
Norm = Annotated[float, AfterValidator(norm)]
Count = Annotated[int, Field(ge=0)]


def refuse(check: Callable[[float], float], name: str, value: float | None) -> None:
    """Refuse a number before it is part of anything that is checked as a whole; None is not known, and stands.

    Raises:
        InvalidError: it is none that ``name`` can have.
    """
    try:
        if value is not None:
            check(value)
    except ValueError as error:
        raise InvalidError(f"{name}: {error}, got {value:.6g}") from None


def whole(number: Any, name: str, most: float = math.inf) -> int:
    """An epoch, a step or a layer as Python's own int, whatever kind of integer it is: of NumPy, of torch.

    Raises:
        InvalidError: it is no integer, is negative, or is larger than ``most``.
    """
    try:
        found = operator.index(number)
    except (TypeError, RuntimeError):
        raise InvalidError(f"{name} is a whole number, not {number!r:.80}") from None
    if found < 0:
        raise InvalidError(f"{name} is not negative, got {found:d}")
    if found > most:
        raise InvalidError(f"{name} is {most:g} at the most, got {found!s:.40}")
    return found


def same_length(layers: Mapping[str, int]) -> None:
    """Refuse lists by layer that are of different numbers of layers; an empty one is of what was not measured.

    Raises:
        ValueError: they are.
    """
    if len({n for n in layers.values() if n}) > 1:
        raise ValueError(f"unequal numbers of layers: {', '.join(f'{n} {name}' for name, n in layers.items() if n)}")


def refusing(cls: type[T]) -> type[T]:
    """Have a pydantic dataclass say what is wrong with its numbers in one line, an ``InvalidError``."""
    made = cls.__init__
    names = [each.name for each in fields(cls)]  # type: ignore[arg-type]

    @wraps(made)
    def making(self: Any, *args: Any, **values: Any) -> None:
        if len(args) > len(names):
            raise InvalidError(f"{cls.__name__} takes {len(names)} values, not {len(args)}")
        try:
            made(self, **dict(zip(names, args, strict=False)), **values)
        except ValidationError as error:
            raise InvalidError(what_is_wrong(error), error) from None

    cls.__init__ = making  # type: ignore[method-assign]
    return cls
