"""A study of four runs, two at a time."""

import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from fa_tracking.cli import main
from fa_tracking.tracking import names
from tests.faults._kill import Left, fa_track
from tests.faults._store import Run, learned, runs

WORDS = ["study", "run", "small.yaml", "--jobs", "2"]
STUDY = """
title: four small runs
experiment: small
seeds: [1, 2]
fixed: {width: 8, depth: 2, dataset: digits, epochs: 3, lr: 0.01}
grids:
- parameters:
    method: {values: [bp, dfa]}
"""
DONE = re.compile(r"^\d of \d: .*: done", re.MULTILINE)


Held = dict[str, list[Run]]


def COMMAND() -> None:  # noqa: N802
    """``fa-track study run``, with workers that need not import anything."""
    fork_workers()
    sys.argv = ["fa-track", *WORDS]
    main(prog_name="fa-track")


def prepare(folder: Path, fa_track: Callable[..., None]) -> None:
    (folder / "small.yaml").write_text(STUDY)
    (folder / "mlflow.db").unlink()  # MLflow may be killed too while it makes one


def again(folder: Path, _: Callable[..., None]) -> None:
    fa_track(COMMAND, folder)


def held(folder: Path) -> Held:
    """The finished runs of each configuration, by their ids."""
    found: Held = {}
    for run_id, run in runs(folder).items():
        if run["status"] == "FINISHED":
            found.setdefault(run["tags"][names.TAG_CONFIG_SHA256], []).append({"id": run_id, **run})
    return found


def broken(before: Held, left: Left, after: Held) -> Iterator[str]:
    for config, finished in left.held.items():
        if [learned(run) for run in finished] != [learned(run) for run in after[config]]:
            yield f"the finished run of {config[:8]} is not what it is undisturbed"
    if len(DONE.findall(left.said)) > len(left.held):
        yield "a run was said to be done that is not finished"


def unlike(left: Left, again: Held, after: Held) -> Iterator[str]:
    if again.keys() != after.keys() or any(len(finished) != 1 for finished in again.values()):
        yield f"{sum(map(len, again.values()))} runs are finished, of {len(again)} configurations of {len(after)}"
    for config, (run, *_) in again.items():
        if config in left.held and run != left.held[config][0]:
            yield f"{config[:8]} was finished, and was done again"
        if learned(run) != learned(after[config][0]):
            yield f"{config[:8]} differs from the run that was never killed"


def fork_workers() -> None:
    """Make the workers of this process's executor forks of it as it stands, before it opens a store."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")  # in no folder: Linux chooses a name
    listener.listen()
    alive_r, alive_w = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(alive_w)
        try:
            forkserver.main(listener.detach(), alive_r, [])
        finally:
            os._exit(0)  # when the command and its workers have ended
    os.close(alive_r)
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    server._forkserver_address = listener.getsockname()
    server._forkserver_alive_fd, server._forkserver_pid = alive_w, pid
    listener.close()
