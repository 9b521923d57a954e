"""Finds the items of a folder: one file an item, no central list, no registration."""

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from fa_tracking.errors import UsageError, no_such


def names(package: ModuleType) -> list[str]:
    """The modules that stand directly in ``package``, sorted; a leading underscore hides one."""
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def load(package: ModuleType, name: str) -> ModuleType:
    """The module ``name`` of ``package``.

    Raises:
        UsageError: no such item; the message lists the ones there are. Only listed names are ever imported.
    """
    known = names(package)
    if name not in known:
        kind = package.__name__.rpartition(".")[2]
        raise UsageError(no_such(kind.removesuffix("s"), name, known))
    return importlib.import_module(f"{package.__name__}.{name}")


def folder(name: str) -> Path:
    """The data folder ``name`` (``queries``): inside the package in an installed wheel, beside it in a checkout."""
    package = Path(__file__).parent
    for candidate in (package / name, package.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"the folder {name}/ of FA-Track is missing from this installation: reinstall fa-track")
