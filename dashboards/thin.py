"""What a picture leaves out of an experiment that is too large to be looked at whole, and the words that say so."""

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from math import ceil
from typing import TypeVar

import pandas as pd

Group = TypeVar("Group")

EPOCHS, ROWS, CELLS = 200, 10_000, 120
"""The most that a chart draws."""
CELL = (
    "experiment", "method", "architecture", "width", "depth", "epochs", "lr", "penalty", "frozen_blocks",
    "augmentation", "also", "definition", "expansion", "alpha", "dataset", "labels", "batch_size", "optimizer",
    "lr_schedule", "lr_warmup", "momentum", "weight_decay", "clip_norm", "credit_normalisation", "credit_index",
)  # fmt: skip
"""The columns that an answer may tell cells apart by."""


def thinned(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of an answer that a chart draws, and in words what it leaves out; all, and no words, where they are few.

    Of many epochs every k-th is drawn and the last of each line; of many cells, or cells of many rows, the first.
    """
    said = []
    cell = rows.groupby([column for column in CELL if column in rows], sort=False, dropna=False).ngroup()
    if "epoch" in rows and len(rows) > ROWS and (epochs := rows["epoch"].nunique()) > EPOCHS:
        every = ceil(epochs / EPOCHS)
        kept = _some_epochs(rows, every, rows.get("run_id", cell))
        rows, cell = rows[kept], cell[kept]
        said.append(f"of {epochs:,} epochs every {every:,}th, and the last of each line")
    if len(rows) > ROWS or cell.nunique() > CELLS:
        sizes = cell.value_counts(sort=False).sort_index()
        first = [*first_groups(sizes.items(), lambda group: group[1], ROWS)][:CELLS]
        if len(first) < len(sizes):
            rows = rows[cell.isin([number for number, _ in first])]
            said.append(f"the first {len(first):,} of {len(sizes):,} cells")
    if len(rows) > ROWS:
        said.append(f"the first {ROWS:,} of {len(rows):,} rows")
        rows = rows.head(ROWS)
    return rows, f"Drawn: {'; '.join(said)}." if said else ""


def first_groups(groups: Iterable[Group], size: Callable[[Group], int], most: int) -> Iterator[Group]:
    """The first group, and those behind it that fit beside it into ``most``."""
    found = [*groups]
    for i, (group, total) in enumerate(zip(found, accumulate(map(size, found)), strict=True)):
        if i and total > most:
            return
        yield group


def _some_epochs(rows: pd.DataFrame, every: int, line: pd.Series) -> pd.Series:
    place = {epoch: i for i, epoch in enumerate(sorted(rows["epoch"].unique()))}
    last = rows["epoch"].groupby(line, sort=False).transform("max")
    return (rows["epoch"].map(place) % every == 0) | (rows["epoch"] == last)
