"""What tells runs apart. A cell is a set of runs that differ in their seed alone; Python reads this here alone.

Params are texts, written by many hands. ``plain`` brings a value into its one spelling, ``meaning`` says what a run
means by a param that it may leave out, ``apart`` what names its cell. How many blocks are trained is said in two
params: ``trainable_blocks``, the last k of L, or ``frozen_blocks``, as version 0.1 and many a loop log it. The results
database reads all of this alike, by ``results/macros/``: SQL cannot call Python, so tests hold both together.
"""

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

SEED = "seed"
TRAINABLE_BLOCKS = "trainable_blocks"
"""The standard param that says how many blocks are trained, the last ones; 0 is the frozen control."""
FROZEN_BLOCKS = "frozen_blocks"
"""What runs of version 0.1 log in its place, and any loop may: ``True`` is ``trainable_blocks=0``."""

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

ALL_BLOCKS = "all"
"""How many blocks a run trains that says nothing of it, in words."""

FROZEN_SEARCHES = (
    f"params.{TRAINABLE_BLOCKS} LIKE '%0%'",
    f"params.{FROZEN_BLOCKS} ILIKE '%true%'",
    f"params.{FROZEN_BLOCKS} ILIKE '%yes%'",
    f"params.{FROZEN_BLOCKS} ILIKE '%on%'",
    f"params.{FROZEN_BLOCKS} LIKE '%1%'",
)
"""What MLflow is asked for; together they find every run that ``is_frozen``, and some that are not."""

ASIDE = frozenset({
    "author", "cache_dir", "checkpoint_dir", "ckpt_dir", "comment", "data_dir", "data_folder", "data_path", "data_root",
    "dataset_dir", "dataset_path", "description", "host", "hostname", "job_id", "log_dir", "log_every", "log_interval",
    "logdir", "machine", "name", "node", "note", "notes", "num_workers", "out_dir", "output_dir", "output_path",
    "print_freq", "results_dir", "root", "run_name", "save_dir", "save_every", "slurm_job_id", "tags", "user",
    "username", "verbose", "workdir", "workers",
})  # fmt: skip
"""Params that do not define a training, whatever they say: they set no frozen control apart. Matched in lower case, and
by the last part of a name too, as ``data_dir`` of ``cfg.data-dir``."""
OF_ANYTHING = frozenset({
    "author", "comment", "description", "host", "machine", "name", "node", "note", "notes", "root", "tags", "user",
    "username", "verbose", "workers",
})  # fmt: skip
"""Those of them that say something else as the last part of a name: ``optimizer.name`` defines a training."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
INFINITY = re.compile(r"([+-]?)inf(inity)?", re.ASCII | re.IGNORECASE)
BLANKS = " \t\n\r\v\f"
"""What may stand around a value, as in a file with other line ends."""
DIGITS = 15
"""What a float64 holds of a whole number, at least: one of more digits is an id, and its own spelling."""
ID = re.compile(rf"[+-]?\d{{{DIGITS + 1},}}", re.ASCII)
TRUTH = {"true": "1", "yes": "1", "on": "1", "false": "0", "no": "0", "off": "0"}
WORDS = ("labels",)
"""Params whose ``true`` is the name of a choice and no truth."""
SAFE = re.compile(r"""[^\s="']+""", re.ASCII)


def plain(value: Any, key: str = "") -> str:
    """A param's value in its one spelling: 1e-3, 1.0E-3 and 0.001 are one, True, true and 1 are, and 4 and 4.0.

    A number with a point or an exponent is the float64 that a training makes of it, however many digits it is written
    with: 0.1 and 0.10000000000000001 are one, 1/3 and its neighbour are two.

    Args:
        key: of the param, as a few are words whatever they say.
    """
    text = str(value).strip(BLANKS)
    if key in WORDS:
        return text.lower()
    if truth := TRUTH.get(text.lower()):
        return truth
    if infinite := INFINITY.fullmatch(text):
        return "-inf" if infinite[1] == "-" else "inf"
    if not NUMBER.fullmatch(text) or ID.fullmatch(text):
        return text
    number = float(text)
    if not math.isfinite(number):
        return text
    return str(int(number)) if number.is_integer() and abs(number) < 10**DIGITS else repr(number)


def meaning(params: Mapping[str, Any], key: str) -> str | None:
    """What a run says by a param, logged or not, in its one spelling; None: nothing is known of it.

    Args:
        params: as MLflow holds them, or ``apart``.
    """
    if key == TRAINABLE_BLOCKS:
        return in_one_wording(params).get(key, ALL_BLOCKS)
    value = params.get(key, ABSENT.get(key))
    return None if value is None else plain(value, key)


def apart(params: Mapping[str, Any]) -> dict[str, str]:
    """The params that name a run's cell: without the seed, and without what their absence would say as well.

    ``trainable_blocks`` is there where not all blocks are trained, whichever param a run says it by.
    """
    said = {key: plain(value, key) for key, value in in_one_wording(params).items() if key != SEED}
    return {key: value for key, value in said.items() if key not in ABSENT or value != plain(ABSENT[key], key)}


def sample(params: Mapping[str, Any], run_id: str) -> str:
    """What the runs of one seed are one sample of; a run without a seed, or with an empty one, is its own."""
    return meaning(params, SEED) or run_id


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """The params by which two runs mean different things, without the seed, in order."""
    keys = sorted(apart(first).keys() | apart(second).keys())
    return [key for key in keys if meaning(first, key) != meaning(second, key)]


def is_aside(key: str) -> bool:
    """Whether a param does not define the training of its run."""
    whole = key.lower().replace("-", "_")
    return whole in ASIDE or re.split("[./]", whole)[-1] in ASIDE - OF_ANYTHING


def varied(many: Iterable[Mapping[str, str]], but: Collection[str] = ()) -> set[str]:
    """The params that set cells apart, of each what names it (``apart``); without those that every cell shows."""
    known = list(many)
    keys = {key for cell in known for key in cell} - {*but}
    return {key for key in keys if len({meaning(cell, key) for cell in known}) > 1}


def named(params: Mapping[str, Any]) -> str:
    """The name of a cell: its params, by name. A value or name with blanks, quotes or an equals sign is quoted."""
    return " ".join(f"{quoted(key)}={quoted(value)}" for key, value in sorted(apart(params).items()))


def quoted(text: str) -> str:
    """A part of a cell's name, which ends where it ends."""
    return text if SAFE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def in_words(params: Mapping[str, Any]) -> list[str]:
    """What of ``ABSENT`` is otherwise in a run, in a few words each: "cosine", "clip 1", "rms credit at the input".

    Before these, which blocks are not trained.
    """
    found = {key: value for key, value in apart(params).items() if key in ABSENT}
    credit = [found.pop("credit_normalisation", ""), "credit"]
    credit += [f"at the {found.pop('credit_index')}"] if "credit_index" in found else []
    said = [blocks_in_words(params), *(_WORDS[key].format(found[key]) for key in ABSENT if key in found)]
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


def trained_blocks(params: Mapping[str, Any]) -> int | None:
    """k, of a run that trains the last k of its blocks; None where it trains all and does not say how many these are.

    Where the two params contradict each other, ``trainable_blocks`` counts.

    Args:
        params: of a run, as they were given or as MLflow keeps them.
    """
    k = _told(params)
    return count(params.get("depth")) if k is None else k


def is_frozen(params: Mapping[str, Any]) -> bool:
    """Whether a run is a frozen control."""
    return _told(params) == 0


def contradiction(params: Mapping[str, Any]) -> str:
    """What the params of one run cannot be together, in words; empty where nothing is wrong."""
    logged, frozen = count(params.get(TRAINABLE_BLOCKS)), truth(params.get(FROZEN_BLOCKS))
    if logged is None:
        return ""
    said = f"{TRAINABLE_BLOCKS}={logged}"
    if frozen is not None and frozen != (logged == 0):
        return f"{FROZEN_BLOCKS}={params[FROZEN_BLOCKS]} contradicts {said}"
    depth = count(params.get("depth"))
    return f"depth={depth} contradicts {said}" if depth is not None and logged > depth else ""


def blocks_in_words(params: Mapping[str, Any]) -> str:
    """Which of a run's blocks are not trained, for a person; empty where all are."""
    if is_frozen(params):
        return "frozen blocks"
    if _trains_all(params):
        return ""
    return "last block trained" if (k := _told(params)) == 1 else f"last {k} blocks trained"


def truth(value: Any) -> bool | None:
    """A truth as a param says it; None where it says none."""
    return {"1": True, "0": False}.get(plain(value))


def count(value: Any) -> int | None:
    """A whole number from 0, of up to nine digits; None where a param says none."""
    text = plain(value)
    return int(text) if re.fullmatch("[0-9]{1,9}", text) and str(value).strip(BLANKS).lower() not in TRUTH else None


def in_one_wording(params: Mapping[str, Any]) -> dict[str, Any]:
    """A run's params as cells are told apart by them: ``trainable_blocks`` where not all are trained, else neither.

    A value of either param that cannot be read stays as it is, unless the other one says how many.
    """
    said = {key: value for key, value in params.items() if not _is_read(key, value)}
    return said if _trains_all(params) else said | {TRAINABLE_BLOCKS: str(_told(params))}


def _is_read(key: str, value: Any) -> bool:
    if key == TRAINABLE_BLOCKS:
        return count(value) is not None
    return key == FROZEN_BLOCKS and truth(value) is not None


def _told(params: Mapping[str, Any]) -> int | None:
    """k where a run says it, in either way."""
    logged = count(params.get(TRAINABLE_BLOCKS))
    return 0 if logged is None and truth(params.get(FROZEN_BLOCKS)) else logged


def _trains_all(params: Mapping[str, Any]) -> bool:
    return _told(params) in (None, count(params.get("depth")))
