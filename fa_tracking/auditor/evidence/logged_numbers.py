"""Reads what a run logged, and makes of each epoch the report that these numbers allow."""

import math
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from fa_tracking import cells
from fa_tracking.auditor.control import Control, is_frozen
from fa_tracking.errors import FATrackError, InvalidError
from fa_tracking.protocol.ranges import DEEPEST_LAYER, whole
from fa_tracking.protocol.report import DiagnosticReport
from fa_tracking.protocol.table import Reference
from fa_tracking.protocol.thresholds import DiagnosticThresholds
from fa_tracking.tracking import names
from fa_tracking.tracking.store import LARGEST, history

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_LAYER = re.compile("0|[1-9][0-9]*")

SCALARS = {
    names.MAX_BLOCK_GROWTH: "max_block_growth",
    names.DEEPEST_GRAD_NORM: "deepest_grad_norm",
    names.GRAD_GAIN: "grad_gain",
    names.STABILITY: "cross_batch_stability",
    names.STREAM_GROWTH: "stream_growth",
    names.CHANCE_ERROR: "chance_error",
}
"""Under which name a report knows a metric."""

OF_GRADIENTS = {names.DEEPEST_GRAD_NORM, names.GRAD_GAIN, names.STABILITY}
"""Those of them that are made of the reference gradient."""


@dataclass(frozen=True)
class Log:
    """The numbers of a run that a report can use.

    Attributes:
        values: by epoch and metric; the last one where an epoch was logged twice. Infinities are infinite again.
        depth: L; None where it is not known.
        given: what was given by hand when the run was imported, by the names of ``names.TAG_GIVEN``.
    """

    run: "Run"
    values: dict[int, dict[str, float]]
    depth: int | None
    given: dict[str, float]

    @property
    def epochs(self) -> list[int]:
        """Those at which a number of the network was logged; its accuracy alone is none."""
        return sorted(epoch for epoch, found in self.values.items() if found.keys() - {names.ACCURACY_TEST})

    def accuracy(self, epoch: int) -> float | None:
        """The last test accuracy that was logged at or before ``epoch``: some test less often than they measure."""
        of = self._accuracy_epoch(epoch)
        return None if of is None else self.values[of][names.ACCURACY_TEST]

    def _accuracy_epoch(self, epoch: int) -> int | None:
        before = bisect_right(self._tested, epoch)
        return self._tested[before - 1] if before else None

    @cached_property
    def _tested(self) -> list[int]:
        return sorted(epoch for epoch, found in self.values.items() if names.ACCURACY_TEST in found)

    def report(
        self, epoch: int, control: Control, thresholds: DiagnosticThresholds, notes: str = ""
    ) -> DiagnosticReport:
        """What is known of the network at ``epoch``.

        Args:
            control: of the run; where it has no accuracy, one that was given by hand takes its place.
            notes: the report has them before that of an accuracy of an earlier epoch, and those of the import.

        Raises:
            FATrackError: a number is impossible, such as a negative norm, or the epoch is.
        """
        found = self.values[epoch]
        hidden, grads = _by_layer(found, names.residual_norm), _by_layer(found, names.grad_norm)
        scalars = {field: found.get(key) for key, field in SCALARS.items()}
        reference = None
        if names.TAG_REFERENCE in self.run.data.tags:  # what it logged of such a gradient measures no diagnostic
            reference, grads = Reference.NOT_BP, {}
            scalars |= dict.fromkeys((SCALARS[key] for key in OF_GRADIENTS), None)
        used = {}
        if 0 not in hidden and "h0_norm" in self.given:
            hidden[0] = used["h0_norm"] = self.given["h0_norm"]
        if control.accuracy is None and "control_accuracy" in self.given and not is_frozen(self.run):
            used["control_accuracy"] = self.given["control_accuracy"]
            control = Control(used["control_accuracy"], (), f"given by hand, no run is behind it; {control.note}")
        if grads and "grad_batch" in self.given:
            used["grad_batch"] = self.given["grad_batch"]
        tested = self._accuracy_epoch(epoch)
        earlier = "" if tested in (None, epoch) else f"accuracy of step {tested}, the last before {epoch}"
        extra = {k for k in found if k.startswith(names.DIAGNOSTICS)} - SCALARS.keys() - {names.ALIGNMENT_MISSING}
        try:
            whole(epoch, "the epoch")
            return DiagnosticReport.from_layers(
                hidden,
                grads,
                self.depth,
                method_name=self.run.data.params.get("method", ""),
                notes=", ".join(filter(None, [notes, earlier, self.run.data.tags.get(names.TAG_IMPORT_NOTES)])),
                headline_acc=self.accuracy(epoch),
                frozen_baseline_acc=control.accuracy,
                thresholds=thresholds,
                control_runs=control.runs,
                control_note=control.note,
                extra={key.removeprefix(names.DIAGNOSTICS): found[key] for key in sorted(extra)},
                given=used,
                reference=reference,
                **scalars,
            )
        except InvalidError as error:
            raise FATrackError(f"logged at epoch {epoch}: {error}") from error

    def course(self) -> list[dict[int, float]]:
        """By epoch what ``course_keys`` names, where it was logged."""
        keys = course_keys({key for found in self.values.values() for key in found})
        return [{e: found[key] for e, found in sorted(self.values.items()) if key in found} for key in keys]


@dataclass(frozen=True)
class Logged:
    """The numbers that a run logged, as evidence of its network at ``epoch``.

    Attributes:
        no_network: why there is no better evidence.
    """

    log: Log
    epoch: int
    no_network: str


def read(client: "MlflowClient", run: "Run", keys: Collection[str] | None = None) -> Log:
    """What ``run`` logged, one call to the store a metric.

    Args:
        keys: only these metrics; all that a report can be made of where None.

    Raises:
        FATrackError: the store failed, or the tag of what was given by hand is broken.
    """
    values: dict[int, dict[str, float]] = defaultdict(dict)
    for key in run.data.metrics:
        if not (is_read(key) if keys is None else key in keys):
            continue
        for metric in history(client, run, key):
            is_infinite = abs(metric.value) >= LARGEST
            values[metric.step][key] = math.copysign(math.inf, metric.value) if is_infinite else metric.value
    return Log(run, dict(values), depth(run, values), _given(run))


def course_keys(logged: Collection[str]) -> tuple[str, str, str]:
    """What a run's course is drawn of: ‖h_l‖ and ‖g_l‖ of the deepest layer among the metrics, and the accuracy."""
    known = dict.fromkeys(logged, 0.0)
    hidden, grads = (max(_by_layer(known, name), default=0) for name in (names.residual_norm, names.grad_norm))
    deepest = names.DEEPEST_GRAD_NORM if names.DEEPEST_GRAD_NORM in known else names.grad_norm(grads)
    return names.residual_norm(hidden), deepest, names.ACCURACY_TEST


def layers_of(keys: Collection[str]) -> list[int]:
    """The hidden states of which a norm is among the metrics ``keys``."""
    return list(_by_layer(dict.fromkeys(keys, 0.0), names.residual_norm))


def is_read(key: str) -> bool:
    is_scalar = key == names.ACCURACY_TEST or (key.startswith(names.DIAGNOSTICS) and key != names.ALIGNMENT_MISSING)
    return is_scalar or any(_by_layer({key: 0.0}, name) for name in (names.residual_norm, names.grad_norm))


def _by_layer(found: Mapping[str, float], name: Callable[[int], str]) -> dict[int, float]:
    prefix = name(0)[:-1]
    layers = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    return {_layer(layer): value for layer, value in layers.items() if _LAYER.fullmatch(layer)}


def _layer(number: str) -> int:
    if len(number) > 9 or int(number) > DEEPEST_LAYER:
        raise FATrackError(f"the run names the layer {number:.20}, and {DEEPEST_LAYER} is the deepest that is read")
    return int(number)


def depth(run: "Run", values: Mapping[int, Mapping[str, float]]) -> int | None:
    """The deepest layer with a gradient where that is the deepest gradient of the network; else what the run says."""
    for found in values.values():
        grads = _by_layer(found, names.grad_norm)
        if grads and grads[max(grads)] == found.get(names.DEEPEST_GRAD_NORM):
            return max(grads)
    depth = cells.plain(run.data.params.get("depth", ""))
    return _layer(depth) if _LAYER.fullmatch(depth) else None


def _given(run: "Run") -> dict[str, float]:
    """The numbers that were given by hand; the names of params given so are of no use here."""
    try:
        given = TypeAdapter(dict[str, float | list[str]]).validate_json(run.data.tags.get(names.TAG_GIVEN, "{}"))
    except ValidationError as error:
        raise FATrackError(f"the tag {names.TAG_GIVEN} is not what an import writes: import the run again") from error
    return {name: value for name, value in given.items() if isinstance(value, float)}
