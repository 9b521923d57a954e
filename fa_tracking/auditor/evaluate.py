"""What MLflow's evaluator ``fa_protocol`` does: judges a model on data that a user gives, or a frame of diagnostics."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fa_tracking.auditor.control import Control, Controls
from fa_tracking.auditor.evidence import eval_data, frame, logged_model
from fa_tracking.auditor.evidence import exported_model as exported
from fa_tracking.auditor.evidence.network import Network, accuracy
from fa_tracking.auditor.measure import measure
from fa_tracking.auditor.write import Finding, write
from fa_tracking.errors import FATrackError, UsageError, what_is_wrong
from fa_tracking.protocol.knockout import Knockout
from fa_tracking.protocol.ranges import DEEPEST_LAYER, Accuracy, Norm
from fa_tracking.protocol.thresholds import DiagnosticThresholds
from fa_tracking.scratch import scratch
from fa_tracking.tracking import names, store
from fa_tracking.tracking.measured import report_metrics

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.data.evaluation_dataset import EvaluationDataset
    from mlflow.entities import Run
    from mlflow.pyfunc import PyFuncModel
    from torch import Tensor, nn


class Config(BaseModel):
    """What ``evaluator_config`` takes.

    Attributes:
        input_shape: of one sample: MLflow takes tables alone, so images come as rows and are put into shape here.
        eval_data: a .safetensors or .npz file of ``inputs`` and ``labels``, measured on in place of ``data``.
        eval_batches: pairs of tensors (inputs, labels), measured on as they are in place of ``data``.
        headline_acc: the accuracy to be published; that of the model on all the data given where None.
        frozen_baseline_acc: of the frozen control; the matching runs of the store where None.
        method_name: the run's param ``method`` where None.
        layers: the modules taken as h_0 … h_L, where the model does not show them.
        depth, h0_norm: L and ‖h_0‖, for a frame of logged diagnostics that lacks them.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    input_shape: tuple[int, ...] | None = None
    eval_data: Path | None = None
    eval_batches: list[tuple[Any, Any]] | None = Field(default=None, min_length=1)
    headline_acc: Accuracy | None = None
    frozen_baseline_acc: Accuracy | None = None
    method_name: str | None = None
    thresholds: DiagnosticThresholds = DiagnosticThresholds()
    layers: list[str] | None = None
    depth: int | None = Field(default=None, ge=0, le=DEEPEST_LAYER)
    h0_norm: Norm | None = None


NEEDS_MODEL = {"input_shape", "eval_data", "eval_batches", "headline_acc", "layers"}
"""What of it is of no use without a model."""


@dataclass(frozen=True)
class Evaluated:
    """What was measured, by its names in MLflow: by epoch, and of the epoch that the verdict is of."""

    run: "Run"
    history: Mapping[int, Mapping[str, float]]
    metrics: dict[str, float]


def evaluate(
    run_id: str, model: "PyFuncModel | None", dataset: "EvaluationDataset", given: Mapping[str, Any]
) -> Evaluated:
    """Judge ``model``, or without one a frame of logged diagnostics, and write tags, note and reports to the run.

    Args:
        given: as ``Config``.

    Raises:
        UsageError: the configuration or the data makes no sense.
        FATrackError: the model cannot be measured, or the store failed.
    """
    config = _config(given)
    client = store.client()
    with store.store_errors():
        run = client.get_run(run_id)
    if model is None:
        return _of_frame(client, run, dataset, config)
    with scratch() as folder:
        network = _network(client, model, dataset, config, folder)
    control = _control(client, run, config)
    method_name = config.method_name or run.data.params.get("method", "")
    report, knockout = measure(network, control, config.thresholds, method_name, ", ".join(network.notes))
    write(client, run, Finding(report, network.epoch, network.sha256, knockout))
    _mark(client, run, network.name)
    metrics = report_metrics(report)
    if report.headline_acc is not None:
        metrics[names.ACCURACY_TEST] = report.headline_acc
    return Evaluated(run, {network.epoch: metrics}, metrics)


def _of_frame(client: "MlflowClient", run: "Run", dataset: "EvaluationDataset", config: Config) -> Evaluated:
    """Partial evidence: the last epoch of a frame."""
    if unused := sorted(config.model_fields_set & NEEDS_MODEL):
        raise UsageError(f"evaluator_config: without a model there is no use of {', '.join(unused)}")
    by_hand = {"h0_norm": config.h0_norm, "control_accuracy": config.frozen_baseline_acc}
    given = {name: value for name, value in by_hand.items() if value is not None}
    log = frame.read(dataset.features_data, run, config.depth, given)
    epoch = log.epochs[-1]
    control = Controls(client).of(run)
    report = log.report(epoch, control, config.thresholds, f"epoch {epoch} of a frame of logged diagnostics")
    if config.method_name:
        report = replace(report, method_name=config.method_name)
    write(client, run, Finding(report, epoch, None, Knockout(problem="no model"), log))
    _mark(client, run, "a frame of logged diagnostics")
    return Evaluated(run, log.values, log.values[epoch])


def log_metrics(run_id: str, history: Mapping[int, Mapping[str, float]]) -> None:
    """Log metrics by step.

    Raises:
        FATrackError: the store failed.
    """
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    client = store.client()
    with store.store_errors():
        for step, metrics in history.items():
            client.log_batch(run_id, metrics=[Metric(key, value, now, step) for key, value in metrics.items()])


def _mark(client: "MlflowClient", run: "Run", judged: str) -> None:
    """So that an audit, which has not this data, leaves the verdict as it is."""
    with store.store_errors():
        client.set_tag(run.info.run_id, names.TAG_EVALUATED, judged)


def _config(given: Mapping[str, Any]) -> Config:
    try:
        return Config.model_validate(given)
    except ValidationError as error:
        is_unknown = error.errors()[0]["type"] == "extra_forbidden"
        known = f"; there are: {', '.join(Config.model_fields)}" if is_unknown else ""
        raise UsageError(f"evaluator_config: {what_is_wrong(error)}{known}") from error


def _network(
    client: "MlflowClient", model: "PyFuncModel", dataset: "EvaluationDataset", config: Config, scratch: Path
) -> Network:
    module, sha256, name = _module(client, model, scratch)
    given, whole = _data(dataset, config)
    batches = eval_data.fitted(given, module)
    notes, headline = [name], config.headline_acc
    if headline is None:
        every = eval_data.fitted(whole, module)
        headline = accuracy(module, every)
        notes.append(f"accuracy of all {sum(len(y) for _, y in every)} samples given")
    return Network(name, 0, sha256, module, batches, headline, config.layers, tuple(notes))


def _module(client: "MlflowClient", model: "PyFuncModel", scratch: Path) -> "tuple[nn.Module, str | None, str]":
    """The PyTorch module behind what MLflow has loaded, the digest of its weights, and its name.

    An exported model shows no modules in the form in which MLflow has loaded it, so it is loaded anew.
    """
    from torch import fx, nn

    found = model.get_raw_model() if hasattr(model, "get_raw_model") else model
    if not isinstance(found, nn.Module):
        kind = type(found).__name__
        raise UsageError(f"fa_protocol measures models logged with mlflow.pytorch.log_model, not a {kind}")
    logged = _logged(client, model, scratch)
    if logged is None:
        if isinstance(found, fx.GraphModule):
            raise UsageError("an exported model can be measured only from the store that it was logged to")
        return found, None, f"model {type(found).__name__}"
    if logged.weights.name == logged_model.EXPORTED:
        found = exported.load(logged.weights, trusted=True)  # MLflow has loaded it before
    return found, logged.sha256, f"logged model {logged.name}"


def _logged(client: "MlflowClient", model: "PyFuncModel", scratch: Path) -> logged_model.LoggedModel | None:
    """The model's files; None where it comes from elsewhere than this store."""
    meta = model.metadata
    try:
        with store.store_errors():
            if meta.model_id:
                kept = client.get_logged_model(meta.model_id)
                name, location = kept.name, kept.artifact_location
            elif meta.run_id:
                name = meta.artifact_path
                location = f"{client.get_run(meta.run_id).info.artifact_uri.rstrip('/')}/{name}"
            else:
                return None
        return logged_model.read(logged_model.download(client, location, scratch), name, 0)
    except FATrackError:
        return None


def _data(dataset: "EvaluationDataset", config: Config) -> "tuple[eval_data.Batches, eval_data.Batches]":
    """The protocol's batches, and all of the data."""
    if config.eval_batches is not None:
        pairs = [eval_data.pair(x, y, f"eval_batches[{i}]") for i, (x, y) in enumerate(config.eval_batches)]
        return pairs, pairs
    x, y = eval_data.read(config.eval_data) if config.eval_data else _table(dataset, config.input_shape)
    return eval_data.batches(x, y), eval_data.every(x, y)


def _table(dataset: "EvaluationDataset", shape: tuple[int, ...] | None) -> "tuple[Tensor, Tensor]":
    import numpy as np

    if dataset.labels_data is None:
        raise UsageError("data without targets: fa_protocol needs the class index of every sample")
    features = dataset.features_data
    try:
        rows = features if isinstance(features, np.ndarray) else features.to_numpy()
        inputs = rows if shape is None else rows.reshape(len(rows), *shape)
    except ValueError as error:
        raise UsageError(f"evaluator_config: input_shape {shape} does not fit the data: {error}") from error
    return eval_data.pair(inputs, dataset.labels_data, "data")


def _control(client: "MlflowClient", run: "Run", config: Config) -> Control:
    if config.frozen_baseline_acc is not None:
        return Control(config.frozen_baseline_acc, (), "the control's accuracy was given by hand")
    return Controls(client).of(run)
