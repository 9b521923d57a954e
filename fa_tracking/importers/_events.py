"""TensorBoard's event files, record by record, and what their hyperparameters say."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fa_tracking.errors import FATrackError

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary


def events(file: Path) -> "Iterator[Event]":
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


def results(value: "Summary.Value") -> set[str]:
    """The tags that ``add_hparams`` declares as results of the hyperparameters, and writes at step 0."""
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    content = value.metadata.plugin_data.content
    if not plugin_data_pb2.HParamsPluginData.FromString(content).HasField("experiment"):
        return set()
    return {info.name.tag for info in metadata.parse_experiment_plugin_data(content).metric_infos}


def hparams(value: "Summary.Value") -> dict[str, Any]:
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    content = value.metadata.plugin_data.content
    data = plugin_data_pb2.HParamsPluginData.FromString(content)
    if not data.HasField("session_start_info"):
        return {}
    given = metadata.parse_session_start_info_plugin_data(content).hparams
    return {key: getattr(each, each.WhichOneof("kind")) for key, each in given.items() if each.WhichOneof("kind")}
