"""Run-context provider: what ran, on what, from which commit, as tags of every run that MLflow starts here.

MLflow loads this in every user's process, so nothing heavy is imported: torch is asked only where it is loaded.
"""

import subprocess
import sys
from functools import cache
from importlib.metadata import version

from fa_tracking.tracking import names


class FATrackContext:
    """Entry point ``mlflow.run_context_provider``; of MLflow's interface by its methods, so as not to import MLflow."""

    def in_context(self) -> bool:
        return True

    def tags(self) -> dict[str, str]:
        tags = {names.TAG_VERSION: version("fa-track"), **_torch_tags()}
        commit = _git_commit()
        return {**tags, names.TAG_GIT_COMMIT: commit} if commit else tags


def _torch_tags() -> dict[str, str]:
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        names.TAG_TORCH: str(torch.__version__),
        names.TAG_DEVICE: f"{device}, {torch.get_num_threads()} threads",
        names.TAG_DETERMINISTIC: str(torch.are_deterministic_algorithms_enabled()).lower(),
    }


@cache
def _git_commit() -> str | None:
    """The commit of the working folder, ``-dirty`` behind it where files were changed; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
