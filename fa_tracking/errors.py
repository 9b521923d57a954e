"""The two errors a user may meet; the command line prints their message as one line and exits with their code."""


class FATrackError(Exception):
    """Something failed: a broken checkpoint, a store that does not answer. Says what, where and what to do."""

    exit_code = 1


class CheckpointError(FATrackError):
    """A run's checkpoint is missing or damaged: no verdict can stand on it."""


class NoCheckpointError(CheckpointError):
    """A run holds no model that can be built again: its logged numbers may still say something."""


class StoreAwayError(FATrackError):
    """The store does not answer; what was to be written waits on this machine."""


class UsageError(FATrackError):
    """What was asked for does not exist or makes no sense: an unknown experiment, a missing folder."""

    exit_code = 2
