from fa_tracking import catalogue
from fa_tracking.trainers import models
from fa_tracking.trainers.model import BlockModel
from reference_pages._markdown import docstring, table

INTRODUCTION = """# Architectures

One file each in `trainers/models/`, chosen with `fa-track train METHOD --architecture NAME`.
"""


def page() -> str:
    rows = [(f"[`{name}`](#{name})", docstring(catalogue.load(models, name))) for name in catalogue.names(models)]
    sections = [f"## `{name}`\n\n{_told(name)}" for name in catalogue.names(models)]
    return "\n\n".join(
        [
            INTRODUCTION.strip(),
            table(("file", "network"), rows),
            *sections,
            f"## An architecture's file\n\n{docstring(BlockModel)}",
        ]
    )


def _told(name: str) -> str:
    module = catalogue.load(models, name)
    parts = [
        docstring(part) for part in (module, getattr(module, "Block", None), module.Model) if part and part.__doc__
    ]
    return "\n\n".join(parts)
