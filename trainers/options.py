"""How a run is trained beside what it is: nothing here changes its config, and the defaults are the command line's."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fa_tracking.tracking.abort import Abort


@dataclass(frozen=True)
class RunOptions:
    """Where a run's data lie, what trains it, what it saves and when it stops.

    Attributes:
        data_dir: the folder of the data; FA_TRACK_DATA where None.
        download: let torchvision fetch what the folder lacks.
        checkpoint_every: also save a checkpoint every so many epochs; 0: only the last.
        state_seconds: save the training state at the end of an epoch when so many seconds have passed since the last.
        threads: of the matrix products. One a process is best where several runs train side by side.
        device: as torch names it: the network and the data lie there.
        abort: stops the run where a flag holds; its last checkpoint is saved then as at the planned end. In a study
            each run is counted by itself; without it, a run that a flag has stopped before is trained anew there.
        functional: measure in each epoch what the credits do to the loss; an audit does so in any case.
    """

    data_dir: str | None = None
    download: bool = False
    checkpoint_every: int = 0
    state_seconds: float = 60.0
    threads: int = 1
    device: str = "cpu"
    abort: "Abort | None" = None
    functional: bool = False


DEFAULTS = RunOptions()

Most = int | Literal["auto", "off"]


@dataclass(frozen=True)
class Stacking:
    """Which runs of a study train as one program.

    Attributes:
        most: of one shape: ``auto`` where it pays, ``off``, or so many at most.
        compiled: whether ``torch.compile`` makes a program of each stack's step.
    """

    most: Most = "off"
    compiled: bool = False
