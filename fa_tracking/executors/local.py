"""Processes of this machine: a killed one takes its own job with it and no other; all end with this one."""

import multiprocessing
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import forkserver, resource_tracker
from typing import Any

from fa_tracking.executors import Needs, Outcomes, Problem, Work, as_line, end_process

HEEDS = {"jobs", "cpus_per_run"}
LIBRARIES = ("mlflow", "torch", "torch._dynamo")
"""Imported once, for all processes and for those that take the place of killed ones; torch imports the last with the
first optimizer."""


def start(*modules: str) -> None:
    """Begin to import what the work of ``modules`` needs, in a process of its own, while this one imports its own."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([*LIBRARIES, *modules])
    resource_tracker.ensure_running()  # first, as it lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is this process's to answer
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run(work: Work, jobs: Sequence[Any], needs: Needs) -> Outcomes:
    """As many processes as jobs at a time, each for job after job."""
    waiting = enumerate(jobs)
    idle = [_process(work) for _ in range(min(needs.jobs or 1, len(jobs)))]
    running: dict[Future[Any], tuple[int, ProcessPoolExecutor]] = {}
    try:
        while True:
            for index, job in islice(waiting, len(idle)):
                process = idle.pop()
                running[process.submit(work, job)] = index, process
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index, process = running.pop(future)
                outcome = _outcome(future)
                if isinstance(outcome, Problem) and outcome.lost:
                    process.shutdown()
                    process = _process(work)
                idle.append(process)
                yield index, outcome
    finally:
        for process in [*idle, *(process for _, process in running.values())]:
            process.shutdown(cancel_futures=True)


def _process(work: Work) -> ProcessPoolExecutor:
    """One process, which starts with its first job: the fork of a fresh one that has imported what the work needs."""
    start(getattr(work, "func", work).__module__)
    return ProcessPoolExecutor(1, multiprocessing.get_context("forkserver"), initializer=end_with_parent)


def _outcome(future: Future[Any]) -> Any:
    try:
        return future.result()
    except BrokenProcessPool:
        return Problem("its process was killed", lost=True)
    except Exception as error:
        return Problem(as_line(error), lost=False)


def end_with_parent() -> None:
    """In a process of the pool: when the one that gave it work is killed, so is what it works on."""

    def wait_for_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        end_process()

    threading.Thread(target=wait_for_parent, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
