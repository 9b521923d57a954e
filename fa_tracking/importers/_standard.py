"""From what stands in a log, under its own names, to a run of ours: names, scales, and what a reader must be told."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fa_tracking.errors import FATrackError
from fa_tracking.importers._fields import GRAD, RESIDUAL, Fields
from fa_tracking.importers._log import Log, Point, Raw, UnknownShapeError
from fa_tracking.importers._numbers import final_accuracy, points_of
from fa_tracking.importers._params import Given, depth_of, params_of
from fa_tracking.importers._said import listed
from fa_tracking.tracking import names

DIAGNOSED = (RESIDUAL, GRAD, names.DIAGNOSTICS)

LARGEST_STEP = 2**31 - 1
HELD_OUT = {
    f"{split}{between}{accuracy}"
    for split in ("val", "valid", "validation", "eval")
    for between in ("_", "/", ".")
    for accuracy in ("acc", "accuracy")
}
"""What libraries call the accuracy on the data that they were given to test on."""


def standard(source: Path, raw: Raw, fields: Fields, given: Given) -> Log:
    """The run that a log becomes.

    Raises:
        FATrackError: the log contradicts itself, or holds what no log of a training can hold.
    """
    notes = list(raw.notes)
    if wrong := [step for step in raw.steps if not 0 <= step <= LARGEST_STEP]:
        raise FATrackError(f"epoch {wrong[0]} is not between 0 and {LARGEST_STEP}")
    params, by_hand = params_of(source, raw, fields, given, notes)
    held_out = _held_out(raw, fields)
    points = points_of(raw, fields, depth_of(params), given, notes, held_out)
    said = [f"the accuracy is its {held_out}"] if held_out else []
    if held_out:
        notes.append(f"its {held_out!r} is taken as the test accuracy, as it has no other; a --map says otherwise")
    if raw.steps and (contradiction := final_accuracy(raw, fields, points, notes)):
        said.append(contradiction)
    if not points:
        raise UnknownShapeError(
            f"there is no number in any of its {len(raw.steps)} epochs: it holds {listed(raw.points)}"
        )
    if not any(name == names.ACCURACY_TEST or name.startswith(DIAGNOSED) for name in points):
        raise UnknownShapeError(f"holds nothing that an audit reads, no test accuracy and no norm: {_instead(raw)}")
    if missing := [key for key in ("method", "seed") if key not in params]:
        give = " ".join(f"--param {key}=…" for key in missing)
        notes.append(f"it says no {' and '.join(missing)}, which the comparison of seeds needs: {give}, or a --map")
    handed = _handed(given, by_hand, points, notes)
    return Log(
        source,
        raw.part,
        _sha256(raw.files.values(), raw.part),
        raw.files,
        params,
        points,
        len(raw.steps),
        handed,
        tuple(notes),
        ", ".join(said),
    )


def _instead(raw: Raw) -> str:
    """What a log holds in place of what an audit reads, and how a map says what is meant."""
    said = f"it holds {listed(raw.points)}; a --map says what they are called"
    accuracy = next((key for key in raw.points if "acc" in key.lower()), None)
    if accuracy:
        said += f', such as [metrics] "{names.ACCURACY_TEST}" = "{accuracy}" where that is on the test data'
    return said


def _handed(given: Given, params: list[str], points: dict[str, list[Point]], notes: list[str]) -> dict[str, Any]:
    """What of the run was given by hand, as its tag says it."""
    said: dict[str, Any] = {"control_accuracy": given.control_accuracy, "grad_batch": given.grad_batch}
    if given.h0_norm is not None and names.residual_norm(0) in points:
        notes.append("its own ‖h_0‖ is used, not --h0-norm")
    else:
        said["h0_norm"] = given.h0_norm
    return {key: value for key, value in said.items() if value is not None} | ({"params": params} if params else {})


def _held_out(raw: Raw, fields: Fields) -> str | None:
    """The one accuracy on held-out data, where the log has none on test data."""
    known = {found[0] for key in raw.points if (found := fields.metric(key)) and not fields.ignores(key)}
    if names.ACCURACY_TEST in known or raw.params.get(fields.final_accuracy.key) is not None:
        return None
    keys = [key for key in raw.points if key.lower() in HELD_OUT and not (fields.ignores(key) or fields.metric(key))]
    return keys[0] if len(keys) == 1 else None


def _sha256(files: Iterable[Path], part: str) -> str:
    """Of one file its own; of several, of their sorted digests, so that moving or renaming them changes nothing.

    Of a part, that of the file's digest and the part's name.
    """
    digests = []
    for path in files:
        try:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise FATrackError(f"{path.name} cannot be read: {error.strerror}") from None
    whole = [*sorted(digests), part] if part else sorted(digests)
    return whole[0] if len(whole) == 1 else hashlib.sha256("\n".join(whole).encode()).hexdigest()
