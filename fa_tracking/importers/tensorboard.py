"""TensorBoard's event files, one folder per run, read record by record with its own reader: no point is lost."""

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fa_tracking.errors import FATrackError
from fa_tracking.importers._beside import LIGHTNING, settings
from fa_tracking.importers._events import events, hparams, results
from fa_tracking.importers._fields import Fields, safe
from fa_tracking.importers._log import Point, Raw, UnknownShapeError
from fa_tracking.importers._restarts import Course, Part
from fa_tracking.importers._standard import DIAGNOSED
from fa_tracking.tracking import names

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

NAME = "tensorboard"
TITLE = "TensorBoard event files, one folder per run."
PATTERN = "*tfevents*"
EXAMPLE = """\
from torch.utils.tensorboard import SummaryWriter
with SummaryWriter("runs/dfa_seed7") as writer:
    for epoch in (1, 2):
        writer.add_scalar("test_acc", 0.2 * epoch, epoch)
        writer.add_scalar("h_4_norm", 40.0**epoch, epoch)
"""

HP_METRIC = "hp_metric"
"""What Lightning writes at step 0 where no result of the hyperparameters is given."""

_ADD_HPARAMS = re.compile(r"\d+\.\d+")
"""The folder of the time of day in which PyTorch's ``add_hparams`` writes beside the run's own events."""

HYDRA = ".hydra/overrides.yaml"
"""What Hydra writes into the folder of its job, which is that of the events or up to two above."""


def find(path: Path) -> Iterator[Path]:
    """The folders with event files; an event file that is named itself is a run of its own.

    Raises:
        FATrackError: TensorBoard is not installed.
    """
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise FATrackError(
            "reading event files needs TensorBoard: python -m pip install 'fa-track[tensorboard]'"
        ) from None
    if not path.is_dir():
        yield path
        return
    yield from (folder for folder in _folders(path) if _run_above(folder) is None)


def _folders(path: Path) -> list[Path]:
    return sorted({file.parent for file in path.rglob(PATTERN)})


def _run_above(folder: Path) -> Path | None:
    """The folder of the run whose ``add_hparams`` or ``add_scalars`` wrote ``folder``."""
    for above in folder.parents[:3]:
        if any(above.glob(PATTERN)):
            is_beside = above == folder.parent and _ADD_HPARAMS.fullmatch(folder.name)
            return above if is_beside or _is_of_add_scalars(folder, above) else None
    return None


def _is_of_add_scalars(folder: Path, above: Path) -> bool:
    """Whether all its tags are such as ``add_scalars`` writes below a run, into a folder of the tag and the sub-tag."""
    from tensorboard.compat.tensorflow_stub.errors import DataLossError

    found = False
    for file in sorted(folder.glob(PATTERN)):
        with suppress(FATrackError, DataLossError):  # reading it says what is wrong with it
            for event in events(file):
                found = found or bool(event.summary.value)
                if not all(_sub_tag(folder, above, value.tag) for value in event.summary.value):
                    return False
    return found


def _sub_tag(folder: Path, above: Path, tag: str) -> str | None:
    """What ``add_scalars`` added to ``tag`` for the name of ``folder``; None where it did not make that name."""
    name = folder.relative_to(above).as_posix()
    start = f"{tag.replace('/', '_')}_"
    return name.removeprefix(start) if name.startswith(start) else None


def read(path: Path, fields: Fields) -> list[Raw]:
    """Read the events of a run, with what ``add_hparams`` and ``add_scalars`` wrote below it, and its hyperparameters.

    Raises:
        FATrackError: a file is no event file; the files hold no scalar or two trainings, or contradict each other in a
            hyperparameter.
    """
    reading = _Reading(fields)
    if path.is_dir():
        folders = [folder for folder in _folders(path) if folder == path or _run_above(folder) == path]
        found = [file for folder in folders for file in sorted(folder.glob(PATTERN))]
        files = {file.relative_to(path).as_posix(): file for file in found}
    else:
        files = {path.name: path}
    for name, file in files.items():
        reading.take(name, file, path)
    course = reading.course()
    beside = reading.take_beside(path) if path.is_dir() else {}
    notes = (*reading.notes(), *course.notes)
    return [Raw({**files, **beside}, reading.params, course.points, course.steps, notes)]


class _Reading:
    """What the event files of a run have told so far."""

    def __init__(self, fields: Fields) -> None:
        self.params: dict[str, Any] = {}
        self._fields = fields
        self._origin: dict[str, str] = {}
        self._parts: list[tuple[float, list[Part]]] = []
        self._declared: set[str] = set()
        """The results of hyperparameters that the file at hand has named and not given yet."""
        self._plugins: dict[str, str] = {}
        self._others: dict[str, str] = {}
        self._further: list[str] = []

    def take(self, name: str, file: Path, run: Path) -> None:
        """Read one file of the run in the folder ``run``, or that is the run.

        Raises:
            FATrackError: it holds no event, or a hyperparameter that another file contradicts.
        """
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.compat.tensorflow_stub.errors import DataLossError

        count, began = 0, math.inf
        parts = [Part(name)]
        self._declared = set()
        below = run not in (file, file.parent)
        try:
            for event in events(file):
                if not count and math.isfinite(event.wall_time):
                    began = event.wall_time
                count += 1
                if event.session_log.status == SessionLog.START:
                    parts.append(Part(name, event.step))
                for value in event.summary.value:
                    sub = _sub_tag(file.parent, run, value.tag) if below else None
                    self._value(parts[-1], event, value, f"{value.tag}/{sub}" if sub else value.tag)
        except DataLossError:
            if not count:
                raise FATrackError(f"{file.name} is no TensorBoard event file") from None
            self._further.append(
                f"{file.name}: what follows its event {count} is cut off or damaged, and is not imported"
            )
        self._parts.append((began, parts))

    def course(self) -> Course:
        """The points that count.

        Raises:
            UnknownShapeError: there is none.
            FATrackError: they are of two trainings.
        """
        parts = [part for _, each in sorted(self._parts, key=lambda began: began[0]) for part in each]
        if "scalars" not in self._plugins.values():
            tags = ", ".join(f"{tag!r} ({kind})" for tag, kind in list(self._others.items())[:12])
            more = f" and {len(self._others) - 12} more" if len(self._others) > 12 else ""
            raise UnknownShapeError(
                f"holds no scalar, but {tags}{more}" if tags else "holds no scalar, nor anything else"
            )
        return Course(parts, self._is_judged)

    def take_beside(self, run: Path) -> dict[str, Path]:
        """Read the hyperparameters that Lightning and Hydra wrote as files; the files by name.

        Raises:
            FATrackError: what Lightning wrote contradicts the events.
        """
        found = {}
        lightning = run / LIGHTNING
        if lightning.is_file():
            found[LIGHTNING] = lightning
            for key, value in settings(lightning, {}, self._further).items():
                self._param(str(key), value, LIGHTNING)
        whole = run.absolute()
        hydra = next((file for above in (whole, *whole.parents[:2]) if (file := above / HYDRA).is_file()), None)
        if hydra is not None:
            found[HYDRA] = hydra
            for text in settings(hydra, [], self._further):
                key, _, value = str(text).lstrip("+").partition("=")
                if value and not key.startswith("~"):  # which takes a key away
                    self.params.setdefault(key, value)
        return found

    def notes(self) -> Iterator[str]:
        yield from self._further
        for kind in sorted(set(self._others.values())):
            tags = [tag for tag, other in self._others.items() if other == kind]
            more = f" and {len(tags) - 8} more" if len(tags) > 8 else ""
            yield f"not imported, as they are of the kind {kind!r}: {', '.join(map(repr, tags[:8]))}{more}"

    def _value(self, part: Part, event: "Event", value: "Summary.Value", tag: str) -> None:
        from tensorboard.util import tensor_util

        # a tag says only once, with its first value, what kind of thing it is
        plugin = self._plugins.setdefault(tag, value.metadata.plugin_data.plugin_name)
        if plugin == "hparams":
            for key, given in hparams(value).items():
                self._param(key, given, part.file)
            self._declared |= results(value)
        elif plugin == "scalars" and value.WhichOneof("value") == "tensor":
            if not self._fields.ignores(tag):
                time = int(event.wall_time * 1000) if math.isfinite(event.wall_time) and event.wall_time >= 0 else None
                found = tensor_util.make_ndarray(value.tensor)
                number = found.item() if found.size == 1 else found.tolist()
                is_result = event.step == 0 and (tag == HP_METRIC or tag in self._declared)
                (part.results if is_result else part.values).append((tag, Point(event.step, number, time)))
                self._declared.discard(tag)
        else:
            self._others[tag] = plugin or str(value.WhichOneof("value"))

    def _param(self, key: str, value: Any, file: str) -> None:
        """Take a hyperparameter; the first that gives it counts.

        Raises:
            FATrackError: another file gives another value.
        """
        if value is None or self._fields.ignores(key):
            return
        known = self.params.setdefault(key, value)
        origin = self._origin.setdefault(key, file)
        if known != value and str(known) != str(value):
            raise FATrackError(
                f"{key!r} is {known!r:.40} in {origin} and {value!r:.40} in {file} (a --map can `ignore` it)"
            )

    def _is_judged(self, tag: str) -> bool:
        """Whether an audit reads a tag."""
        name, _ = self._fields.metric(tag) or (safe(tag), 1.0)
        return name == names.ACCURACY_TEST or name.startswith(DIAGNOSED)
