"""The record beside a file of claims: when each of them last held, and on which content."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from fa_tracking import untrusted
from fa_tracking.errors import UsageError
from fa_tracking.publishing.claims import HOLDS, Checked, Held
from fa_tracking.results.files import write_whole


def history_path(claims: Path) -> Path:
    """The record beside a file of claims."""
    return claims.with_suffix(".history.json")


def read_history(path: Path) -> dict[str, Held]:
    """When claims last held, by their keys; empty where there is no record.

    Raises:
        UsageError: the file is no record.
    """
    if not path.exists():
        return {}
    try:
        found = {key: Held(**held) for key, held in untrusted.read_json(path).items()}
        values = [(field.name, getattr(held, field.name)) for held in found.values() for field in fields(held)]
        if not all(isinstance(value, int if name == "n" else str) for name, value in values):
            raise TypeError
        return found
    except (OSError, ValueError, TypeError, AttributeError):
        raise UsageError(f"{path} is no record of claims: restore it, or delete it to begin anew") from None


def record(path: Path, checked: Sequence[Checked]) -> list[Checked]:
    """Write down that the claims that hold do so today (UTC), and forget claims that are no longer made.

    Raises:
        FATrackError: the file cannot be written.
    """
    today = datetime.now(UTC).date().isoformat()
    fresh = [
        replace(c, last_held=Held(today, c.digest, c.n, c.claim.sentence)) if c.verdict == HOLDS else c for c in checked
    ]
    history = {c.claim.key: asdict(c.last_held) for c in fresh if c.last_held}
    write_whole(path, f"{json.dumps(history, indent=2, ensure_ascii=False)}\n".encode())
    return fresh
