"""What a person sees of a run that trains: its id at the start, its accuracy at the end, how to go on after Ctrl-C."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from fa_tracking.cli._show import resume_words, say, typed
from fa_tracking.cli._stop import going_on
from fa_tracking.spelled import short


class Watched:
    """A run as far as it is seen.

    Attributes:
        first, epoch: the first and the last epoch that ended; None before one has.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self.epoch: int | None = None
        self._run_id = ""
        self._epochs = 0
        self._accuracy: float | None = None

    def start(self, run_id: str) -> None:
        """Print the id; of a process that writes no run there is none."""
        self._run_id = run_id
        if run_id:
            click.echo(run_id)

    def each_epoch(self, update: Callable[[float, int], None]) -> Callable[[int, int, float], None]:
        """What the loop calls after each epoch, which moves the bar."""

        def ended(epoch: int, epochs: int, accuracy: float) -> None:
            self.first = epoch if self.first is None else self.first
            self.epoch, self._epochs, self._accuracy = epoch, epochs, accuracy
            update(epoch, epochs)

        return ended

    def say_accuracy(self) -> None:
        if self._accuracy is not None:
            say(f"accuracy {short(self._accuracy)} on the test set after epoch {self.epoch} of {self._epochs}")

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Say on Ctrl-C after which epoch the run stopped, and how to go on with it."""

        def where() -> str:
            return f"after epoch {self.epoch} of {self._epochs}" if self.epoch else "before its first epoch ended"

        def resuming() -> str:
            words = resume_words(self._run_id)
            return f"{typed(*words)}   # goes on from its last saved training state" if self._run_id else ""

        with going_on(resuming, where):
            yield
