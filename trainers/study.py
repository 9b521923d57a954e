"""A study: a grid of runs that is known before it starts, skips what the store already holds, and can be resumed."""

import itertools
import multiprocessing
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from fa_tracking.errors import UsageError
from fa_tracking.tracking import names, store
from trainers.config import RunConfig

if TYPE_CHECKING:
    from mlflow.entities import Run

STUDIES = Path(__file__).parent / "studies"

DONE, RUNNING, FAILED, MISSING = "done", "running", "failed", "missing"


class Values(BaseModel):
    """What one parameter takes in a grid."""

    model_config = ConfigDict(extra="forbid")

    values: list[bool | int | float | str]


class Grid(BaseModel):
    """The product of its parameters' values."""

    model_config = ConfigDict(extra="forbid")

    parameters: dict[str, Values]


class Reduction(BaseModel):
    """What ``--reduced`` puts in the place of the study's own settings."""

    model_config = ConfigDict(extra="forbid")

    says: str
    fixed: dict[str, bool | int | float | str] = {}
    seeds: list[int] | None = None


class Study(BaseModel):
    """A study file: every grid with every seed, on top of what is fixed for all."""

    model_config = ConfigDict(extra="forbid")

    title: str
    experiment: str
    seeds: list[int]
    fixed: dict[str, bool | int | float | str] = {}
    grids: list[Grid]
    reduced: Reduction | None = None

    def cells(self) -> list[RunConfig]:
        """Every run of the study, seed by seed, each once.

        Raises:
            UsageError: a parameter does not exist or has a value that it cannot take.
        """
        found: dict[str, RunConfig] = {}
        for seed, grid in itertools.product(self.seeds, self.grids):
            for values in itertools.product(*(v.values for v in grid.parameters.values())):
                config = _config(self.fixed | dict(zip(grid.parameters, values, strict=True)) | {"seed": seed})
                found.setdefault(config.digest, config)
        return list(found.values())

    def smaller(self) -> "Study":
        """The ``--reduced`` form, in an experiment of its own.

        Raises:
            UsageError: the study has none.
        """
        if self.reduced is None:
            raise UsageError(f"the study {self.experiment!r} has no reduced form")
        return self.model_copy(
            update={
                "experiment": f"{self.experiment}_reduced",
                "fixed": self.fixed | self.reduced.fixed,
                "seeds": self.reduced.seeds or self.seeds,
            }
        )


@dataclass(frozen=True)
class Held:
    """What the store knows of a configuration: the run, and the experiment that it stands in."""

    state: str
    run_id: str | None
    experiment: str


@dataclass(frozen=True)
class Cell:
    """One run of a study and what the store knows of it."""

    config: RunConfig
    held: Held


Finished = Callable[[RunConfig, str | None, int, int], None]
"""finished(config, problem, done, total): called after each run; ``problem`` is None where it went well."""


def load(name: str) -> Study:
    """The study ``name`` of ``trainers/studies``, or the YAML file at that path.

    Raises:
        UsageError: there is none, or it is not a study.
    """
    path = STUDIES / f"{name}.yaml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        raise UsageError(f"no study named {name!r}; there are: {', '.join(studies())}; or give the path of a YAML file")
    try:
        return Study.model_validate(yaml.safe_load(path.read_text()))
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a study: {' '.join(str(error).split())[:300]}") from error


def studies() -> list[str]:
    """The names of the studies that come with the project."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def cells(study: Study, tracking_uri: str | None = None) -> list[Cell]:
    """Every run of the study with its state in the store."""
    known = _known(study.experiment, tracking_uri)
    missing = Held(MISSING, None, study.experiment)
    return [Cell(config, known.get(config.digest, missing)) for config in study.cells()]


def run(
    study: Study,
    tracking_uri: str | None = None,
    data_dir: str | None = None,
    jobs: int = 1,
    finished: Finished | None = None,
) -> dict[str, str]:
    """Train what the store does not hold yet, ``jobs`` at a time, each in a process of its own.

    Returns:
        The problem of each run that failed, by the hash of its configuration.

    Raises:
        UsageError: the study names what does not exist; nothing has been trained then.
    """
    todo = [cell.config for cell in cells(study, tracking_uri) if cell.held.state in (MISSING, FAILED)]
    problems: dict[str, str] = {}
    if not todo:
        return problems
    uri = store.client(tracking_uri).tracking_uri
    store.experiment_id(store.client(uri), study.experiment)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=jobs, mp_context=context) as pool:
        futures = {pool.submit(_train, config, study.experiment, uri, data_dir): config for config in todo}
        for done, future in enumerate(as_completed(futures), start=1):
            config = futures[future]
            try:
                problem = future.result()
            except BrokenProcessPool:
                problem = "its process was killed"
            if problem:
                problems[config.digest] = problem
            if finished:
                finished(config, problem, done, len(todo))
    return problems


def describe(config: RunConfig) -> str:
    """What sets a run apart, on one line."""
    parts = [config.method, config.architecture, f"{config.depth}×{config.width}"]
    parts += [f"λ={config.penalty:g}"] if config.penalty else []
    parts += ["frozen"] if config.frozen_blocks else []
    return f"{' '.join(parts)}, seed {config.seed}"


def _train(config: RunConfig, experiment: str, tracking_uri: str, data_dir: str | None) -> str | None:
    """In a process of the pool: train one run; what went wrong, as a line."""
    from trainers.loop import train

    tags = {names.TAG_PROCESS: _process()}
    try:
        train(config, experiment, tracking_uri, data_dir, tags=tags)
    except Exception as error:  # one run's failure, whatever it is, must not end the others
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def _config(values: Mapping[str, Any]) -> RunConfig:
    try:
        return RunConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"parameter {first['loc'][0]!r}: {first['msg']}, got {first['input']!r}") from error


def _known(experiment: str, tracking_uri: str | None) -> dict[str, Held]:
    """What the whole store holds by configuration hash: the best that any run of it has reached.

    A failure elsewhere is no matter of this study, nor is a run that a flag stopped early.
    """
    client = store.client(tracking_uri)
    experiments = {e.experiment_id: e.name for e in store.all_experiments(client)}
    rank: Sequence[str] = (FAILED, RUNNING, DONE)
    known: dict[str, Held] = {}
    for run in store.search_runs(client, list(experiments), f"tags.`{names.TAG_CONFIG_SHA256}` != ''"):
        held = Held(_state(run), run.info.run_id, experiments[run.info.experiment_id])
        if names.TAG_ABORTED_AT in run.data.tags or (held.state == FAILED and held.experiment != experiment):
            continue
        before = known.get(run.data.tags[names.TAG_CONFIG_SHA256])
        if before is None or rank.index(held.state) >= rank.index(before.state):
            known[run.data.tags[names.TAG_CONFIG_SHA256]] = held
    return known


def _state(run: "Run") -> str:
    if run.info.status == "FINISHED":
        return DONE
    if run.info.status == "RUNNING" and _alive(run.data.tags.get(names.TAG_PROCESS, "")):
        return RUNNING
    return FAILED


def _process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _alive(process: str) -> bool:
    """Whether a process runs: on this machine it is asked, on another it is believed."""
    host, _, pid = process.rpartition(":")
    if host != socket.gethostname():
        return bool(host)
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
