"""scikit-learn's 1,797 handwritten digits, 8 × 8, as rows of 64 features; every fifth is a test digit."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from fa_tracking.trainers.split import Split

IMAGE = (1, 8, 8)


def read(part: str) -> Split:
    """As scikit-learn's ``load_digits`` gives them, from the file that it reads.

    To import it takes longer than to train on them.
    """
    library = find_spec("sklearn")
    assert library and library.submodule_search_locations
    table = np.loadtxt(Path(library.submodule_search_locations[0], "datasets", "data", "digits.csv.gz"), delimiter=",")
    images, labels = table[:, :-1], table[:, -1]
    is_test = np.arange(len(labels)) % 5 == 0
    kept = is_test if part == "test" else ~is_test
    return Split(torch.from_numpy(images[kept].astype(np.float32)), torch.from_numpy(labels[kept].astype(np.int64)))
