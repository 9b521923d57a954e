"""``start_run`` and ``resume_run``: an MLflow run for the length of a ``with`` block, from any loop."""

import contextlib
import difflib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from fa_tracking import cells
from fa_tracking.errors import FATrackError, StoreAwayError, UsageError
from fa_tracking.tracking import _mlflow_compat, address, names, process, store
from fa_tracking.tracking.run import TrackedRun
from fa_tracking.tracking.spool.deliver import deliver
from fa_tracking.tracking.spool.journal import Journal, spool
from fa_tracking.tracking.spool.writer import Silent, Writer

if TYPE_CHECKING:
    from mlflow import MlflowClient


@contextmanager
def start_run(
    experiment: str | None = None,
    tracking_uri: str | None = None,
    run_name: str | None = None,
    tags: Mapping[str, str] | None = None,
    run_id: str | None = None,
    active: bool = True,
    **params: Any,
) -> "Iterator[TrackedRun]":
    """Open an MLflow run for a ``with`` block; the run is FAILED if the block raises.

    If `torchrun` or `torch.distributed` trains in several processes, rank 0 writes the run. In the others the same
    calls measure and return the same, but write nothing; their ``run_id`` is empty unless one was given.

    Args:
        experiment: created if it is missing; None: MLflow's active experiment.
        tracking_uri: None: MLFLOW_TRACKING_URI.
        run_id: log into this run, such as the active one, instead of a new one. Its opener ends it, unless the block
            raises.
        active: make the new run MLflow's active one. With False, many runs can be open in one process.
        params: the standard params (``method``, ``architecture``, ``width``, ``seed``, …) and any others. A name close
            to a standard one gives a warning, because it is logged as a separate param.

    Raises:
        UsageError: ``method`` or ``seed`` is missing; ``frozen_blocks`` contradicts ``trainable_blocks``; another run
            is active; the run ``run_id`` is in another experiment, or has a param with another value.
        FATrackError: the store failed, now or in the background since the last call.
    """
    missing = [name for name in ("method", "seed") if params.get(name) is None]
    if missing:
        raise UsageError(f"start_run needs {' and '.join(missing)}: without them runs cannot be grouped into cells")
    if wrong := cells.contradiction(params):
        raise UsageError(f"start_run: {wrong}")
    if said := near_misses(params):
        warnings.warn(f"start_run: {said}", stacklevel=3)
    if not process.is_first():
        yield TrackedRun(None, run_id or "", str(params["method"]), Silent())
        return
    client = store.client(tracking_uri)
    is_own = run_id is None
    if run_id is None:
        run_id = _new_run(client, tracking_uri, experiment, run_name or _run_name(params), tags, active)
    else:
        _join(client, run_id, experiment, run_name, tags, params)
    with _written(client, run_id, is_own) as writer:
        _log_params(client, run_id, params)
        yield TrackedRun(client, run_id, str(params["method"]), writer)


@contextmanager
def resume_run(run_id: str, tracking_uri: str | None = None) -> "Iterator[TrackedRun]":
    """Go on with a run whose process was killed, for a ``with`` block; it ends like a run from ``start_run``.

    First the logs that its process left on this machine are delivered to the store. A logged epoch is not logged again:
    ``log_epoch`` measures it and writes nothing. ``run.last_state`` reads the training state to go on from.

    Raises:
        UsageError: there is no such run, it has no method, or another process is writing it; another run is active.
        FATrackError: the store failed.
    """
    import mlflow

    client = store.reader(tracking_uri)
    _refuse_active()
    with store.store_errors():
        run = client.get_run(run_id)
    if "method" not in run.data.params:
        raise UsageError(f"run {run_id} has no param `method`: it was not begun by start_run")
    if not process.is_first():
        yield TrackedRun(client, run_id, run.data.params["method"], Silent(), ())
        return
    with _written(client, run_id, is_own=True) as writer:
        writer.flush()
        with store.store_errors():
            mlflow.set_tracking_uri(client.tracking_uri)
            mlflow.set_experiment(experiment_id=run.info.experiment_id)  # MLflow resumes no run of another one
            mlflow.start_run(run_id=run_id)
            client.set_tag(run_id, names.TAG_PROCESS, process.this())
            measured = client.get_metric_history(run_id, names.DIAGNOSTICS_SECONDS)
        yield TrackedRun(client, run_id, run.data.params["method"], writer, {metric.step for metric in measured})


@contextmanager
def _written(client: "MlflowClient", run_id: str, is_own: bool) -> Iterator[Writer]:
    """A writer for the length of a run, whose end it writes too where the run ``is_own``."""
    try:
        writer = _writer(client, run_id)
    except BaseException:
        _fail_active(run_id)
        raise
    patience = None
    try:
        yield writer
        try:
            writer.flush()
        except StoreAwayError:
            patience = 0.0
        if is_own:
            writer.end("FINISHED")
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"  # from outside: it can go on
        try:
            writer.end(status)
        except FATrackError:  # there is no room in the spool
            writer.abandon()
            with contextlib.suppress(FATrackError), store.store_errors():
                client.set_terminated(run_id, status)
        else:
            writer.abandon()
        _mlflow_compat.leave_run(run_id)
        raise
    try:
        writer.close(patience)
    finally:
        if is_own:
            _mlflow_compat.leave_run(run_id)


def _writer(client: "MlflowClient", run_id: str) -> Writer:
    try:
        journal = Journal(spool() / run_id, {"run_id": run_id, "tracking_uri": address.absolute(client.tracking_uri)})
    except BlockingIOError:
        raise UsageError(f"run {run_id} is being written by another process on this machine") from None
    return Writer(journal, partial(deliver, client, run_id, journal.folder))


def _new_run(
    client: "MlflowClient",
    tracking_uri: str | None,
    experiment: str | None,
    run_name: str,
    given: Mapping[str, str] | None,
    active: bool,
) -> str:
    import mlflow

    if active:
        _refuse_active()
        if tracking_uri:
            mlflow.set_tracking_uri(tracking_uri)
    elif not experiment:
        raise UsageError("a run that is not MLflow's active one needs the name of its experiment")
    tags = {names.TAG_PROCESS: process.this(), **(given or {})}
    with store.store_errors():
        home = store.experiment_id(client, experiment) if experiment else None
        if active:
            return str(mlflow.start_run(experiment_id=home, run_name=run_name, tags=tags).info.run_id)
        return str(client.create_run(str(home), tags=_mlflow_compat.context_tags(tags), run_name=run_name).info.run_id)


def _refuse_active() -> None:
    import mlflow

    if (active := mlflow.active_run()) is not None:
        raise UsageError(
            f"another MLflow run is active in this process: log into it with run_id={active.info.run_id!r}, "
            "or end it first with mlflow.end_run()"
        )


def _join(
    client: "MlflowClient",
    run_id: str,
    experiment: str | None,
    run_name: str | None,
    tags: Mapping[str, str] | None,
    params: Mapping[str, Any],
) -> None:
    import mlflow

    with store.store_errors():
        mlflow.flush_async_logging()  # params that are still on their way count too
        run = client.get_run(run_id)
        name = client.get_experiment(run.info.experiment_id).name
    if experiment not in (None, name):
        raise UsageError(
            f"run {run_id} stands in the experiment {name!r}, not in {experiment!r}: leave `experiment` out"
        )
    known = run.data.params
    clashes = [f"{k}={known[k]}, not {v}" for k, v in params.items() if known.get(k, str(v)) != str(v)]
    if clashes:
        raise UsageError(f"run {run_id} already has {'; '.join(clashes)}: a param of a run cannot change")
    if wrong := cells.contradiction({**known, **params}):
        raise UsageError(f"run {run_id}: {wrong}")
    with store.store_errors():
        if run_name:
            client.update_run(run_id, name=run_name)
        for key, value in (tags or {}).items():
            client.set_tag(run_id, key, value)


def _log_params(client: "MlflowClient", run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    with store.store_errors():
        client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])


def _fail_active(run_id: str) -> None:
    """End a run that has just begun, and whose journal cannot be written."""
    import mlflow

    active = mlflow.active_run()
    if active is not None and active.info.run_id == run_id:
        with contextlib.suppress(FATrackError), store.store_errors():
            mlflow.end_run("FAILED")


def near_misses(params: Mapping[str, Any]) -> str:
    """Which params are likely to be meant as standard ones, in a line; empty where none is."""
    standard = [*names.PARAMS, names.FROZEN_BLOCKS]
    called = {often: name for name, calls in names.OFTEN_CALLED.items() for often in calls}
    meant = {}
    for key in params.keys() - {*standard}:
        near = difflib.get_close_matches(key.lower(), standard, n=1, cutoff=0.8)
        name = called.get(key.lower()) or (near[0] if near else None)
        if name and name not in params:
            meant[key] = name
    pairs = ", ".join(f"{key!r} ({meant[key]!r}?)" for key in params if key in meant)
    return f"{pairs}: no standard param, so no query, control or comparison takes it for one" if meant else ""


def _run_name(params: Mapping[str, Any]) -> str:
    """Such as ``dfa resmlp 4×256 λ=0.01, frozen blocks, seed 42, cosine, clip 1``: lists cut names off."""
    size = f"{params['depth']}×{params['width']}" if {"depth", "width"} <= params.keys() else ""
    parts = [
        params["method"],
        params.get("architecture"),
        size,
        f"λ={params['penalty']}" if params.get("penalty") else "",
    ]
    said = cells.in_words({key: value for key, value in params.items() if key not in cells.DEFINITIONS})
    blocks = cells.blocks_in_words(params)
    named = [" ".join(str(p) for p in parts if p), blocks, f"seed {params['seed']}"]
    return ", ".join([*filter(None, named), *(words for words in said if words != blocks)])
