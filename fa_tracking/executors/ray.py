"""A Ray cluster: every job is a task. That of RAY_ADDRESS, else one on this machine for as long as it is needed."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.executors import Needs, Outcomes, Problem, Work, as_line, extra

HEEDS = {"jobs", "cpus_per_run", "gpus_per_run", "set"}
OBJECT_STORE = 256 * 2**20
"""Bytes of a cluster of our own: what goes through it is a job's config and its outcome."""


def run(work: Work, jobs: Sequence[Any], needs: Needs) -> Outcomes:
    """Hands out tasks that Ray places where there is room; it runs none again by itself, whoever called does."""
    ray = extra("ray", "ray")
    with _cluster(ray):
        _refuse_impossible(ray, needs)
        try:
            task = ray.remote(_call).options(
                num_cpus=needs.cpus_per_run, num_gpus=needs.gpus_per_run, max_retries=0, **needs.set
            )
        except (TypeError, ValueError) as error:
            raise UsageError(f"--set: {as_line(error)}") from error
        waiting, shared = enumerate(jobs), ray.put(work)
        running: dict[Any, int] = {}
        while True:
            for index, job in islice(waiting, (needs.jobs or len(jobs)) - len(running)):
                running[task.remote(shared, job)] = index
            if not running:
                return
            for ended in ray.wait(list(running), num_returns=1)[0]:
                yield running.pop(ended), _outcome(ray, ended)


def _call(work: Work, job: Any) -> Any:
    return work(job)


def _outcome(ray: Any, ended: Any) -> Any:
    try:
        return ray.get(ended)
    except ray.exceptions.RayTaskError as error:
        return Problem(as_line(error.cause), lost=False)
    except ray.exceptions.RayError as error:
        return Problem(f"its worker or its node was lost: {type(error).__name__}", lost=True)


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Connected to a cluster; one that is already connected stays so."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS")
    own = {} if address else {"object_store_memory": OBJECT_STORE, "include_dashboard": False}
    try:
        ray.init(address=address or "local", logging_level="ERROR", log_to_driver=False, **own)
    except (Exception, SystemExit) as error:  # it leaves with status 15 where nobody answers
        raise FATrackError(f"no Ray cluster at {address or 'this machine'}: {as_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _refuse_impossible(ray: Any, needs: Needs) -> None:
    """Ray waits for ever for a node that is large enough."""
    wanted = {"CPU": needs.cpus_per_run, "GPU": needs.gpus_per_run}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(kind, 0) >= amount for kind, amount in wanted.items()) for node in nodes):
        asked = " and ".join(f"{amount:g} {kind}" for kind, amount in wanted.items() if amount)
        raise UsageError(f"no node of the Ray cluster has {asked} for a run: `ray status` says what they have")
