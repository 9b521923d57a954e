"""What the store knows of a configuration: the best that any run of it has reached."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fa_tracking.tracking import names, store
from fa_tracking.trainers.study import lease

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DONE, ABORTED, RUNNING, KILLED, FAILED, MISSING = "done", "aborted", "running", "killed", "failed", "missing"
SKIPPED = "left to another study that has it"


@dataclass(frozen=True)
class Held:
    """What the store knows of a configuration: the run, and the experiment that it stands in."""

    state: str
    run_id: str | None
    experiment: str


def held_of(client: "MlflowClient", runs: "Iterable[Run]", experiment: str, driver: str = "") -> dict[str, Held]:
    """By configuration hash, the best that any of ``runs`` has reached.

    A failure elsewhere is no matter of this study, nor is a run elsewhere that a flag stopped early.
    """
    experiments = {e.experiment_id: e.name for e in store.all_experiments(client)}
    rank: Sequence[str] = (FAILED, KILLED, ABORTED, RUNNING, DONE)
    best: dict[str, Held] = {}
    for run in runs:
        held = Held(_state(run, driver), run.info.run_id, experiments[run.info.experiment_id])
        if held.state in (FAILED, KILLED, ABORTED) and held.experiment != experiment:
            continue
        before = best.get(run.data.tags[names.TAG_CONFIG_SHA256])
        if before is None or rank.index(held.state) >= rank.index(before.state):
            best[run.data.tags[names.TAG_CONFIG_SHA256]] = held
    return best


def _state(run: "Run", driver: str) -> str:
    if run.info.status == "FINISHED":
        return ABORTED if names.TAG_ABORTED_AT in run.data.tags else DONE
    if lease.in_hand(run, driver):
        return RUNNING
    return FAILED if run.info.status == "FAILED" else KILLED
