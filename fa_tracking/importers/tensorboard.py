"""TensorBoard's event files, one folder a run, read record by record with its own reader: no point is lost."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fa_tracking.errors import FATrackError
from fa_tracking.importers._fields import Fields
from fa_tracking.importers._standard import Point, Raw

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

NAME = "tensorboard"
TITLE = "TensorBoard event files, one folder a run."
PATTERN = "*tfevents*"

HP_METRIC = "hp_metric"
"""What Lightning writes at step 0 where no result of the hyperparameters is given."""

_ADD_HPARAMS = re.compile(r"\d+\.\d+")
"""The folder of the time of day in which PyTorch's ``add_hparams`` writes beside the run's own events."""


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
    folders = {file.parent for file in path.rglob(PATTERN)}
    yield from sorted(folder for folder in folders if not _is_beside(folder))


def _is_beside(folder: Path) -> bool:
    return _ADD_HPARAMS.fullmatch(folder.name) is not None and any(folder.parent.glob(PATTERN))


def read(path: Path, fields: Fields) -> list[Raw]:
    """Read the events of a run, with the hyperparameters that ``add_hparams`` wrote beside them.

    Raises:
        FATrackError: a file is no event file, or holds no scalar.
    """
    reading = _Reading()
    files = _files(path)
    for file in files.values():
        reading.take(file)
    return [Raw(files, reading.params, reading.points, reading.steps(), tuple(reading.notes()))]


def _files(path: Path) -> dict[str, Path]:
    if not path.is_dir():
        return {path.name: path}
    beside = [folder for folder in path.iterdir() if folder.is_dir() and _is_beside(folder)]
    files = [file for folder in [path, *beside] for file in sorted(folder.glob(PATTERN))]
    return {file.relative_to(path).as_posix(): file for file in files}


class _Reading:
    """What the event files of a run have told so far."""

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self.points: dict[str, list[Point]] = {}
        self._results = {HP_METRIC}
        self._plugins: dict[str, str] = {}
        self._others: dict[str, str] = {}
        self._damaged: list[str] = []

    def take(self, file: Path) -> None:
        """Read one file.

        Raises:
            FATrackError: it holds no event.
        """
        from tensorboard.compat.tensorflow_stub.errors import DataLossError

        count = 0
        try:
            for event in _events(file):
                count += 1
                for value in event.summary.value:
                    self._value(event, value)
        except DataLossError:
            if not count:
                raise FATrackError(f"{file.name} is no TensorBoard event file") from None
            self._damaged.append(
                f"{file.name}: what follows its event {count} is cut off or damaged, and is not imported"
            )

    def steps(self) -> frozenset[int]:
        """Every step; that at which only the results of hyperparameters stand, as 0, is none where there are others."""
        every = {(tag, point.step) for tag, series in self.points.items() for point in series}
        trained = {step for tag, step in every if step or tag not in self._results}
        return frozenset(trained or {step for _, step in every})

    def notes(self) -> Iterator[str]:
        yield from self._damaged
        for kind in sorted(set(self._others.values())):
            tags = [tag for tag, other in self._others.items() if other == kind]
            more = f" and {len(tags) - 8} more" if len(tags) > 8 else ""
            yield f"not imported, as they are {kind}: {', '.join(map(repr, tags[:8]))}{more}"

    def _value(self, event: "Event", value: "Summary.Value") -> None:
        from tensorboard.util import tensor_util

        # a tag says only once, with its first value, what kind of thing it is
        plugin = self._plugins.setdefault(value.tag, value.metadata.plugin_data.plugin_name)
        if plugin == "hparams":
            self.params |= _hparams(value)
            self._results |= _results(value)
        elif plugin == "scalars" and value.WhichOneof("value") == "tensor":
            time = int(event.wall_time * 1000) if math.isfinite(event.wall_time) and event.wall_time >= 0 else None
            found = tensor_util.make_ndarray(value.tensor)
            number = found.item() if found.size == 1 else found.tolist()
            self.points.setdefault(value.tag, []).append(Point(event.step, number, time))
        else:
            self._others[value.tag] = f"of the kind {plugin or value.WhichOneof('value')!r}"


def _events(file: Path) -> "Iterator[Event]":
    """Every event; scalars of the old form as tensors."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto import event_pb2
    from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
    from tensorboard.compat.tensorflow_stub.errors import DataLossError, OutOfRangeError
    from tensorboard.data_compat import migrate_event

    if not file.is_file():
        raise FATrackError(f"{file.name} is no regular file")
    try:
        with file.open("rb"):  # an error that says why, where it cannot be read
            reader = pywrap_tensorflow.PyRecordReader_New(str(file))
    except OSError as error:
        raise FATrackError(f"{file.name} cannot be read: {error.strerror}") from None
    while True:
        try:
            reader.GetNext()
            event = event_pb2.Event.FromString(reader.record())
        except OutOfRangeError:
            return
        except DecodeError as error:
            raise DataLossError(None, None, str(error)) from None
        yield migrate_event(event)


def _results(value: "Summary.Value") -> set[str]:
    """The tags that ``add_hparams`` declares as results of the hyperparameters, and writes at step 0."""
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    content = value.metadata.plugin_data.content
    if not plugin_data_pb2.HParamsPluginData.FromString(content).HasField("experiment"):
        return set()
    return {info.name.tag for info in metadata.parse_experiment_plugin_data(content).metric_infos}


def _hparams(value: "Summary.Value") -> dict[str, Any]:
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    content = value.metadata.plugin_data.content
    data = plugin_data_pb2.HParamsPluginData.FromString(content)
    if not data.HasField("session_start_info"):
        return {}
    given = metadata.parse_session_start_info_plugin_data(content).hparams
    return {key: getattr(each, each.WhichOneof("kind")) for key, each in given.items() if each.WhichOneof("kind")}
