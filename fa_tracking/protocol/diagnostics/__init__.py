"""One file a diagnostic, walked in the order of ``ORDER``.

A file's contract, as module attributes (none of them imports torch at the top):

    ORDER      its place in the report and in the verdict
    FLAG       its letter in ``fa.flags``
    TITLE      the heading of its section in the printed report
    WORDING    what the verdict says when it fires
    REQUIRED   False where a report without this measurement may still be trustworthy
    COLUMN     the column of its number in the table audits (optional: the four that have one)
    QUANTITY   what that number is, in a table
    THRESHOLD  where it fires (optional): the option of the command line follows from it

    measure(captures) -> dict     the fields of the report that it measures, from captured tensors (optional);
                                  under "remarks" what a reader must know of them
    value(report) -> float | None the number that is held against the threshold; None: not measured
                                  (of partial evidence what is known of it: a bound, or the number of another layer)
    fires(report) -> bool | None  None: not measured
    kind(report) -> Kind          how far the value is known (optional; without it: exact)
    explain(report) -> list[str]  the lines of its section
"""

import importlib
import pkgutil
from functools import cache
from types import ModuleType

from fa_tracking.protocol.table import Threshold


@cache
def catalogue() -> tuple[ModuleType, ...]:
    """Every diagnostic of this folder, in the order of the verdict."""
    modules = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    return tuple(sorted(modules, key=lambda module: module.ORDER))


def stored() -> tuple[ModuleType, ...]:
    """The diagnostics whose number and threshold have columns of their own in the results database."""
    return tuple(d for d in catalogue() if hasattr(d, "COLUMN"))


def thresholds() -> tuple[Threshold, ...]:
    """Those of the diagnostics that have one, in the order of the verdict."""
    return tuple(d.THRESHOLD for d in catalogue() if hasattr(d, "THRESHOLD"))
