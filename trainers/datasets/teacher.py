"""Standard normal inputs, as rows of 64 features, labelled by a fixed random residual network: for ``student_net``.

h_0 = A x, h_{l+1} = h_l + α W'_l relu(W_l h_l) with α = 1, four blocks of d = 128, entries N(0, 1/fan_in), without
LayerNorm; the label is the largest of ten logits, shifted so that the training classes are of one size: else the
gradients of an untrained network share the direction of what it does not know of their sizes, and (c) fires. 20,000
training and 4,000 test samples.

The study's teacher is open (arXiv:2606.21126). This one is ours, and of another form than ``student_net``: it has
two matrices a block, ReLU in the place of φ_α, and no LayerNorm, so no student can become the teacher.
"""

import numpy as np
import torch

from fa_tracking.trainers.split import Split

IMAGE = (1, 8, 8)
TEACHER = {"train": 20_000, "test": 4_000, "features": 64, "width": 128, "depth": 4, "classes": 10}
ALPHA = 1.0
BALANCING = 100


def read(part: str) -> Split:
    """Inputs (N, 64), standard normal, and the label that the teacher gives each."""
    logits = _logits("train")
    shift = np.zeros(TEACHER["classes"])
    for _ in range(BALANCING):
        share = np.bincount((logits + shift).argmax(axis=1), minlength=TEACHER["classes"]) / len(logits)
        shift -= logits.std() * (share - 1 / TEACHER["classes"])
    x, logits = _inputs(part), _logits(part)
    return Split(torch.from_numpy(x.astype(np.float32)), torch.from_numpy((logits + shift).argmax(axis=1)))


def _inputs(part: str) -> np.ndarray:
    draw = np.random.default_rng(1 if part == "train" else 2)
    return draw.standard_normal((TEACHER[part], TEACHER["features"]))


def _logits(part: str) -> np.ndarray:
    weights = np.random.default_rng(0)

    def matrix(fan_in: int, fan_out: int) -> np.ndarray:
        return weights.standard_normal((fan_in, fan_out)) / np.sqrt(fan_in)

    h = _inputs(part) @ matrix(TEACHER["features"], TEACHER["width"])
    for _ in range(TEACHER["depth"]):
        up, down = matrix(TEACHER["width"], TEACHER["width"]), matrix(TEACHER["width"], TEACHER["width"])
        h = h + ALPHA * np.maximum(h @ up, 0) @ down
    return h @ matrix(TEACHER["width"], TEACHER["classes"])
