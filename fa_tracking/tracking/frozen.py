"""How many of its blocks a run trains, in whichever of two params it says so: what is frozen is told here alone.

Runs log ``trainable_blocks``, the last k of L. Those of version 0.1 and many a loop log ``frozen_blocks``. The database
reads params by the same rules, in ``views.sql``.
"""

import re
from collections.abc import Mapping
from typing import Any

from fa_tracking.tracking import names

ALL = "all"
"""How many blocks a run trains that says nothing of it, in words."""

TRUTH = {"true": True, "1": True, "false": False, "0": False}
"""``frozen_blocks`` as loops write it, in any case."""

SEARCHES = (
    f"params.{names.TRAINABLE_BLOCKS} = '0'",
    f"params.{names.FROZEN_BLOCKS} ILIKE 'true'",
    f"params.{names.FROZEN_BLOCKS} = '1'",
)
"""What MLflow is asked for; together they find every run that ``is_frozen``, and some that are not."""


def trained_blocks(params: Mapping[str, Any]) -> int | None:
    """k, of a run that trains the last k of its blocks; None where it trains all and does not say how many these are.

    Where the two params contradict each other, ``trainable_blocks`` counts.

    Args:
        params: of a run, as they were given or as MLflow keeps them.
    """
    k = _told(params)
    return _number(params.get("depth")) if k is None else k


def is_frozen(params: Mapping[str, Any]) -> bool:
    """Whether a run is a frozen control."""
    return _told(params) == 0


def contradiction(params: Mapping[str, Any]) -> str:
    """What the params of one run cannot be together, in words; empty where nothing is wrong."""
    logged, frozen = _number(params.get(names.TRAINABLE_BLOCKS)), _frozen(params)
    if logged is None:
        return ""
    said = f"{names.TRAINABLE_BLOCKS}={logged}"
    if frozen is not None and frozen != (logged == 0):
        return f"{names.FROZEN_BLOCKS}={params[names.FROZEN_BLOCKS]} contradicts {said}"
    depth = _number(params.get("depth"))
    return f"depth={depth} contradicts {said}" if depth is not None and logged > depth else ""


def words(params: Mapping[str, Any]) -> str:
    """Which of a run's blocks are not trained, for a person; empty where all are."""
    if is_frozen(params):
        return "frozen blocks"
    if _trains_all(params):
        return ""
    return "last block trained" if (k := _told(params)) == 1 else f"last {k} blocks trained"


def in_one_wording(params: Mapping[str, str]) -> dict[str, str]:
    """A run's params as cells are told apart by them: ``trainable_blocks`` where not all are trained, else neither.

    A value of either param that cannot be read stays as it is, unless the other one says how many.
    """
    said = {key: value for key, value in params.items() if not _is_read(key, value)}
    return said if _trains_all(params) else said | {names.TRAINABLE_BLOCKS: str(_told(params))}


def _is_read(key: str, value: Any) -> bool:
    if key == names.TRAINABLE_BLOCKS:
        return _number(value) is not None
    return key == names.FROZEN_BLOCKS and str(value).lower() in TRUTH


def _told(params: Mapping[str, Any]) -> int | None:
    """k where a run says it, in either way."""
    logged = _number(params.get(names.TRAINABLE_BLOCKS))
    return 0 if logged is None and _frozen(params) else logged


def _trains_all(params: Mapping[str, Any]) -> bool:
    return _told(params) in (None, _number(params.get("depth")))


def _frozen(params: Mapping[str, Any]) -> bool | None:
    return TRUTH.get(str(params.get(names.FROZEN_BLOCKS)).lower())


def _number(value: Any) -> int | None:
    """A whole number from 0, as ``str`` writes it."""
    text = str(value)
    return int(text) if re.fullmatch(r"0|[1-9][0-9]{0,8}", text) else None
