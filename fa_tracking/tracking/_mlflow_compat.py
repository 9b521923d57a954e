"""The parts of MLflow that it does not promise to keep, each touched here alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities import Run


def last_points(run: "Run") -> list[Any]:
    """The last point of each metric, with its ``key``, ``value``, ``step`` and ``timestamp``; ``data.metrics`` has
    values alone."""
    return list(run.data.to_proto().metrics)


def refuse_pickles(archive: Path) -> None:
    """Refuse an exported model that may hold pickles.

    Raises:
        ImportError: this version of MLflow cannot tell.
        MlflowException: it may.
    """
    from mlflow.pytorch import _validate_pt2_archive_is_pickle_free

    _validate_pt2_archive_is_pickle_free(str(archive))
