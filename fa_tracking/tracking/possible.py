"""What a metric of each of our names can be, whoever logs it: our own run, another loop, an imported log, a frame."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from fa_tracking.errors import InvalidError
from fa_tracking.protocol import ranges
from fa_tracking.tracking import names

Check = Callable[[float], float]

_SCALARS: dict[str, Check] = {
    names.ACCURACY_TEST: ranges.share,
    names.ACCURACY_TRAIN: ranges.share,
    names.MAX_BLOCK_GROWTH: ranges.norm,
    names.STREAM_GROWTH: ranges.norm,
    names.DEEPEST_GRAD_NORM: ranges.norm,
    names.GRAD_GAIN: ranges.norm,
    names.CHANCE_ERROR: ranges.norm,
    names.STABILITY: ranges.cosine,
}
_BY_LAYER: dict[str, Check] = {
    name(0)[:-1]: check
    for check, named in {
        ranges.norm: (names.residual_norm, names.grad_norm, names.alignment_null_sd),
        ranges.cosine: (names.alignment, names.alignment_pooled, names.alignment_null),
    }.items()
    for name in named
} | {names.perturbation(0, of)[:-1]: ranges.cosine for of in ("", "_float32", "_bp", "_random")}
_LAYERED = re.compile(r"(.+/[a-z])(-?\d+)")


def refuse_impossible(values: Mapping[str, Any]) -> None:
    """Refuse metrics that no training has; None is not measured, and what is not of our names is free.

    Raises:
        InvalidError: a value is none that its name can have, or a layer is negative; the message names the metric.
    """
    for name, value in values.items():
        layered = _LAYERED.fullmatch(name)
        check = _SCALARS.get(name) or _BY_LAYER.get(layered[1] if layered else "")
        if check is None or value is None:
            continue
        if layered and layered[2].startswith("-"):
            raise InvalidError(f"{name} is of a negative layer: h_0 is the first")
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise InvalidError(f"{name} is a number, not {value!r:.60}") from None
        ranges.refuse(check, name, number)
