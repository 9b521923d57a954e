"""What a picture leaves out of an experiment that is too large to be looked at whole, and the words that say so."""

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from math import ceil
from typing import TypeVar

import pandas as pd

Group = TypeVar("Group")

EPOCHS, ROWS, CELLS = 200, 10_000, 120
"""The most that a chart draws."""


def thinned(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of an answer that a chart draws, and in words what it leaves out; all of them, and "", where they are few.

    Of many epochs every k-th is drawn and each run's or cell's last; of many cells, or cells of many rows, the first.
    """
    said = []
    if "epoch" in rows and len(rows) > ROWS and (epochs := rows["epoch"].nunique()) > EPOCHS:
        every = ceil(epochs / EPOCHS)
        rows = _some_epochs(rows, every)
        said.append(f"of {epochs:,} epochs every {every:,}th and each line's last")
    if "cell" in rows and (len(rows) > ROWS or rows["cell"].nunique() > CELLS):
        sizes = rows.groupby("cell", sort=False, dropna=False).size()
        kept = [*first_groups(sizes.items(), lambda cell: cell[1], ROWS)][:CELLS]
        if len(kept) < len(sizes):
            rows = rows[rows["cell"].isin([cell for cell, _ in kept])]
            said.append(f"the first {len(kept):,} of {len(sizes):,} cells")
    if len(rows) > ROWS and "epoch" not in rows:
        said.append(f"the first {ROWS:,} of {len(rows):,} rows")
        rows = rows.head(ROWS)
    return rows, f"Drawn: {', '.join(said)}." if said else ""


def first_groups(groups: Iterable[Group], size: Callable[[Group], int], most: int) -> Iterator[Group]:
    """The first group, and those behind it that fit beside it into ``most``."""
    found = [*groups]
    for i, (group, total) in enumerate(zip(found, accumulate(map(size, found)), strict=True)):
        if i and total > most:
            return
        yield group


def _some_epochs(rows: pd.DataFrame, every: int) -> pd.DataFrame:
    place = {epoch: i for i, epoch in enumerate(sorted(rows["epoch"].unique()))}
    line = "run_id" if "run_id" in rows else "cell"
    last = rows.groupby(line, sort=False)["epoch"].transform("max")
    return rows[(rows["epoch"].map(place) % every == 0) | (rows["epoch"] == last)]
