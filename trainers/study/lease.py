"""One process for each configuration, of all that share a store: told by the store alone, as no lock reaches further.

Whoever begins a run writes it into the store first and looks for others second. Of two that begin at once, the one
whose run came later sees the other's, whatever their clocks say, and withdraws; where each sees the other's, both do,
and look again after a while of their own. A run is in hand as long as its process gives signs of life. A process that
finds its run in another's hands ends.
"""

import random
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from fa_tracking.errors import FATrackError
from fa_tracking.executors import end_process
from fa_tracking.tracking import names, process, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

BEAT = 60.0
"""Seconds between two signs of life."""
LEASE = 300.0
"""Seconds without one after which a run on another machine is lost. Clocks may differ by what is above ``BEAT``."""
PATIENCE = 2.0
"""Seconds that one who has withdrawn waits at most before it looks again."""


class TakenError(Exception):
    """Another process has the configuration, or has trained it by now."""


def runs_of(client: "MlflowClient", digest: str = "") -> "list[Run]":
    """Every run of a configuration in the whole store; of all configurations where none is given."""
    experiments = [e.experiment_id for e in store.all_experiments(client)]
    compared = f"= '{digest}'" if digest else "!= ''"
    return list(store.search_runs(client, experiments, f"tags.`{names.TAG_CONFIG_SHA256}` {compared}"))


def in_hand(run: "Run", driver: str = "") -> bool:
    """Whether a process trains it: on this machine it is asked, on another its signs of life are believed.

    A run of `fa-track train` gives none; on another machine it is believed.

    Args:
        driver: of a study that asks for a run to train: it hands each out once at a time, so that of its own runs none
            is in hand.
    """
    if run.info.status != "RUNNING" or (driver and run.data.tags.get(names.TAG_DRIVER) == driver):
        return False
    writer, sign_of_life = run.data.tags.get(names.TAG_PROCESS, ""), run.data.tags.get(names.TAG_ALIVE)
    if sign_of_life is None or process.is_here(writer):
        return process.is_alive(writer)
    with suppress(ValueError):
        return time.time() - float(sign_of_life) < LEASE
    return False


def is_done(run: "Run") -> bool:
    """Whether it was trained to its end: one that a flag has stopped was not."""
    return run.info.status == "FINISHED" and names.TAG_ABORTED_AT not in run.data.tags


def bury(client: "MlflowClient", runs: "Iterable[Run]") -> None:
    """Runs whose processes are gone do not stand as running for ever."""
    for run in runs:
        if run.info.status == "RUNNING":
            with store.store_errors():
                client.set_terminated(run.info.run_id, "KILLED")


class Lease:
    """The hold of this process on a configuration, for the length of a ``with`` block.

    Attributes:
        tags: what the run carries from its first moment on.
    """

    def __init__(self, client: "MlflowClient", digest: str, driver: str) -> None:
        self.tags = {names.TAG_PROCESS: process.this(), names.TAG_DRIVER: driver, names.TAG_ALIVE: _now()}
        self._client, self._digest, self._driver = client, digest, driver
        self._run_id = ""
        self._ended = threading.Event()

    def take_up(self, lost: "Run") -> str:
        """Write this process on a run whose own is gone, to go on with it; its id.

        For as long as that takes, a run that is of no other use stands for the lease.

        Raises:
            TakenError: another process has the configuration.
        """
        run_id = str(lost.info.run_id)
        with store.store_errors():
            marks = {**self.tags, names.TAG_CONFIG_SHA256: self._digest}
            self._run_id = self._client.create_run(lost.info.experiment_id, tags=marks, run_name="lease").info.run_id
        self._refuse_others(self._run_id)
        with store.store_errors():
            for key, value in self.tags.items():
                self._client.set_tag(run_id, key, value)
            self._client.update_run(run_id, status="RUNNING")
            self._client.delete_run(self._run_id)
        return run_id

    def begin(self, run_id: str) -> None:
        """Hold the run that has just begun.

        Raises:
            TakenError: another process has begun one too; at the end of the block this one is deleted.
        """
        self._run_id = run_id
        self._refuse_others(run_id)
        self.hold(run_id)

    def hold(self, run_id: str) -> None:
        """Give signs of life of a run, from now on."""
        self._run_id = run_id
        threading.Thread(target=self._give_signs_of_life, daemon=True).start()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        if kind is TakenError:
            with store.store_errors():
                self._client.delete_run(self._run_id)
            time.sleep(random.uniform(0.1, PATIENCE))

    def _refuse_others(self, mine: str) -> None:
        others = [run for run in runs_of(self._client, self._digest) if run.info.run_id != mine]
        if any(in_hand(run, self._driver) or is_done(run) for run in others):
            raise TakenError

    def _give_signs_of_life(self) -> None:
        while not self._ended.wait(BEAT):
            with suppress(FATrackError), store.store_errors():  # a store that is away for a while ends nothing
                run = self._client.get_run(self._run_id)
                if run.info.status == "KILLED" or run.data.tags.get(names.TAG_PROCESS) != process.this():
                    end_process()
                self._client.set_tag(self._run_id, names.TAG_ALIVE, _now())


def _now() -> str:
    return str(int(time.time()))
