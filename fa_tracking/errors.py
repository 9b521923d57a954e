"""The two errors a user may meet; the command line prints their message as one line and exits with their code."""

LONGEST = 2000
"""Characters of a message: what is wrong may be a name of any length, or one of 100,000 experiments."""


class FATrackError(Exception):
    """Something failed: a broken checkpoint, a store that does not answer. Says what, where and what to do."""

    exit_code = 1

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


class CheckpointError(FATrackError):
    """A run's checkpoint is missing or damaged: no verdict can stand on it."""


class OtherDefinitionError(FATrackError):
    """A checkpoint is whole, but of a network that has another definition here: it is read by another version."""


class NoCheckpointError(CheckpointError):
    """A run holds no model that can be built again: its logged numbers may still say something."""


class StoreAwayError(FATrackError):
    """The store does not answer; what was to be written waits on this machine."""


class UsageError(FATrackError):
    """What was asked for does not exist or makes no sense: an unknown experiment, a missing folder."""

    exit_code = 2
