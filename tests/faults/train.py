"""A training run that saves its state in every epoch and a checkpoint in every second one, then recover and resume."""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

from fa_tracking.errors import CheckpointError
from fa_tracking.tracking import checkpoint, names
from fa_tracking.tracking.spool.journal import NAME
from tests.faults._kill import Left
from tests.faults._store import Run, learned, runs

CONFIG = {"width": 8, "depth": 2, "dataset": "digits", "epochs": 6, "lr": 0.01}
REPORTED = re.compile(r"^epoch (\d+) is logged$", re.MULTILINE)


def COMMAND() -> None:  # noqa: N802
    """What ``fa-track train`` does, an epoch a line instead of its bar."""
    config = import_module("fa_tracking.trainers.config").RunConfig(method="dfa", **CONFIG)
    import_module("fa_tracking.trainers.tracked").train(
        config,
        "small",
        options=import_module("fa_tracking.trainers.options").RunOptions(checkpoint_every=2, state_seconds=0),
        progress=lambda epoch, *_: print(f"epoch {epoch} is logged", flush=True),
    )


def prepare(folder: Path, fa_track: Callable[..., None]) -> None:
    fa_track("train", "bp", "--experiment", "other", "--epochs", "0", "--dataset", "digits", "--width", "8")


def again(folder: Path, fa_track: Callable[..., None]) -> None:
    fa_track("recover")
    begun = {run: found for run, found in _of_it(folder).items() if found["params"]}
    if not begun:
        config = [f"--{key}={value}" for key, value in CONFIG.items()]
        fa_track("train", "dfa", "--experiment", "small", "--checkpoint-every", "2", *config)
    for run, found in begun.items():
        if found["status"] != "FINISHED":
            fa_track("resume", run, "--checkpoint-every", "2")


def held(folder: Path) -> dict[str, Any]:
    """The runs; the epochs that wait in the spool; the weights of the checkpoints that the auditor takes."""
    found = _of_it(folder)
    return {"runs": found, "waiting": set(_waiting(folder)), "weights": dict(_weights(folder, found))}


def broken(before: dict[str, Any], left: Left, after: dict[str, Any]) -> Iterator[str]:
    stored = {
        step for run in left.held["runs"].values() for key, step, *_ in run["metrics"] if key == names.ACCURACY_TEST
    }
    if lost := set(map(int, REPORTED.findall(left.said))) - stored - left.held["waiting"]:
        yield f"epochs {sorted(lost)} were reported as logged, and are gone"
    for path, weights in left.held["weights"].items():
        if weights != after["weights"][path]:
            yield f"{path} is taken, and holds other weights"


def unlike(left: Left, again: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    finished = [run for run in again["runs"].values() if run["status"] == "FINISHED"]
    if [learned(run) for run in finished] != [learned(run) for run in after["runs"].values()]:
        yield f"{len(finished)} runs are finished, of 1, or it differs from the run that was never killed"
    if again["waiting"]:
        yield f"epochs {sorted(again['waiting'])} still wait"


def _of_it(folder: Path) -> dict[str, Run]:
    return {run: found for run, found in runs(folder).items() if found["experiment"] == "small"}


def _waiting(folder: Path) -> Iterator[int]:
    for journal in folder.glob(f"spool/*/{NAME}"):
        with closing(sqlite3.connect(journal)) as opened:
            if not opened.execute("select * from sqlite_master where name = 'entries'").fetchall():
                continue
            for (entry,) in opened.execute("select entry from entries"):
                for _, _, _, step in json.loads(entry).get("metrics", ()):
                    yield step


def _weights(folder: Path, found: dict[str, Run]) -> Iterator[tuple[str, str]]:
    for run in found.values():
        for path in {str(Path(p).parent) for p in run["artifacts"] if p.startswith(names.CHECKPOINTS)}:
            try:
                yield path, checkpoint.read(Path(run["where"]) / path).sha256
            except CheckpointError:
                continue
