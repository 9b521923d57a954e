"""``FATrackCallback`` for Lightning's ``Trainer``."""

from typing import Any

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: Lightning is an extra: pip install 'fa-track[lightning]'") from None

from fa_tracking.integrations.training import TrackedTraining


class FATrackCallback(TrackedTraining, Callback):
    """Logs the protocol's diagnostics at the end of every epoch of a Lightning training; takes its base's arguments.

    With an ``MLFlowLogger`` it logs into that logger's run; a ``fast_dev_run`` is not logged. An exception or an
    interrupt leaves the run FAILED.
    """

    _validated = False
    """Whether validation ran since the last training step, so that its metrics are of these weights."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and not trainer.fast_dev_run:
            self._open(**_logged_run(trainer))
            self._measure(trainer.current_epoch, pl_module)

    def on_train_batch_start(self, *args: Any) -> None:
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stop = self.run is not None and self._epoch_end(trainer, pl_module)
        if self._abort:
            trainer.should_stop |= trainer.strategy.broadcast(stop)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.run:
            self._finish(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close(exception)

    def _epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        epoch = trainer.current_epoch + 1
        report = self._measure(epoch, pl_module, self._metric(trainer.callback_metrics) if self._validated else None)
        at_end = epoch == trainer.max_epochs or trainer.global_step == trainer.max_steps
        return not at_end and self._aborts(report)


def _logged_run(trainer: Trainer) -> dict[str, str]:
    """The run of Lightning's own MLflow logger, where it has one."""
    logger: Any = next((x for x in trainer.loggers if type(x).__name__ == "MLFlowLogger"), None)
    return {"run_id": logger.run_id, "tracking_uri": logger.experiment.tracking_uri} if logger else {}
