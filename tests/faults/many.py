"""Eight processes train into one SQLite store, while audits and exports of it run."""

from pathlib import Path
from typing import Any

from tests.faults._kill import fa_track, started
from tests.faults._store import TINY, runs
from tests.stores import new_store

PROCESSES = 8
READERS = (("audit", "--experiment", "many", "--no-pictures"), ("export",))


def tried(folder: Path, small: bool) -> tuple[str, list[str]]:
    epochs = 2 if small else 300
    new_store(folder)
    fa_track(("train", "bp", "--experiment", "many", "--epochs", "0", *TINY), folder)
    words = ("train", "bp", "--experiment", "many", "--epochs", str(epochs), *TINY, "--seed")
    training = [started((*words, str(seed)), folder, f"train_{seed}.log") for seed in range(PROCESSES)]
    others: list[Any] = []
    while any(process.exitcode is None for process in training):
        for reader in READERS:
            others.append(started(reader, folder, f"reader_{len(others)}.log"))
            others[-1].join()
    for reader in READERS:
        fa_track(reader, folder)
    problems = [f"{process.exitcode} is how a process ended" for process in (*training, *others) if process.exitcode]
    problems += [
        f"{log.name}: {text.strip().splitlines()[-1]}"
        for log in folder.glob("*.log")
        if any(word in (text := log.read_text()) for word in ("locked", "Traceback", "Error"))
    ]
    found = [run for run in runs(folder).values() if ("epochs", str(epochs), 0) in run["params"]]
    steps = [sorted(step for key, step, *_ in run["metrics"] if key == "accuracy/test") for run in found]
    if steps != [list(range(epochs + 1))] * PROCESSES or len({len(run["metrics"]) for run in found}) != 1:
        problems.append(f"{len(found)} runs of {PROCESSES} with the epochs {steps}")
    if any("fa.verdict" not in run["tags"] for run in found):
        problems.append("a run has no verdict after the last audit")
    return f"{PROCESSES} processes of {epochs} epochs, {len(others)} audits and exports meanwhile", problems
