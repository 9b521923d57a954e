"""Old logs become MLflow runs: one file a format, each found by the folder's listing.

A format offers

    NAME                 as ``fa-track import NAME`` spells it
    TITLE                what it reads, in a line
    PATTERN              which files of a folder are meant, for a message
    EXAMPLE              lines of Python that write such a log
    find(path)           the logs at or below a path
    read(log, fields)    what stands in it, under its own names: a ``_log.Raw`` for each training

and leaves the names to ``_standard`` and the writing to ``_write``.
"""

import glob
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from fa_tracking import catalogue
from fa_tracking.errors import FATrackError, UsageError, no_such

if TYPE_CHECKING:
    from fa_tracking.importers._fields import Fields
    from fa_tracking.importers._log import Log
    from fa_tracking.importers._params import Given
    from fa_tracking.importers._write import Destination

Progress = Callable[[int, int], None]
"""progress(done, total): called after each log."""

IMPORTED, SKIPPED, FAILED, FOUND = "imported", "skipped", "failed", "found"


@dataclass(frozen=True)
class Imported:
    """What became of one log.

    Attributes:
        source: the file or folder, as it was named.
        state: ``IMPORTED``; ``SKIPPED``: the experiment holds it already, as ``run_id``; ``FAILED``: ``problem`` says
            why; ``FOUND`` by a dry run.
        params: of the run, as MLflow holds them.
        epochs: how many different steps the log has.
        metrics: the names under which its numbers stand.
        points: how many numbers.
        notes: what a reader of the run must know.
        example: lines of Python that write what is expected, where the log has a shape that no reader knows.
    """

    source: str
    state: str
    run_id: str | None = None
    params: Mapping[str, str] | None = None
    epochs: int | None = None
    metrics: tuple[str, ...] = ()
    points: int | None = None
    notes: tuple[str, ...] = ()
    problem: str | None = None
    example: str | None = None


def formats() -> dict[str, ModuleType]:
    """The formats by the name that the command line gives them."""
    import fa_tracking.importers as here

    found = (catalogue.load(here, name) for name in catalogue.names(here))
    return {module.NAME: module for module in found}


def import_logs(
    form: str,
    paths: Iterable[str | Path],
    experiment: str,
    tracking_uri: str | None = None,
    map_file: str | Path | None = None,
    h0_norm: float | None = None,
    control_accuracy: float | None = None,
    grad_batch: int | None = None,
    params: Mapping[str, str] | None = None,
    replace: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> list[Imported]:
    """Write every log at ``paths`` as a finished run of ``experiment``, with all its steps and its files.

    A log is read and checked as a whole before its run is created; a bad one becomes a problem and the others go on.
    One whose SHA-256 the experiment holds already is skipped. A dry run writes nothing and does not ask the store.

    Args:
        form: a name of ``formats()``.
        paths: files, folders and globs.
        experiment: created where it is missing.
        map_file: TOML that says which fields of the logs are meant by which name (``_fields.Fields``).
        h0_norm: ‖h_0‖, where the logs lack it.
        control_accuracy: of the frozen control, in [0, 1].
        grad_batch: over how many samples the loss behind the logged gradient norms was averaged; 128 where None.
        params: what the logs lack; a param that a log has stays as it is there.
        replace: import logs anew that the experiment holds, and delete their earlier runs, which MLflow can restore.

    Raises:
        UsageError: a path, the map or a given value makes no sense, or the experiment was deleted.
        FATrackError: the store does not answer, or the format needs a package that is not installed.
    """
    from fa_tracking.importers import _fields
    from fa_tracking.importers._params import Given
    from fa_tracking.importers._write import Destination

    if form not in formats():
        raise UsageError(no_such("log format", form, formats()))
    reader = formats()[form]
    given = Given(h0_norm, control_accuracy, grad_batch, dict(params or {}))
    fields = _fields.load(Path(map_file)) if map_file else _fields.Fields()
    found = _find(reader, paths)
    destination = Destination(tracking_uri, experiment, [Path(map_file)] if map_file else [])
    results = []
    for done, source in enumerate(found, start=1):
        for log in _read(reader, source, fields, given):
            if isinstance(log, Imported):
                results.append(log)
            else:
                results.append(_told(log, FOUND) if dry_run else _take(destination, log, replace))
        if progress:
            progress(done, len(found))
    return results


def _read(reader: ModuleType, source: Path, fields: "Fields", given: "Given") -> Iterator["Log | Imported"]:
    """The logs of a file or folder, and what became of each that is bad."""
    from fa_tracking.importers._standard import standard

    try:
        parts = reader.read(source, fields)
    except FATrackError as error:
        yield _failed(reader, str(source), error)
        return
    for raw in parts:
        try:
            yield standard(source, raw, fields, given)
        except FATrackError as error:
            yield _failed(reader, _named(source, raw.part), error)


def _failed(reader: ModuleType, source: str, error: FATrackError) -> Imported:
    from fa_tracking.importers._log import UnknownShapeError

    return Imported(
        source, FAILED, problem=str(error), example=reader.EXAMPLE if isinstance(error, UnknownShapeError) else None
    )


def _named(source: Path, part: str) -> str:
    return f"{source} [{part}]" if part else str(source)


def _take(destination: "Destination", log: "Log", replace: bool) -> Imported:
    """Write a log, unless the experiment holds it; what it replaces is deleted when it is whole."""
    same, other = destination.same(log), destination.other(log)
    if same and (same in destination.written or not replace):
        return _told(log, SKIPPED, same, "skipped, as the experiment holds it already; --replace imports it anew")
    try:
        run_id = destination.write(log)
        if not replace:
            changed = [f"it has changed since it became run {other}, which stays beside the new one"] if other else []
            return _told(log, IMPORTED, run_id, *changed)
        if old := same or other:
            destination.delete(old)
        return _told(log, IMPORTED, run_id)
    except FATrackError as error:
        return Imported(_named(log.source, log.part), FAILED, problem=str(error))


def _told(log: "Log", state: str, run_id: str | None = None, *further: str) -> Imported:
    points = sum(map(len, log.points.values()))
    notes = further if state == SKIPPED else (*log.notes, *further)
    return Imported(
        _named(log.source, log.part), state, run_id, log.params, log.epochs, tuple(log.points), points, notes
    )


def _find(reader: ModuleType, paths: Iterable[str | Path]) -> list[Path]:
    """Every log once, in the order of ``paths`` and sorted within each."""
    found: dict[Path, Path] = {}
    for path in map(str, paths):
        literally = glob.glob(glob.escape(path))  # noqa: PTH207 - Path.glob takes no absolute pattern
        matching = literally or sorted(glob.glob(path, recursive=True))  # noqa: PTH207
        logs = [log for each in matching for log in reader.find(Path(each))]
        if not logs:
            where = f"{path} holds no {reader.PATTERN}" if matching else f"there is no {path}"
            raise UsageError(f"{where}: nothing was imported")
        for log in logs:
            found.setdefault(log.resolve(), log)
    return list(found.values())
