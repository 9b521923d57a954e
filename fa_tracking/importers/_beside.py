"""Settings that a library writes as a file of their own, beside its log."""

from pathlib import Path
from typing import Any

from fa_tracking import untrusted
from fa_tracking.errors import FATrackError
from fa_tracking.importers._shapes import flattened

LIGHTNING = "hparams.yaml"
"""What Lightning writes beside its log, whatever kind of log that is."""


def flat_settings(file: Path, notes: list[str]) -> dict[str, Any]:
    """The settings in a file, every value by its path; none where there is no such file."""
    try:
        return flattened(settings(file, {}, notes)) if file.is_file() else {}
    except FATrackError as error:
        notes.append(f"{file.name} is not imported: {error}")
        return {}


def settings(file: Path, empty: Any, notes: list[str]) -> Any:
    """What a file of JSON or YAML holds; ``empty``, and a note, where that is of another kind or cannot be read."""
    try:
        found = untrusted.read_json(file) if file.suffix == ".json" else untrusted.read_yaml(file)
        if found is not None and not isinstance(found, type(empty)):
            raise ValueError("it holds something else than hyperparameters")
    except (OSError, ValueError) as error:
        notes.append(f"{file.name} is not imported: {error}")
        return empty
    return empty if found is None else found
