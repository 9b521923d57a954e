"""Hostile input, one file a reader: whatever it is fed, it reads it or refuses it with one of our errors.

A file offers ``TITLE``, ``WEIGHT`` (its share of the cases), ``inputs()`` (a hypothesis strategy) and ``feed(value,
folder)``, which gives the value to the reader inside the empty folder ``folder``. ``python -m tests.fuzz`` runs them.
"""

import atexit
import contextlib
import os
import pkgutil
import platform
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

from fa_tracking.errors import LONGEST, FATrackError

SECONDS = 20
"""Of the processor, for one case, which takes milliseconds; by the clock ten times as many, for it may be busy."""
MEMORY = 2**31
"""Bytes that a process may grow by while it reads all its cases."""
LONGEST_MESSAGE = LONGEST + 1

RUNS_CODE = ("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect")
WRITES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate", "shutil.rmtree")


class Escaped(BaseException):
    """Input ran code or reached out of the folder; no handler of the reader's catches it."""


class TookTooLong(BaseException):
    """A case ran longer than ``SECONDS``."""


def targets() -> dict[str, ModuleType]:
    """The readers, by name: the files of this folder."""
    found = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    return {name: import_module(f"{__name__}.{name}") for name in found}


def test_of(target: ModuleType, cases: int, outcomes: Counter[str], derandomize: bool = False) -> Callable[[], None]:
    """A hypothesis test of ``cases`` cases, which counts into ``outcomes`` what became of each."""

    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=derandomize,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(target.inputs())
    def case(value: Any) -> None:
        outcomes[hold(target, value)] += 1

    return case


def hold(target: ModuleType, value: Any) -> str:
    """Feed one value: "read", or "refused" with one of our errors; anything else is raised."""
    with _scratch() as folder, _guarded(folder):
        try:
            target.feed(value, folder)
        except FATrackError as error:
            assert 0 < len(str(error)) <= LONGEST_MESSAGE, f"a message of {len(str(error))} characters"
            return "refused"
    return "read"


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """An empty folder to stand in. One left empty is the next case's: to make one takes longer than a case."""
    before, folder = Path.cwd(), _empty.pop() if _empty else Path(tempfile.mkdtemp(prefix="fa-fuzz-"))
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)
        if any(folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            _empty.append(folder)


_empty: list[Path] = []
atexit.register(lambda: [folder.rmdir() for folder in _empty])


_folder: str | None = None


@contextlib.contextmanager
def _guarded(folder: Path) -> Iterator[None]:
    """While ``folder`` is fed: nothing is written outside it, no code is run, and no time is lost."""
    global _folder  # noqa: PLW0603 - an audit hook can never be taken off again
    if not _watch.armed:
        sys.addaudithook(_watch)
        _watch.armed = True

    def late(*_: Any) -> None:
        raise TookTooLong(f"longer than {SECONDS} s")

    before = [signal.signal(which, late) for which in (signal.SIGALRM, signal.SIGPROF)]
    signal.alarm(10 * SECONDS)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    _folder = str(folder)
    try:
        yield
    finally:
        _folder = None
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for which, handler in zip((signal.SIGALRM, signal.SIGPROF), before, strict=True):
            signal.signal(which, handler)


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if _folder is None:
        return
    if event in RUNS_CODE:
        raise Escaped(f"{event} {args!r:.200}")
    wrote = event in WRITES or (event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR))
    if wrote and isinstance(args[0], str | bytes | os.PathLike):
        where = os.path.realpath(os.fsdecode(args[0]))
        if not where.startswith((os.path.realpath(_folder), "/dev/null")) and "__pycache__" not in where:
            raise Escaped(f"{event} {where}")


_watch.armed = False  # type: ignore[attr-defined]
import_module("matplotlib.font_manager")  # makes its folders when it is first imported; what reads models imports it
platform.processor()  # which asks `uname`, once; libraries do so when they are imported
