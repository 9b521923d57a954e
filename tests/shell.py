"""``fa-track`` in the process of the test, and as a process of its own."""

import os
import subprocess
import sys

from click.testing import CliRunner

from fa_tracking.cli import main

FA_TRACK = [sys.executable, "-m", "fa_tracking"]
"""The command as a process, for what only a process shows: signals, first words, imports, a folder."""

OF_THE_USER = ("FA_TRACK_DATA", "FA_TRACK_DB", "MLFLOW_TRACKING_URI")
"""What a user's shell may hold, and a command of a test must not."""


def fa_track(*words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in this process, in its folder. An error that is not said in a line is the test's."""
    done = CliRunner().invoke(
        main, words, prog_name="fa-track", env={**dict.fromkeys(OF_THE_USER), **env}, catch_exceptions=False
    )
    return subprocess.CompletedProcess(["fa-track", *words], done.exit_code, done.stdout, done.stderr)


def users_environment(**env: str) -> dict[str, str]:
    """Give the environment for a process of a user who has set nothing but ``env``."""
    return {name: value for name, value in os.environ.items() if name not in OF_THE_USER} | env
