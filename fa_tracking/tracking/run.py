"""``start_run`` and ``resume_run``: write one training run to MLflow, from any loop."""

import contextlib
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from fa_tracking.errors import FATrackError, StoreAwayError, UsageError
from fa_tracking.protocol.alignment import Alignment, Credit, alignment
from fa_tracking.protocol.diagnose import measure
from fa_tracking.protocol.probe import Capture, capture_all
from fa_tracking.protocol.report import DiagnosticReport, DiagnosticThresholds
from fa_tracking.tracking import checkpoint, names, process, state, store
from fa_tracking.tracking.deliver import deliver
from fa_tracking.tracking.journal import Journal, spool
from fa_tracking.tracking.writer import Writer

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from torch import Tensor, nn

_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


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
    """An MLflow run for the length of a ``with`` block; FAILED if the block raises.

    Args:
        experiment: created where it is missing; MLflow's active experiment where None.
        tracking_uri: MLFLOW_TRACKING_URI where None.
        run_id: log into this run, such as the active one, instead of a new one. Whoever opened it ends it, unless the
            block raises.
        active: make a new run MLflow's active one. Of those that are not, many can be open in one process.
        params: the standard params (``method``, ``architecture``, ``width``, ``seed``, …) and any others.

    Raises:
        UsageError: ``method`` or ``seed`` is missing; another run is active; the run ``run_id`` stands in another
            experiment, or has a param with another value.
        FATrackError: the store failed; also when it failed in the background since the last call.
    """
    missing = [name for name in ("method", "seed") if params.get(name) is None]
    if missing:
        raise UsageError(f"start_run needs {' and '.join(missing)}: without them runs cannot be grouped into cells")
    client = store.client(tracking_uri)
    is_own = run_id is None
    if run_id is None:
        new = _new_run if active else _new_run_beside
        run_id = new(client, tracking_uri, experiment, run_name or _run_name(params), tags)
    else:
        _join(client, run_id, experiment, run_name, tags, params)
    with _written(client, run_id, is_own) as writer:
        _log_params(client, run_id, params)
        yield TrackedRun(client, run_id, str(params["method"]), writer)


@contextmanager
def resume_run(run_id: str, tracking_uri: str | None = None) -> "Iterator[TrackedRun]":
    """Go on with a run whose process was killed, for the length of a ``with`` block; it ends as one of ``start_run``.

    What its process had left on this machine is brought to the store first. An epoch that was logged is not logged
    again: ``log_epoch`` measures it and writes nothing. ``run.last_state`` reads the training state to go on from.

    Raises:
        UsageError: there is no such run, it has no method, or another process is writing it; another run is active.
        FATrackError: the store failed.
    """
    import mlflow

    client = store.client(tracking_uri)
    _refuse_active()
    with store.store_errors():
        run = client.get_run(run_id)
    if "method" not in run.data.params:
        raise UsageError(f"run {run_id} has no param `method`: it was not begun by start_run")
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
        _end_active(run_id, "FAILED")
        raise
    patience = None
    try:
        yield writer
        try:
            writer.flush()
        except StoreAwayError:
            patience = 0.0
        if is_own:
            writer.submit({"status": "FINISHED"})
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"  # from outside: it can go on
        with contextlib.suppress(FATrackError):
            writer.submit({"status": status})
        writer.abandon()
        _end_active(run_id, status)
        raise
    status = "FINISHED"
    try:
        writer.close(patience)
    except StoreAwayError:
        status = "RUNNING"  # a full store may still take a status, and what is FINISHED is audited
        raise
    finally:
        if is_own:
            _end_active(run_id, status)


def _writer(client: "MlflowClient", run_id: str) -> Writer:
    try:
        journal = Journal(spool() / run_id, {"run_id": run_id, "tracking_uri": store.absolute(client.tracking_uri)})
    except BlockingIOError:
        raise UsageError(f"run {run_id} is being written by another process on this machine") from None
    return Writer(journal, partial(deliver, client, run_id, journal.folder))


def _new_run(
    client: "MlflowClient",
    tracking_uri: str | None,
    experiment: str | None,
    run_name: str,
    tags: Mapping[str, str] | None,
) -> str:
    import mlflow

    _refuse_active()
    if tracking_uri:
        mlflow.set_tracking_uri(tracking_uri)
    with store.store_errors():
        chosen = store.experiment_id(client, experiment) if experiment else None
        tags = {names.TAG_PROCESS: process.this(), **(tags or {})}
        run = mlflow.start_run(experiment_id=chosen, run_name=run_name, tags=tags)
    return str(run.info.run_id)


def _new_run_beside(
    client: "MlflowClient",
    tracking_uri: str | None,
    experiment: str | None,
    run_name: str,
    tags: Mapping[str, str] | None,
) -> str:
    from mlflow.tracking.context.registry import resolve_tags

    if not experiment:
        raise UsageError("a run that is not MLflow's active one needs the name of its experiment")
    with store.store_errors():
        every = dict(resolve_tags({names.TAG_PROCESS: process.this(), **(tags or {})}))
        run = client.create_run(store.experiment_id(client, experiment), tags=every, run_name=run_name)
    return str(run.info.run_id)


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
    with store.store_errors():
        if run_name:
            client.update_run(run_id, name=run_name)
        for key, value in (tags or {}).items():
            client.set_tag(run_id, key, value)


def _log_params(client: "MlflowClient", run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    with store.store_errors():
        client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])


def _end_active(run_id: str, status: str) -> None:
    """Take the run off MLflow's stack of active ones; the journal has written its status, or keeps it for later."""
    import mlflow

    active = mlflow.active_run()
    if active is None or active.info.run_id != run_id:
        return
    retries = os.environ.get(_RETRIES)
    os.environ[_RETRIES] = "1"
    try:
        with contextlib.suppress(FATrackError), store.store_errors():
            mlflow.end_run(status)
    finally:
        os.environ.pop(_RETRIES) if retries is None else os.environ.update({_RETRIES: retries})


class TrackedRun:
    """One run under way. Everything is written in the background, in order; the ``with`` block's end waits for it.

    What a call has written waits on this machine until the store has it: neither a killed process nor a store that is
    away for a while loses any of it.

    Attributes:
        run_id: the run's id in MLflow.
        is_resumed: whether another process began it.
        logged: the epochs that the store held when the run was resumed.
    """

    def __init__(
        self, client: "MlflowClient", run_id: str, method: str, writer: Writer, logged: Collection[int] | None = None
    ) -> None:
        self.run_id = run_id
        self.is_resumed = logged is not None
        self.logged = frozenset(logged or ())
        self._client = client
        self._method = method
        self._writer = writer
        self._states = 0
        self._epoch_began: float | None = None
        self._last_epoch = 0

    def log_epoch(
        self,
        epoch: int,
        model: "nn.Module",
        eval_batches: "Iterable[tuple[Any, Tensor]]",
        accuracy: float | None = None,
        credit: Credit | None = None,
        credit_null: Sequence[Credit] = (),
        metrics: Mapping[str, float] | None = None,
        thresholds: DiagnosticThresholds | None = None,
        null_batches: int | None = None,
        layers: Sequence[str] | None = None,
        captures: Sequence[Capture] | None = None,
        captured_in: float = 0.0,
    ) -> DiagnosticReport:
        """Measure the protocol's diagnostics and log them with ``accuracy/test`` as one batch of metrics.

        One forward and one backward pass a batch serve all of them. ``time/epoch_seconds`` is the time since the last
        call, unless ``metrics`` gives it.

        Args:
            epoch: the step; 0 is the network before training.
            eval_batches: disjoint test batches, as ``diagnose`` takes them.
            accuracy: on the whole test set, in [0, 1].
            credit: the method's local credit, for Γ per layer; None logs no Γ.
            credit_null: the same credit with fresh feedback, ten draws or more.
            metrics: further metrics of this epoch.
            null_batches: on how many of the batches the null is measured; None: on all.
            layers: the modules whose outputs are the hidden states, as ``diagnose`` takes them.
            captures: of ``eval_batches``, where they have been taken before; ``captured_in`` so many seconds.

        Returns:
            The report, without a frozen control, for a loop that acts on it.
        """
        began = time.perf_counter()
        self._last_epoch = epoch
        thresholds = thresholds or DiagnosticThresholds()
        captures = capture_all(model, eval_batches, layers) if captures is None else captures
        report = DiagnosticReport(
            method_name=self._method,
            notes=f"epoch {epoch}",
            headline_acc=accuracy,
            frozen_baseline_acc=None,
            thresholds=thresholds,
            **measure(captures),
        )
        values = report_metrics(report)
        if credit is not None:
            floor = thresholds.g_norm_floor
            found = alignment(model, captures, credit, credit_null, floor, null_batches)
            values |= _alignment_metrics(found)
        if accuracy is not None:
            values[names.ACCURACY_TEST] = accuracy
        if self._epoch_began is not None:
            values[names.EPOCH_SECONDS] = began - self._epoch_began
        values |= metrics or {}
        self._epoch_began = time.perf_counter()
        values[names.DIAGNOSTICS_SECONDS] = self._epoch_began - began + captured_in
        if epoch not in self.logged:
            self.log_metrics(values, epoch)
        return report

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics of one step; NaN and infinities are kept.

        Raises:
            FATrackError: an earlier write failed.
        """
        now = int(time.time() * 1000)
        self._writer.submit({"metrics": [[key, float(value), now, step] for key, value in values.items()]})

    def log_data(self, source: checkpoint.DataSource) -> None:
        """Record what the auditor measures on, for a model that is logged with ``mlflow.pytorch.log_model``."""
        self._writer.submit({"text": source.model_dump_json(indent=2), "path": names.DATA_SOURCE})

    def set_tag(self, key: str, value: str) -> None:
        """Set a tag of the run."""
        self._writer.submit({"tag": key, "value": value})

    def mark_aborted(self, report: DiagnosticReport, epoch: int | None = None) -> None:
        """Say that the run stopped at ``epoch`` (the last one logged where None), for the flags of ``report``.

        Save its checkpoint too: an aborted run ends as a finished one, and the auditor judges it as it stands.
        """
        self.set_tag(names.TAG_ABORTED_AT, str(self._last_epoch if epoch is None else epoch))
        self.set_tag(names.TAG_ABORTED_FOR, ",".join(report.flags))

    def flush(self) -> None:
        """Wait until the store has taken everything so far.

        Raises:
            FATrackError: a write failed.
        """
        self._writer.flush()

    def log_checkpoint(
        self,
        model: "nn.Module",
        feedback: "Mapping[str, Tensor] | None" = None,
        epoch: int | None = None,
        factory: str | None = None,
        config: Mapping[str, Any] | None = None,
        dataset: checkpoint.DataSource | None = None,
    ) -> None:
        """Save the weights and the feedback matrices that trained them as ``checkpoints/epoch_NNNN``.

        Args:
            epoch: the last one logged where None.
            feedback: the method's own tensors by name (a ``state_dict``): Γ of this network needs these very ones.
            factory: the entry point of the group ``fa_tracking.models`` that builds the model from ``config``; the
                model's own attributes ``factory`` and ``config`` where None. Without one the run cannot be audited.
            dataset: what the auditor measures on.
        """
        epoch = self._last_epoch if epoch is None else epoch
        with self._writer.upload(names.checkpoint(epoch)) as folder:
            checkpoint.write(
                folder,
                model,
                dict(feedback or {}),
                epoch,
                factory or getattr(model, "factory", None),
                dict(config) if config is not None else _own_config(model),
                dataset,
            )

    def log_state(self, epoch: int, tensors: "Mapping[str, Tensor]", values: Mapping[str, Any]) -> None:
        """Save what training needs to go on after ``epoch``; the run keeps the last two, until it ends.

        Args:
            tensors: of the model, the optimizer, the learning rule and the random generators, by name.
            values: what else, as JSON.
        """
        with self._writer.upload(names.state(self._states % 2)) as folder:
            state.write(folder, epoch, tensors, values)
        self._states += 1

    def last_state(self) -> "state.State | None":
        """The last training state that was saved whole; None: there is none."""
        found = state.read_last(self._client, self.run_id)
        self._states = found.slot + 1 if found else 0
        return found

    def forget_states(self) -> None:
        """Remove the training states: the run is at its end."""
        if self._states:
            self._writer.submit({"remove": names.STATE})


def _own_config(model: "nn.Module") -> dict[str, Any]:
    """The model's attribute ``config``, a mapping or an object of Transformers; empty where it is neither."""
    config: Any = getattr(model, "config", None)
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    return dict(config) if isinstance(config, Mapping) else {}


def _run_name(params: Mapping[str, Any]) -> str:
    """Such as ``dfa resmlp 4×256 λ=0.01 frozen, seed 42``."""
    size = f"{params['depth']}×{params['width']}" if {"depth", "width"} <= params.keys() else ""
    parts = [
        params["method"],
        params.get("architecture"),
        size,
        f"λ={params['penalty']}" if params.get("penalty") else "",
        "frozen" if params.get("frozen_blocks") else "",
    ]
    return " ".join(str(p) for p in parts if p) + f", seed {params['seed']}"


def report_metrics(report: DiagnosticReport) -> dict[str, float]:
    scalars = {
        names.MAX_BLOCK_GROWTH: report.max_per_block_growth,
        names.DEEPEST_GRAD_NORM: report.bp_grad_norms[-1],
        names.GRAD_GAIN: report.grad_gain,
        names.STABILITY: report.cross_batch_stability,
        **{f"diagnostics/{name}": value for name, value in report.extra.items()},
    }
    return {
        **{key: value for key, value in scalars.items() if value is not None},
        **{names.residual_norm(layer): v for layer, v in enumerate(report.residual_norms)},
        **{names.grad_norm(layer): v for layer, v in enumerate(report.bp_grad_norms)},
    }


def _alignment_metrics(found: Alignment) -> dict[str, float]:
    series = (
        (names.alignment, found.gamma),
        (names.alignment_pooled, found.pooled),
        (names.alignment_null, found.null_mean),
        (names.alignment_null_sd, found.null_sd),
    )
    values = {name(layer): v for name, by_layer in series for layer, v in enumerate(by_layer) if v is not None}
    return {**values, names.ALIGNMENT_MISSING: float(found.missing)}
