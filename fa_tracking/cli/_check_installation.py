"""What `fa-track doctor` finds of the installation: Python, packages, torch, plugins, git, the terminal."""

import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, entry_points, metadata, requires, version
from typing import TYPE_CHECKING

from fa_tracking.cli._check_store import OK, PROBLEM, WARNING, Check
from fa_tracking.spelled import counted

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OPTIONAL = ("lightning", "transformers", "tensorboard")
PLUGINS = {
    "mlflow.run_context_provider": "fa_track",
    "mlflow.model_evaluator": "fa_protocol",
    "mlflow.app": "fa-track",
    "fa_tracking.models": "trainers",
    "fa_tracking.datasets": "trainers",
    "fa_tracking.methods": "trainers",
}
REINSTALL = "python -m pip install --force-reinstall --no-deps ."


def python() -> Iterator[Check]:
    from packaging.specifiers import SpecifierSet

    asked = metadata("fa-track")["Requires-Python"]
    found = f"{platform.python_version()} at {sys.executable}; fa-track {version('fa-track')} asks for {asked}"
    fits = SpecifierSet(asked).contains(platform.python_version(), prereleases=True)
    yield Check("Python", OK, found) if fits else Check("Python", PROBLEM, found, f"install Python {asked}")


def packages() -> Iterator[Check]:
    """The packages that fa-track needs, each against its range."""
    needed = [r for r in _requirements() if not r.marker or r.marker.evaluate()]
    unfit = [(r, said) for r in needed if (said := _unfit(r))]
    for requirement, said in unfit:
        yield Check("packages", PROBLEM, said, "installs a version in the range", _pip_install(requirement))
    shown = ", ".join(f"{r.name} {version(r.name)}" for r in needed if r.name in ("mlflow", "torch", "duckdb"))
    if not unfit:
        tested = next(_range(r) for r in needed if r.name == "mlflow")
        yield Check("packages", OK, f"{len(needed)} in their ranges: {shown} (MLflow is tested with {tested})")


def optional() -> Iterator[Check]:
    """The extras that users may want: there and in range, or how to get them."""
    wanted = [(e, r) for r in _requirements() for e in OPTIONAL if r.marker and r.marker.evaluate({"extra": e})]
    missing = [(extra, r) for extra, r in wanted if _version(r.name) is None]
    unfit = [(r, said) for extra, r in wanted if (extra, r) not in missing and (said := _unfit(r))]
    for requirement, said in unfit:
        yield Check("optional", WARNING, said, "installs a version in the range", _pip_install(requirement))
    there = ", ".join(f"{r.name} {version(r.name)}" for extra, r in wanted if (extra, r) not in missing)
    if not missing:
        yield Check("optional", OK, there)
        return
    lacking = f"not installed: {', '.join(r.name for _, r in missing)}"
    advice = f"needed only for {', '.join(dict.fromkeys(extra for extra, _ in missing))}"
    command = _pip_install(*(r for _, r in missing))
    yield Check("optional", OK, f"{there}; {lacking}" if there else lacking, advice, command)


def _requirements() -> "list[Requirement]":
    from packaging.requirements import Requirement

    return [Requirement(text) for text in requires("fa-track") or ()]


def _range(requirement: "Requirement") -> str:
    return ",".join(sorted(map(str, requirement.specifier), reverse=True))


def _pip_install(*wanted: "Requirement") -> str:
    return shlex.join(["python", "-m", "pip", "install", *(f"{r.name}{_range(r)}" for r in wanted)])


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _unfit(requirement: "Requirement") -> str:
    """What is wrong with the installed version; empty where it is in the range."""
    installed = _version(requirement.name)
    if installed is None:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(installed, prereleases=True):
        return ""
    return f"{requirement.name} {installed} is not {_range(requirement)}"


def torch_and_threads() -> Iterator[Check]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: the CPU"
    threads = torch.get_num_threads()
    found = f"{torch.__version__}, {device}; {counted(threads, 'thread')} on {counted(cores, 'usable core')}"
    if threads <= cores:
        yield Check("torch", OK, found)
    else:
        set_by = " (OMP_NUM_THREADS is set)" if "OMP_NUM_THREADS" in os.environ else ""
        yield Check("torch", WARNING, found, f"more threads than cores are slower: set OMP_NUM_THREADS={cores}{set_by}")


def plugins() -> Iterator[Check]:
    """Our entry points as MLflow finds them, and those of models and data sets; each is loaded."""
    fine, wrong = [], []
    for group, expected in PLUGINS.items():
        ours = group.startswith("fa_tracking")
        found = [point for point in entry_points(group=group) if ours or point.name == expected]
        if expected not in {point.name for point in found}:
            wrong.append(f"{group}: {expected} is not installed")
        for point in {point.name: point for point in found}.values():
            try:
                point.load()
                fine.append(f"{group}: {point.name}")
            except Exception as error:
                wrong.append(f"{group}: {point.name} = {point.value} does not load: {' '.join(str(error).split())}")
    if fine:
        yield Check("plugins", OK, "; ".join(fine))
    for said in wrong:
        yield Check(
            "plugins",
            PROBLEM,
            said,
            "run it in the clone; reinstall another author's plugin in the same way",
            REINSTALL,
        )


def git() -> Iterator[Check]:
    """Whether runs that start here get a commit."""
    from fa_tracking.plugin.context import FATrackContext
    from fa_tracking.tracking.names import TAG_GIT_COMMIT

    commit = FATrackContext().tags().get(TAG_GIT_COMMIT)
    if commit:
        said = ", with uncommitted changes" if commit.endswith("-dirty") else ""
        yield Check("git", OK, f"runs that start here note the commit {commit[:12]}{said}")
    elif shutil.which("git"):
        yield Check("git", OK, "this folder is not a git checkout: runs that start here note no commit")
    else:
        yield Check("git", WARNING, "git is not installed: runs note no commit", "install git")


def terminal() -> Iterator[Check]:
    encoding = sys.stdout.encoding or "unknown"
    try:
        "✓⚑✗≥±‖λΓ".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        advice = "set PYTHONIOENCODING=utf-8 in the environment, or use a UTF-8 locale"
        yield Check("terminal", WARNING, f"{encoding} lacks some of the marks, so they are spelled out", advice)
    else:
        yield Check("terminal", OK, f"{encoding}, {shutil.get_terminal_size((100, 24)).columns} columns")
