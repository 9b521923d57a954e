"""What tells runs apart: all their params but the seed. A param that a run does not log means what it did in 0.1.

How many blocks are trained is said in two params, and ``frozen.py`` knows how. The database tells runs apart alike, by
``cell_params()`` of ``views.sql``.
"""

from collections.abc import Mapping
from typing import Any

from fa_tracking.tracking import frozen, names

SEED = "seed"

DEFINITIONS = ("definition", "rule_definition")
"""Of the network and of the rule: they follow from the names, so where a run is named they need no saying."""

ABSENT = {
    "definition": "1",
    "rule_definition": "1",
    "expansion": "0",
    "alpha": "1.0",
    "labels": "true",
    "lr_schedule": "constant",
    "lr_warmup": "0",
    "momentum": "0.0",
    "clip_norm": "inf",
    "credit_normalisation": "none",
    "credit_index": "output",
}
"""What a run means that does not log one of these: version 0.1 logged none. A run that logs just this is no other than
one without it; the param stands in no cell's name, and sets no control apart. The results database is given this table
as the macro ``absent_meaning``."""


def meaning(params: Mapping[str, str], key: str) -> str | None:
    """What a run says by a param, logged or not; None: it does not log it, and nothing is known of it then.

    Args:
        params: as MLflow holds them, or ``apart``.
    """
    if key == names.TRAINABLE_BLOCKS:
        return frozen.in_one_wording(params).get(key, frozen.ALL)
    value, absent = params.get(key), ABSENT.get(key)
    return absent if absent is not None and (value is None or _are_one(value, absent)) else value


def apart(params: Mapping[str, str]) -> dict[str, str]:
    """The params that name a run's cell: without the seed, and without what their absence would say as well.

    ``trainable_blocks`` is there where not all blocks are trained, whichever param a run says it by.
    """
    return {
        key: value
        for key, value in frozen.in_one_wording(params).items()
        if key != SEED and not (key in ABSENT and _are_one(value, ABSENT[key]))
    }


def differing(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """The params by which two runs mean different things, without the seed, in order."""
    keys = sorted(apart(first).keys() | apart(second).keys())
    return [key for key in keys if meaning(first, key) != meaning(second, key)]


def in_words(params: Mapping[str, Any]) -> list[str]:
    """What of ``ABSENT`` is otherwise in a run, in a few words each: "cosine", "clip 1", "rms credit at the input".

    Before these, which blocks are not trained.
    """
    found = {key: value for key, value in apart({k: str(v) for k, v in params.items()}).items() if key in ABSENT}
    credit = [found.pop("credit_normalisation", ""), "credit"]
    credit += [f"at the {found.pop('credit_index')}"] if "credit_index" in found else []
    said = [frozen.words(params), *(_WORDS[key].format(_short(found[key])) for key in ABSENT if key in found)]
    return [*filter(None, said), *([" ".join(filter(None, credit))] if credit != ["", "credit"] else [])]


_WORDS = {
    "definition": "definition {}",
    "rule_definition": "rule's definition {}",
    "expansion": "expansion {}",
    "alpha": "α={}",
    "labels": "{} labels",
    "lr_schedule": "{}",
    "lr_warmup": "warm-up {}",
    "momentum": "momentum {}",
    "clip_norm": "clip {}",
}


def _short(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def _are_one(value: str, absent: str) -> bool:
    """Whether a value is the absent one, as a text or as a number: 1 and 1.0 are."""
    if value.lower() == absent:
        return True
    try:
        return float(value) == float(absent)
    except ValueError:
        return False
