"""``start_run``: writes one training run to MLflow, from any loop."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.protocol.alignment import Alignment, Credit, alignment
from fa_tracking.protocol.diagnose import measure
from fa_tracking.protocol.probe import capture_all
from fa_tracking.protocol.report import DiagnosticReport, DiagnosticThresholds
from fa_tracking.tracking import checkpoint, names, store
from fa_tracking.tracking.writer import Writer

if TYPE_CHECKING:
    import mlflow
    from mlflow import MlflowClient
    from torch import Tensor, nn


@contextmanager
def start_run(
    experiment: str | None = None,
    tracking_uri: str | None = None,
    run_name: str | None = None,
    tags: Mapping[str, str] | None = None,
    run_id: str | None = None,
    **params: Any,
) -> "Iterator[TrackedRun]":
    """An MLflow run for the length of a ``with`` block; FAILED if the block raises.

    Args:
        experiment: created where it is missing; MLflow's active experiment where None.
        tracking_uri: MLFLOW_TRACKING_URI where None.
        run_id: log into this run, such as the active one, instead of a new one. Whoever opened it ends it, unless the
            block raises.
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
    with contextlib.ExitStack() as opened:
        if run_id is None:
            active = _new_run(client, tracking_uri, experiment, run_name or _run_name(params), tags)
            run_id = opened.enter_context(active).info.run_id
        else:
            _join(client, run_id, experiment, run_name, tags, params)
        writer = Writer()
        try:
            _log_params(client, run_id, params)
            yield TrackedRun(client, run_id, str(params["method"]), writer)
            writer.close()
        except BaseException:
            writer.abandon()
            _fail(client, run_id)
            raise


def _new_run(
    client: "MlflowClient",
    tracking_uri: str | None,
    experiment: str | None,
    run_name: str,
    tags: Mapping[str, str] | None,
) -> "mlflow.ActiveRun":
    import mlflow

    if (active := mlflow.active_run()) is not None:
        raise UsageError(
            f"another MLflow run is active in this process: log into it with run_id={active.info.run_id!r}, "
            "or end it first with mlflow.end_run()"
        )
    if tracking_uri:
        mlflow.set_tracking_uri(tracking_uri)
    with store.store_errors():
        chosen = store.experiment_id(client, experiment) if experiment else None
        return mlflow.start_run(experiment_id=chosen, run_name=run_name, tags=dict(tags or {}))


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


def _fail(client: "MlflowClient", run_id: str) -> None:
    """Mark the run FAILED, as far as the store can be reached: another error is already on its way."""
    import mlflow

    active = mlflow.active_run()
    with contextlib.suppress(FATrackError), store.store_errors():
        if active is not None and active.info.run_id == run_id:
            mlflow.end_run("FAILED")
        else:
            client.set_terminated(run_id, "FAILED")


class TrackedRun:
    """One run under way. Everything is written in the background, in order; the ``with`` block's end waits for it."""

    def __init__(self, client: "MlflowClient", run_id: str, method: str, writer: Writer) -> None:
        self.run_id = run_id
        self._client = client
        self._method = method
        self._writer = writer
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

        Returns:
            The report, without a frozen control, for a loop that acts on it.
        """
        began = time.perf_counter()
        self._last_epoch = epoch
        thresholds = thresholds or DiagnosticThresholds()
        captures = capture_all(model, eval_batches, layers)
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
        values[names.DIAGNOSTICS_SECONDS] = self._epoch_began - began
        self.log_metrics(values, epoch)
        return report

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics of one step; NaN and infinities are kept.

        Raises:
            FATrackError: an earlier write failed.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = [Metric(key, float(value), now, step) for key, value in values.items()]
        for start in range(0, len(batch), store.METRICS_PER_BATCH):
            part = batch[start : start + store.METRICS_PER_BATCH]
            self._writer.submit(self._client.log_batch, self.run_id, metrics=part)

    def log_data(self, source: checkpoint.DataSource) -> None:
        """Record what the auditor measures on, for a model that is logged with ``mlflow.pytorch.log_model``."""
        self._writer.submit(self._client.log_text, self.run_id, source.model_dump_json(indent=2), names.DATA_SOURCE)

    def set_tag(self, key: str, value: str) -> None:
        """Set a tag of the run."""
        self._writer.submit(self._client.set_tag, self.run_id, key, value)

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
        folder = Path(tempfile.mkdtemp(prefix="fa-track-"))
        try:
            checkpoint.write(
                folder,
                model,
                dict(feedback or {}),
                epoch,
                factory or getattr(model, "factory", None),
                dict(config) if config is not None else _own_config(model),
                dataset,
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._writer.submit(_upload, self._client.log_artifacts, self.run_id, folder, names.checkpoint(epoch))


def _own_config(model: "nn.Module") -> dict[str, Any]:
    """The model's attribute ``config``, a mapping or an object of Transformers; empty where it is neither."""
    config: Any = getattr(model, "config", None)
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    return dict(config) if isinstance(config, Mapping) else {}


def _upload(log_artifacts: Callable[[str, str, str], None], run_id: str, folder: Path, target: str) -> None:
    try:
        log_artifacts(run_id, str(folder), target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
