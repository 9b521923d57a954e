"""A table of diagnostics that were logged elsewhere, an epoch a row, as what a run of ours would have logged."""

from typing import TYPE_CHECKING, Any

from fa_tracking.auditor.evidence import logged_numbers
from fa_tracking.errors import UsageError
from fa_tracking.protocol.ranges import whole
from fa_tracking.tracking import names
from fa_tracking.tracking.possible import refuse_impossible

if TYPE_CHECKING:
    from mlflow.entities import Run

EPOCH = "epoch"


def read(frame: Any, run: "Run", depth: int | None, given: dict[str, float]) -> logged_numbers.Log:
    """The log of a pandas frame: a column ``epoch``, and columns of the standard names of metrics; others are left out.

    Args:
        depth: L; where None, what the run and its gradients say.
        given: as in ``Log``.

    Raises:
        UsageError: it is no such frame.
    """
    columns = [str(c) for c in getattr(frame, "columns", [])]
    known = [c for c in columns if logged_numbers.is_read(c)]
    if EPOCH not in columns or not set(known) - {names.ACCURACY_TEST}:
        wanted = (
            f"{EPOCH}, {names.residual_norm(0)} …, {names.grad_norm(0)} …, {names.STABILITY}, {names.ACCURACY_TEST}"
        )
        raise UsageError(
            f"without a model, data is a frame with columns {wanted}; it has: {', '.join(columns) or 'none'}"
        )
    try:
        epochs = [_epoch(e) for e in frame[EPOCH]]
        columns_of = {c: [float(v) for v in frame[c]] for c in known}
        for row in range(len(epochs)):
            refuse_impossible({c: columns_of[c][row] for c in known})
    except (TypeError, ValueError) as error:
        raise UsageError(f"the frame of diagnostics: {error}") from error
    if not epochs or len(set(epochs)) < len(epochs):
        raise UsageError(
            f"the frame of diagnostics has {len(epochs)} rows and {len(set(epochs))} epochs: one row an epoch"
        )
    values = {e: {c: columns_of[c][i] for c in known} for i, e in enumerate(epochs)}
    return logged_numbers.Log(run, values, logged_numbers.depth(run, values) if depth is None else depth, given)


def _epoch(value: Any) -> int:
    """An epoch of a frame, whose column may be of floats."""
    return whole(int(value) if float(value).is_integer() else value, "an epoch")
