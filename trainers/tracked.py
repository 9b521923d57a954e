"""A run: begun in MLflow, trained to its end, and taken up again where its process was killed."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import ValidationError

from fa_tracking import cells
from fa_tracking.errors import UsageError, reason_of
from fa_tracking.tracking import names, process, store
from fa_tracking.tracking.opening import resume_run, start_run
from fa_tracking.tracking.run import TrackedRun
from fa_tracking.trainers import data
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.learner import learner_of
from fa_tracking.trainers.options import DEFAULTS, RunOptions
from fa_tracking.trainers.running import Probe, Progress, Running, resumed, train_on

if TYPE_CHECKING:
    from mlflow.entities import Run


def train(
    config: RunConfig,
    experiment: str,
    tracking_uri: str | None = None,
    options: RunOptions = DEFAULTS,
    *,
    progress: Progress | None = None,
    started: Callable[[str], None] | None = None,
    tags: Mapping[str, str] | None = None,
    run_id: str | None = None,
) -> str:
    """Train one run, logging diagnostics each epoch and a checkpoint at the end; its MLflow run id.

    The same config on the same machine with the same number of threads gives the same metrics to the last bit, also
    where a process was killed on the way and another one went on with the run.

    Args:
        started: called with the run's id before it trains; what it raises ends the run.
        run_id: go on with this run of the same config, from the last training state that it saved.

    Raises:
        UsageError: the config names something that does not exist, or there is no such device; nothing is written then.
    """
    if not experiment:
        raise UsageError("the experiment needs a name")
    prepare(options)
    dataset = data.load(config.dataset, options.data_dir, options.download)
    learner, on_device = learner_of(config, dataset, options.device), dataset.to(options.device)
    tags = tags_of(config, options.data_dir, tags)
    opened = resume_run(run_id, tracking_uri) if run_id else new_run(config, experiment, tracking_uri, tags)
    with opened as run:
        for key, value in tags.items() if run_id else ():
            run.set_tag(key, value)
        if started:
            started(run.run_id)
        running = Running.of(learner, on_device, Probe.of(learner, on_device), run, options)
        train_on(running, resumed(running) + 1, progress)
    return run.run_id


def resume(
    run_id: str,
    tracking_uri: str | None = None,
    options: RunOptions = DEFAULTS,
    *,
    progress: Progress | None = None,
    started: Callable[[str], None] | None = None,
) -> str:
    """Go on with a run of ``train`` whose process was killed; the name of its experiment.

    Its data are sought where it had them, unless ``options`` name a folder.

    Raises:
        UsageError: there is no such run, it is finished, is being written by another process, or was not begun by
            ``train`` of this version.
    """
    client = store.reader(tracking_uri)
    with store.store_errors():
        run = client.get_run(run_id)
        experiment = client.get_experiment(run.info.experiment_id).name
    if run.info.status == "FINISHED":
        raise UsageError(f"run {run_id} is finished")
    if run.info.status == "RUNNING" and process.is_alive(run.data.tags.get(names.TAG_PROCESS, "")):
        raise UsageError(f"run {run_id} is still being written by {run.data.tags[names.TAG_PROCESS]}")
    config = _config_of(run)
    options = replace(options, data_dir=options.data_dir or run.data.tags.get(names.TAG_DATA_DIR))
    train(config, experiment, tracking_uri, options, progress=progress, started=started, run_id=run_id)
    return experiment


def _config_of(run: "Run") -> RunConfig:
    params = run.data.params
    meant: dict[str, str | int | None] = {name: params.get(name, cells.ABSENT.get(name)) for name in names.PARAMS}
    meant[names.TRAINABLE_BLOCKS] = cells.trained_blocks(params)  # where all are, a cell's params hold no number
    config, why = None, ""
    try:
        config = RunConfig(**{name: value for name, value in meant.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        why = f": {' '.join([*map(str, first['loc']), reason_of(first)])}"
    if config is None or config.digest != run.data.tags.get(names.TAG_CONFIG_SHA256):
        raise UsageError(
            f"run {run.info.run_id} was not begun by `fa-track train` or `fa-track study` of this version{why}"
        )
    return config


def prepare(options: RunOptions) -> None:
    """Set what torch uses in this process.

    Raises:
        UsageError: there is no such device.
    """
    torch.set_num_threads(options.threads)
    torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms(True), which imports the compiler
    # else every new tensor is written twice
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    must_be_here(options.device)


def must_be_here(device: str) -> None:
    """Refuse a device that torch does not find.

    Raises:
        UsageError: there is no such device.
    """
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = str(error).splitlines()[0].partition(". ")[0]
        raise UsageError(f"no device {device!r} here: {said}") from error


def tags_of(config: RunConfig, data_dir: str | None, tags: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a run carries beside its params."""
    return {
        names.TAG_CONFIG_SHA256: config.digest,
        **(tags or {}),
        **({names.TAG_DATA_DIR: str(Path(data_dir).resolve())} if data_dir else {}),
    }


def new_run(
    config: RunConfig, experiment: str, tracking_uri: str | None, tags: Mapping[str, str], active: bool = True
) -> AbstractContextManager[TrackedRun]:
    """The run of a config, for the length of a ``with`` block."""
    params = {name: getattr(config, name) for name in names.PARAMS}
    return start_run(experiment, tracking_uri, tags=tags, active=active, **params)
