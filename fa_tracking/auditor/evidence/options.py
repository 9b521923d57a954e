"""What the caller of an audit chose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from fa_tracking.protocol.thresholds import DiagnosticThresholds


@dataclass(frozen=True)
class Options:
    """What is looked for in a run, how it is judged, and what is written.

    Attributes:
        data_dir: the folder of the data sets; None: where the runs and FA_TRACK_DATA say.
        eval_data: inputs (N, …) and labels (N,), for logged models of runs that record no data of their own.
        layers: the modules of logged models taken as h_0 … h_L.
        trust_pickles: whether models are loaded whose loading runs their author's code.
        pictures: whether the reports have them.
        write: whether the store gets what is found.
    """

    data_dir: str | None
    thresholds: "DiagnosticThresholds"
    eval_data: "tuple[Tensor, Tensor] | None" = None
    layers: Sequence[str] | None = None
    trust_pickles: bool = False
    pictures: bool = True
    write: bool = True
