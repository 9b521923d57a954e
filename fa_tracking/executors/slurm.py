"""Slurm, by submitit: jobs packed into the tasks of job arrays; with ``cluster=local``, into processes of its own."""

import os
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from fa_tracking.errors import UsageError
from fa_tracking.executors import Needs, Outcomes, Problem, Work, as_line, extra

HEEDS = {"jobs", "cpus_per_run", "gpus_per_run", "cells_per_job", "set"}
FOLDER = "fa-track-slurm"
"""In the working folder, which all nodes must see: what is handed over, what comes back, and the logs."""
LONGEST_ARRAY = 1000
"""Tasks; Slurm's own MaxArraySize is 1001 where nobody has raised it."""
DAY = 24 * 60
POLL = 0.5
"""Seconds between two looks at the folder."""


def run(work: Work, jobs: Sequence[Any], needs: Needs) -> Outcomes:
    """One array of all jobs, ``cells_per_job`` to a task; beyond what it can hold, more follow as tasks end."""
    executor = _executor(needs)
    at_a_time = needs.jobs or (os.cpu_count() or 1 if executor.cluster == "local" else LONGEST_ARRAY)
    packs = iter(_packed(list(enumerate(jobs)), needs.cells_per_job))
    running: dict[Any, list[tuple[int, Any]]] = {}
    try:
        while True:
            free = list(islice(packs, min(at_a_time, LONGEST_ARRAY) - len(running)))
            running |= dict(zip(_submit(executor, work, free), free, strict=True))
            if not running:
                return
            ended = [task for task in running if task.done()]
            for task in ended:
                pack = running.pop(task)
                yield from zip((index for index, _ in pack), _outcomes(task, len(pack)), strict=True)
            if not ended:
                time.sleep(POLL)
    finally:
        for task in running:
            task.cancel(check=False)


def _executor(needs: Needs) -> Any:
    submitit = extra("submitit", "slurm")
    given = dict(needs.set)
    cluster = given.pop("cluster", "slurm")
    if needs.gpus_per_run != int(needs.gpus_per_run):
        raise UsageError(f"Slurm hands out whole GPUs, not {needs.gpus_per_run:g} of one: --executor ray shares them")
    try:
        executor = submitit.AutoExecutor(Path(given.pop("folder", FOLDER)).resolve(), cluster=cluster)
        executor.update_parameters(
            name="fa-track",
            timeout_min=DAY,
            cpus_per_task=needs.cpus_per_run,
            gpus_per_node=int(needs.gpus_per_run) or None,
            **{f"slurm_{key}": int(value) if value.isdigit() else value for key, value in given.items()},
        )
    except (NameError, ValueError, RuntimeError) as error:
        raise UsageError(f"{as_line(error)}; without Slurm, --set cluster=local tries it on this machine") from error
    return executor


def _packed(jobs: list[tuple[int, Any]], size: int) -> list[list[tuple[int, Any]]]:
    return [jobs[i : i + size] for i in range(0, len(jobs), size)]


def _submit(executor: Any, work: Work, packs: list[list[tuple[int, Any]]]) -> list[Any]:
    if not packs:
        return []
    with executor.batch():
        return [executor.submit(_call_all, work, [job for _, job in pack]) for pack in packs]


def _call_all(work: Work, jobs: Sequence[Any]) -> list[Any]:
    """In a task: job after job; an exception of one ends none of the others."""
    outcomes = []
    for job in jobs:
        try:
            outcomes.append(work(job))
        except Exception as error:
            outcomes.append(Problem(as_line(error), lost=False))
    return outcomes


def _outcomes(task: Any, size: int) -> list[Any]:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        outcomes: list[Any] = task.result()
    except UncompletedJobError:
        return [Problem(f"its Slurm task {task.job_id} ended without a result: {task.paths.stderr}", lost=True)] * size
    except FailedJobError as error:
        return [Problem(str(error).strip().splitlines()[-1], lost=False)] * size
    return outcomes
