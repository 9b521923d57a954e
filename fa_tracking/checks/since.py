"""What came after an audit: epochs that a run has logged since, and another frozen control."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from fa_tracking.auditor.control import Control, Controls
from fa_tracking.auditor.evidence import logged_numbers
from fa_tracking.errors import FATrackError
from fa_tracking.protocol.table import Evidence
from fa_tracking.tracking import names
from fa_tracking.tracking._mlflow_compat import last_points
from fa_tracking.tracking.audited import Stored, read
from fa_tracking.tracking.store import LARGEST, store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EVALUATED = {
    names.ACCURACY_TEST: "headline_accuracy",
    names.MAX_BLOCK_GROWTH: "max_block_growth",
    names.GRAD_GAIN: "grad_gain",
    names.STABILITY: "stability",
}
"""What of an evaluator's measurements MLflow logs as it was measured, by its name among them."""


def changed(client: "MlflowClient", run: "Run", controls: Controls) -> str:
    """What came after the audit of a run: its own epochs, or another frozen control; empty where nothing did.

    Args:
        controls: those that the store has now.
    """
    tags = run.data.tags
    try:
        audited = _milliseconds(tags[names.TAG_AUDITED_AT])
    except (KeyError, ValueError, OverflowError):
        return "it does not say when it was audited"
    stored = read(tags)
    if _has_logged_since(run, audited, stored):
        return "it has logged an epoch since"
    return _changed_control(client, run, controls.of(run), audited, stored)


def _changed_control(client: "MlflowClient", run: "Run", control: Control, audited: int, stored: Stored) -> str:
    known = list(filter(None, run.data.tags.get(names.TAG_CONTROL_RUNS, "").split(",")))
    if gone := [c for c in known if c not in control.runs and len(c) == 32]:
        return f"its frozen control {', '.join(gone)} is none any more"
    unseen = [c for c in control.runs if c not in known]
    with store_errors():
        late = [c for c in unseen if (client.get_run(c).info.end_time or 0) > audited]
    if late:
        return f"its frozen control {', '.join(late)} has ended since"
    now, then = control.accuracy, stored.measured.get("control_accuracy", control.accuracy)
    then = then if isinstance(then, int | float) else None
    is_by_hand = then is not None and not known
    if is_by_hand and (now is None or names.TAG_EVALUATED in run.data.tags):
        return ""
    if (now is None) == (then is None) and math.isclose(now or 0, then or 0, rel_tol=1e-12):
        return ""  # but for the order in which a mean was added up
    said = ["none" if a is None else f"{a:.4g}" for a in (then, now)]
    return f"the accuracy of its frozen control was {said[0]}, and is {said[1]}"


def _has_logged_since(run: "Run", audited: int, stored: Stored) -> bool:
    """Whether a run has logged something of which an audit now would make more."""
    tags, epoch = run.data.tags, stored.epoch
    points = [m for m in last_points(run) if _is_read_by_an_audit(m.key)]
    late = [m for m in points if m.timestamp > audited]
    beyond = [m for m in points if epoch is not None and m.step > epoch]
    if names.TAG_EVALUATED in tags:  # MLflow logs what its evaluator has measured after the verdict
        own = _logged_by_evaluator(stored)
        return any(m in beyond or (m.key in own and not _same(m.value, own[m.key])) for m in late)
    # a time before the run's own says nothing of when it was logged
    late += [m for m in beyond if m.timestamp < (run.info.start_time or 0) and _is_of_the_network(m.key)]
    if tags.get(names.TAG_EVIDENCE) != Evidence.FULL:  # of what the last epoch logged, whatever time that gives itself
        late += [m for m in beyond if _is_of_the_network(m.key)]
    return bool(late)


def _is_read_by_an_audit(key: str) -> bool:
    """Whether a later point of a metric means that there is more to judge."""
    return key == names.ACCURACY_TEST or key.startswith(names.OF_DIAGNOSTICS)


def _is_of_the_network(key: str) -> bool:
    """Whether a metric is more than an accuracy, so that a verdict of logs would be of its epoch."""
    try:
        return key != names.ACCURACY_TEST and logged_numbers.is_read(key)
    except FATrackError:
        return True  # a layer that no audit reads: there is none any more


def _milliseconds(audited_at: str) -> int:
    """When an audit was, as MLflow counts; the end of its second where it says whole ones, as of version 0.1."""
    found = datetime.fromisoformat(audited_at)
    return int(found.timestamp() * 1000) + (0 if "." in audited_at else 999)


def _logged_by_evaluator(stored: Stored) -> Mapping[str, float]:
    """What an evaluator measured, by the names under which MLflow logs it afterwards."""
    told = {key: stored.number(field) for key, field in EVALUATED.items()}
    return {key: value for key, value in told.items() if value is not None}


def _same(logged: float, measured: float) -> bool:
    if abs(logged) >= LARGEST:
        logged = math.copysign(math.inf, logged)
    return logged == measured or (math.isnan(logged) and math.isnan(measured))
