"""Pairs of scikit-learn's digits, as rows of 128 features, labelled by their sum modulo 10: 20,000 and 4,000 of them.

No linear read-out of the pixels can tell. Train and test pairs are drawn from disjoint digits. As an image one digit
stands above the other.
"""

import numpy as np
import torch

from fa_tracking.trainers.datasets import digits
from fa_tracking.trainers.split import Split

IMAGE = (1, 16, 8)
PAIRS = {"train": 20_000, "test": 4_000}


def read(part: str) -> Split:
    """Pairs (N, 128) of digits a and b, labelled (a + b) mod 10."""
    single = digits.read(part)
    draw = np.random.default_rng(20_000 if part == "train" else 4_000)
    a, b = torch.from_numpy(draw.integers(len(single.labels), size=(2, PAIRS[part])))
    inputs = torch.cat([single.inputs[a], single.inputs[b]], dim=1)
    return Split(inputs, (single.labels[a] + single.labels[b]) % 10)
