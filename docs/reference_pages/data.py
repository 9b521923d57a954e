from fa_tracking import catalogue, importers
from fa_tracking.trainers import augmentation, data, datasets
from fa_tracking.trainers.study import grid
from reference_pages._markdown import docstring, table

INTRODUCTION = """# Data sets, studies, log formats

## Data sets

Chosen with `fa-track train METHOD --dataset NAME`, one file each in `trainers/datasets/`.
"""

STUDIES = """## Studies

A grid of runs in a file of `trainers/studies/`, or of your own: [run a study](../how-to/run-a-study.md). What has been trained of
them: [the published study, so far](../study.md).
"""

FORMATS = """## Log formats

What `fa-track import` reads, one file each in `fa_tracking/importers/`: [import old logs](../how-to/import.md).
"""


def page() -> str:
    kinds = [(f"`{name}`", docstring(how).partition("\n")[0]) for name, how in augmentation.AUGMENTATIONS.items()]
    parts = [
        INTRODUCTION,
        table(("`--dataset`", "holds", "from"), [_data_set(name) for name in catalogue.names(datasets)]),
        f"### Files and folders of data\n\n{docstring(data)}",
        f"## Augmentation\n\n{docstring(augmentation)}",
        table(("`--augmentation`", "what it does"), kinds),
        STUDIES,
        table(("study", "runs", "asks", "reduced form"), [_study(name) for name in grid.studies()]),
        FORMATS,
        table(("file", "command", "reads"), [_format(name) for name in catalogue.names(importers)]),
    ]
    return "\n\n".join(part.strip() for part in parts)


def _data_set(name: str) -> tuple[str, ...]:
    files = data.from_files().get(name)
    whence = f"`--data-dir`: `{files}`, or Parquet files; `--download` fetches it" if files else "built in"
    return f"`{name}`", docstring(catalogue.load(datasets, name)).partition("\n\n")[0].replace("\n", " "), whence


def _study(name: str) -> tuple[str, ...]:
    whole = grid.load(name)
    reduced = whole.reduced.says if whole.reduced else ""
    return f"`{name}`", str(len(whole.configs())), whole.title, reduced


def _format(name: str) -> tuple[str, ...]:
    module = catalogue.load(importers, name)
    return f"`{name}`", f"`fa-track import {module.NAME}`", module.TITLE
