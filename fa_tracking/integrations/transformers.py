"""``FATrackCallback`` for Hugging Face's ``Trainer``."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

try:
    from accelerate.utils import broadcast_object_list
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: Transformers is an extra: pip install 'fa-track[transformers]'") from None

from torch import Tensor, nn

from fa_tracking.errors import UsageError
from fa_tracking.integrations.training import TrackedTraining


class FATrackCallback(TrackedTraining, TrainerCallback):
    """Logs the protocol's diagnostics at the end of every epoch of a ``Trainer``; takes its base's arguments.

    With the ``MLflowCallback`` (``report_to="mlflow"``) it logs into that callback's run. ``Trainer`` does not report
    exceptions to callbacks: a run that is left open becomes FAILED when the process ends, or when training begins anew.

    A batch of ``eval_batches`` may also be a mapping with ``labels`` among the model's keyword inputs, as a collator
    returns it.
    """

    _metrics: Mapping[str, float] | None = None
    """Of evaluations since the last training step, so that they are of these weights."""
    _waiting = False
    """Whether an epoch has ended and its evaluation is still to come."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        self._epoch, self._waiting = int(state.epoch or 0), False
        if state.is_world_process_zero:
            self._open()
            with self._at_work(model):
                self._measure(self._epoch, model)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._check_evaluated()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._metrics = None

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        self._epoch += 1
        self._waiting = bool(self._accuracy_metric and control.should_evaluate)
        if not self._waiting:
            self._epoch_end(state, control, model)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        self._metrics = {**(self._metrics or {}), **(metrics or {})}  # of several data sets, one after the other
        if self._waiting and self._accuracy_metric in self._metrics:
            self._epoch_end(state, control, model)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        self._check_evaluated()
        if self.run:
            with self._at_work(model):
                self._finish(model)

    def _epoch_end(self, state: TrainerState, control: TrainerControl, model: nn.Module) -> None:
        self._waiting = False
        stop = False
        if self.run:
            with self._at_work(model):
                report = self._measure(self._epoch, model, self._metric(self._metrics) if self._metrics else None)
                stop = state.global_step < state.max_steps and self._aborts(report)
        if self._abort:
            control.should_training_stop |= broadcast_object_list([stop])[0]

    def _check_evaluated(self) -> None:
        """Raise where the evaluation of an epoch has passed without the metric of the accuracy."""
        if self._waiting:
            self._waiting = False
            with self._at_work():
                self._metric(self._metrics or {})

    @contextmanager
    def _at_work(self, model: nn.Module | None = None) -> Iterator[None]:
        """Ends the run where what is done inside fails; ``model`` runs outside of Accelerate's autocast."""
        try:
            with own_forward(model) if model is not None else nullcontext():
                yield
        except BaseException as error:
            self._close(error)
            raise

    def _pair(self, batch: Any) -> tuple[Any, Tensor]:
        if not isinstance(batch, Mapping):
            return super()._pair(batch)
        if "labels" not in batch:
            raise UsageError(f"an evaluation batch has no `labels`; it has: {', '.join(batch)}")
        return {name: value for name, value in batch.items() if name != "labels"}, batch["labels"]


@contextmanager
def own_forward(model: nn.Module) -> Iterator[None]:
    """The model's forward as it was before Accelerate wrapped it in autocast, where small gradients become 0."""
    if "_original_forward" not in vars(model):
        yield
        return
    wrapped = model.forward
    model.forward = vars(model)["_original_forward"]
    try:
        yield
    finally:
        model.forward = wrapped
