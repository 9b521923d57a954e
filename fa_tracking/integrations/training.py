"""What the callbacks of all frameworks share: one run, measured once an epoch from the start of training to its end."""

import hashlib
import warnings
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.protocol.alignment import Credit
from fa_tracking.protocol.report import DiagnosticReport
from fa_tracking.protocol.undisturbed import random_state, unwrapped
from fa_tracking.tracking.abort import Abort
from fa_tracking.tracking.checkpoint import DataSource
from fa_tracking.tracking.opening import start_run
from fa_tracking.tracking.run import TrackedRun


class TrackedTraining:
    """Logs one training as a run of ``fa_tracking.start_run``: epoch 0, every epoch's end, the checkpoint.

    It logs into the MLflow run that the framework already logs to, else into a run of its own. It does not change
    training: the final weights are the same to the last bit without it. The process of rank zero measures its own copy
    of the model, so sharded parameters (FSDP, DeepSpeed ZeRO 3) do not work.

    Attributes:
        run: the run, while training is under way.
        run_id: its id, also afterwards.
    """

    def __init__(
        self,
        eval_batches: Iterable[Any],
        *,
        accuracy_metric: str | None = None,
        model: str | None = None,
        layers: Sequence[str] | None = None,
        credit: Credit | None = None,
        credit_null: Sequence[Credit] = (),
        feedback: Mapping[str, Tensor] | None = None,
        checkpoint_every: int = 0,
        factory: str | None = None,
        config: Mapping[str, Any] | None = None,
        source: DataSource | None = None,
        abort: Abort | None = None,
        **start: Any,
    ) -> None:
        """Nothing is logged before training starts.

        Args:
            eval_batches: disjoint test batches as ``diagnose`` takes them, ten of 128 by the protocol; a DataLoader is
                read once, when training starts.
            accuracy_metric: the framework's metric for the accuracy on the WHOLE test set, in [0, 1]. It is logged if
                an evaluation ran on the weights at the epoch's end. Without it no accuracy is logged, and the audit
                says that the headline is not given.
            model: the trained module's attribute that is measured and saved, such as ``"net"``; None: the whole module.
            layers: names of its modules whose outputs are the hidden states, as ``diagnose`` takes them.
            credit: the method's local credit, for Γ per layer; ``credit_null``: the same with fresh feedback.
            feedback: the method's own tensors by name, saved with the weights as they are then.
            checkpoint_every: also save a checkpoint every so many epochs; 0: only the last.
            factory: the argument of ``run.log_checkpoint``; without it the weights cannot be audited.
            config: the argument of ``run.log_checkpoint``.
            source: the argument ``dataset`` of ``run.log_checkpoint``.
            abort: stops training when a flag holds.
            start: the arguments of ``fa_tracking.start_run``: ``method``, ``seed``, ``experiment``, further params.
        """
        self.run: TrackedRun | None = None
        self.run_id: str | None = None
        self._eval_batches = eval_batches
        self._accuracy_metric = accuracy_metric
        self._attribute, self._layers = model, layers
        self._credit, self._credit_null = credit, credit_null
        self._feedback = feedback
        self._checkpoint_every = checkpoint_every
        self._checkpoint: dict[str, Any] = {"factory": factory, "config": config, "dataset": source}
        self._abort = abort
        self._start = start

    def _open(self, run_id: str | None = None, tracking_uri: str | None = None) -> None:
        """Start a run, or join ``run_id``, or the run that is active in this process."""
        import mlflow

        self._close(FATrackError("another training began before this one ended"))
        active = mlflow.active_run()
        joined = {"run_id": run_id or (active.info.run_id if active else None), "tracking_uri": tracking_uri}
        self._context = start_run(**{**joined, **self._start})
        self.run = self._context.__enter__()
        self.run_id = self.run.run_id
        # A framework may say nothing when training breaks off: then the run ends with this object or the process.
        self._unended = weakref.finalize(self, _leave, self._context, FATrackError("training did not end"))
        self._measured: dict[bytes, int] = {}
        self._accurate: set[int] = set()
        self._saved: set[int] = set()
        with random_state(torch.device("cpu")):  # a DataLoader draws from it
            self._batches = [self._pair(batch) for batch in self._eval_batches]

    def _pair(self, batch: Any) -> tuple[Any, Tensor]:
        inputs, labels = batch
        return inputs, labels

    def _measure(self, epoch: int, module: nn.Module, accuracy: float | None = None) -> DiagnosticReport:
        """Log one epoch, and a checkpoint where one is due."""
        assert self.run is not None
        model = self._model(module)
        with random_state(next(model.parameters()).device):  # a credit may draw from it
            report = self.run.log_epoch(
                epoch,
                model,
                self._batches,
                accuracy=accuracy,
                credit=self._credit,
                credit_null=self._credit_null,
                layers=self._layers,
            )
        self._measured[_fingerprint(model)] = epoch
        if accuracy is not None:
            self._accurate.add(epoch)
        if self._checkpoint_every and epoch % self._checkpoint_every == 0:
            self._save(epoch, model)
        return report

    def _aborts(self, report: DiagnosticReport) -> bool:
        """Whether to stop here; says so on the run."""
        if self.run is None or self._abort is None or not self._abort(report):
            return False
        self.run.mark_aborted(report)
        return True

    def _finish(self, module: nn.Module) -> None:
        """Save the checkpoint under the epoch at which these weights were measured, and end the run.

        They need not be the last epoch's: a framework may load the best ones at the end. Weights that were never
        measured, such as averaged ones, are measured here, as one more epoch.
        """
        model = self._model(module)
        epoch = self._measured.get(_fingerprint(model))
        if epoch is None:
            epoch = max(self._measured.values()) + 1
            self._measure(epoch, module)
        self._save(epoch, model)
        if self._accuracy_metric and epoch not in self._accurate:
            warnings.warn(
                f"fa-track: no evaluation gave {self._accuracy_metric} for the final weights: "
                f"run {self.run_id} has no accuracy at epoch {epoch}",
                stacklevel=2,
            )
        self._close()

    def _save(self, epoch: int, model: nn.Module) -> None:
        assert self.run is not None
        if epoch not in self._saved:
            self.run.log_checkpoint(model, self._feedback, epoch, **self._checkpoint)
            self._saved.add(epoch)

    def _close(self, error: BaseException | None = None) -> None:
        """End the run, FAILED where an error is given; nothing where none is open."""
        if self.run is not None:
            self.run = None
            self._unended.detach()
            _leave(self._context, error)

    def _model(self, module: nn.Module) -> nn.Module:
        if self._attribute:
            module = attrgetter(self._attribute)(module)
        return unwrapped(module)

    def _metric(self, metrics: Mapping[str, Any]) -> float | None:
        """The accuracy among the framework's ``metrics``; None where none is asked for.

        Raises:
            UsageError: it is not there.
        """
        if self._accuracy_metric is None:
            return None
        if self._accuracy_metric not in metrics:
            known = ", ".join(sorted(metrics)) or "none"
            raise UsageError(
                f"accuracy_metric={self._accuracy_metric!r} is not among the metrics of evaluation: {known}"
            )
        return float(metrics[self._accuracy_metric])


def _fingerprint(model: nn.Module) -> bytes:
    """Tells weights apart, to the last bit."""
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        if isinstance(value, Tensor):
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()


def _leave(context: AbstractContextManager[TrackedRun], error: BaseException | None) -> None:
    context.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
