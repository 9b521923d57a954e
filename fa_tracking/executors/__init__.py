"""Where independent jobs run: one file an executor, found by the folder's listing.

An executor is a module with ``HEEDS``, the fields of ``Needs`` that it knows, and
``run(work, jobs, needs)``, a generator that yields the index of each job and what ``work`` returned or a ``Problem``,
in the order in which they end. ``work(job)`` stands at the top of a module, so that another machine can import it; what
it is given and what it returns can be pickled. Whoever closes the iterator before its end stops the jobs under way.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from types import ModuleType
from typing import Any

from fa_tracking import catalogue
from fa_tracking.errors import UsageError

Work = Callable[[Any], Any]
Outcomes = Generator[tuple[int, Any], None, None]


@dataclass(frozen=True)
class Needs:
    """What is asked of an executor.

    Attributes:
        jobs: that run at a time; None: as many as fit, and in processes of this machine one.
        cpus_per_run: that a job may use.
        gpus_per_run: of a job; less than one where jobs share a GPU.
        retries: how often a job is run again whose process or machine was lost.
        cells_per_job: jobs that one task of a Slurm array runs, one after the other.
        set: what is handed to the engine as it is, such as ``partition``.
    """

    jobs: int | None = None
    cpus_per_run: int = 1
    gpus_per_run: float = 0
    retries: int = 2
    cells_per_job: int = 1
    set: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """Why a job has no result, on one line; ``lost``: its process or its machine ended under it."""

    text: str
    lost: bool


def run(name: str, work: Work, jobs: Sequence[Any], needs: Needs | None = None) -> Outcomes:
    """Run ``work`` on each job by the executor ``name``; a job that was lost is run again after the others.

    Yields:
        The index of a job, and what ``work`` returned or a ``Problem``, as they end.

    Raises:
        UsageError: there is no such executor, it is not installed, or it does not know what is asked of it.
    """
    engine, needs = catalogue.load(sys.modules[__name__], name), needs or Needs()
    _refuse_unheeded(name, engine, needs)
    waiting = list(range(len(jobs)))
    for tries_left in reversed(range(needs.retries + 1)):
        lost = []
        with closing(engine.run(work, [jobs[index] for index in waiting], needs)) as outcomes:
            for place, outcome in outcomes:
                if isinstance(outcome, Problem) and outcome.lost and tries_left:
                    lost.append(waiting[place])
                else:
                    yield waiting[place], outcome
        if not lost:
            return
        waiting = lost
        needs = replace(needs, cells_per_job=1)  # one that kills its process takes no other with it twice


def names() -> list[str]:
    """The executors that there are."""
    return catalogue.names(sys.modules[__name__])


def extra(module: str, executor: str) -> Any:
    """The library that an executor is made of.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"the executor {executor!r} is not installed: pip install 'fa-track[{executor}]'") from error


def end_process() -> None:
    """End this process, which an executor began, at once and with all its threads, from whichever thread it is."""
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows knows the other alone, and means this


def as_line(error: BaseException) -> str:
    """An exception on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _refuse_unheeded(name: str, engine: ModuleType, needs: Needs) -> None:
    plain = Needs()
    asked = {f.name for f in fields(Needs) if getattr(needs, f.name) != getattr(plain, f.name)}
    unknown = [f"--{option.replace('_', '-')}" for option in sorted(asked - engine.HEEDS - {"retries"})]
    if unknown:
        raise UsageError(f"the executor {name!r} knows no {' and no '.join(unknown)}")
