"""A run under way: measures, logs and saves what one training run shows."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fa_tracking.protocol.alignment import Credit, alignment
from fa_tracking.protocol.capture import Capture
from fa_tracking.protocol.diagnose import measure
from fa_tracking.protocol.functional import functional as functional_measures
from fa_tracking.protocol.probe import capture_all
from fa_tracking.protocol.ranges import whole
from fa_tracking.protocol.report import DiagnosticReport
from fa_tracking.protocol.table import Reference
from fa_tracking.protocol.thresholds import DiagnosticThresholds
from fa_tracking.tracking import checkpoint, names, state
from fa_tracking.tracking.measured import alignment_metrics, functional_metrics, report_metrics
from fa_tracking.tracking.possible import refuse_impossible
from fa_tracking.tracking.spool.writer import Silent, Writer

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from torch import Tensor, nn


class TrackedRun:
    """Logs one open run. Everything is written in the background, in order; the end of the ``with`` block waits for it.

    Each call's data waits on this machine until the store has it. A killed process or a store that is away for a while
    loses nothing.

    Attributes:
        run_id: the run's id in MLflow.
        is_resumed: whether another process began it.
        logged: the epochs in the store when the run was resumed.
    """

    def __init__(
        self,
        client: "MlflowClient | None",
        run_id: str,
        method: str,
        writer: "Writer | Silent",
        logged: Collection[int] | None = None,
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
        reference: "nn.Module | None" = None,
        functional: bool = False,
    ) -> DiagnosticReport:
        """Measure the protocol's diagnostics and log them with ``accuracy/test`` as one batch of metrics.

        One forward and one backward pass per batch serve all of them. ``time/epoch_seconds`` is the time since the last
        call, unless ``metrics`` gives it.

        The arguments are many, but each stands alone: your own loop names the few that it has, and needs no object of
        ours.

        Args:
            epoch: the step; 0 is the network before training.
            eval_batches: disjoint test batches, as ``diagnose`` takes them.
            accuracy: on the whole test set, in [0, 1].
            credit: the method's local credit, for Γ per layer; None logs no Γ.
            credit_null: the same credit with fresh feedback, ten draws or more.
            metrics: further metrics of this epoch.
            null_batches: the number of batches on which the null is measured; None: all.
            layers: the modules whose outputs are the hidden states, as ``diagnose`` takes them.
            captures: the captures of ``eval_batches``, if they were taken before, in ``captured_in`` seconds.
            reference: the network that is measured instead of the model, as ``diagnose`` takes it.
            functional: also measure how ``credit``, BP's gradient and a random vector change the loss at each state;
                this takes seconds unless the network is small.

        Returns:
            The report without a frozen control; a loop can act on it.

        Raises:
            InvalidError: the epoch, the accuracy or one of ``metrics`` is impossible.
        """
        began = time.perf_counter()
        self._last_epoch = epoch = whole(epoch, "epoch")
        accuracy = None if accuracy is None else float(accuracy)
        refuse_impossible({names.ACCURACY_TEST: accuracy, **(metrics or {})})
        thresholds = thresholds or DiagnosticThresholds()
        captures = capture_all(model, eval_batches, layers, reference=reference) if captures is None else captures
        found = None
        if functional:
            floor = thresholds.g_norm_floor
            found = functional_measures(model, captures, credit, floor=floor, layers=layers, reference=reference)
        report = DiagnosticReport(
            method_name=self._method,
            notes=f"epoch {epoch}",
            headline_acc=accuracy,
            frozen_baseline_acc=None,
            thresholds=thresholds,
            functional=found,
            **measure(captures),
        )
        if report.reference is Reference.NOT_BP:
            self.set_tag(names.TAG_REFERENCE, report.reference)
        values = report_metrics(report)
        if credit is not None:
            floor = thresholds.g_norm_floor
            values |= alignment_metrics(alignment(model, captures, credit, credit_null, floor, null_batches))
        if found is not None:
            values |= functional_metrics(found)
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
            InvalidError: the step is negative, or a metric that an audit reads has a value that it cannot have.
            FATrackError: an earlier write failed.
        """
        refuse_impossible(values)
        now, step = int(time.time() * 1000), whole(step, "step")
        self._writer.submit({"metrics": [[key, float(value), now, step] for key, value in values.items()]})

    def log_data(self, source: checkpoint.DataSource) -> None:
        """Record the audit's data for a model that is logged with ``mlflow.pytorch.log_model``."""
        self._writer.submit({"text": source.model_dump_json(indent=2), "path": names.DATA_SOURCE})

    def set_tag(self, key: str, value: str) -> None:
        """Set a tag of the run."""
        self._writer.submit({"tag": key, "value": value})

    def mark_aborted(self, report: DiagnosticReport, epoch: int | None = None) -> None:
        """Record that the flags in ``report`` stopped the run at ``epoch`` (None: the last one logged).

        Save its checkpoint too: an aborted run ends like a finished one, and the audit judges its last state.
        """
        self.set_tag(names.TAG_ABORTED_AT, str(self._last_epoch if epoch is None else whole(epoch, "epoch")))
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
        rule: checkpoint.RuleSource | None = None,
    ) -> None:
        """Save the weights and the feedback matrices that trained them as ``checkpoints/epoch_NNNN``.

        Args:
            epoch: None: the last one logged.
            feedback: the method's own tensors by name (a ``state_dict``): Γ needs these very tensors.
            factory: the entry point of the group ``fa_tracking.models`` that builds the model from ``config``; None:
                the model's own attributes ``factory`` and ``config``. Without one the run cannot be audited.
            dataset: the data for the audit.
            rule: how to build the learning rule again; its ``state_dict`` is ``feedback``. Without it an audit has no
                functional measures for its credit.
        """
        epoch = self._last_epoch if epoch is None else whole(epoch, "epoch")
        with self._writer.upload(names.checkpoint(epoch)) as folder:
            checkpoint.write(
                folder,
                model,
                dict(feedback or {}),
                epoch,
                factory or getattr(model, "factory", None),
                dict(config) if config is not None else _own_config(model),
                dataset,
                rule,
            )

    def log_state(self, epoch: int, tensors: "Mapping[str, Tensor]", values: Mapping[str, Any]) -> None:
        """Save the state that training needs to go on after ``epoch``; the run keeps the last two until it ends.

        Args:
            tensors: tensors of the model, the optimizer, the learning rule and the random generators, by name.
            values: the other values, as JSON.
        """
        with self._writer.upload(names.state(self._states % 2)) as folder:
            state.write(folder, whole(epoch, "epoch"), tensors, values)
        self._states += 1

    def last_state(self) -> "state.State | None":
        """Return the last training state that was saved whole; None if there is none."""
        found = state.read_last(self._client, self.run_id) if self._client else None
        self._states = found.slot + 1 if found else 0
        return found

    def forget_states(self) -> None:
        """Remove the training states at the run's end."""
        if self._states:
            self._writer.submit({"remove": names.STATE})


def _own_config(model: "nn.Module") -> dict[str, Any]:
    """The model's attribute ``config``, a mapping or an object of Transformers; empty where it is neither."""
    config: Any = getattr(model, "config", None)
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    return dict(config) if isinstance(config, Mapping) else {}
