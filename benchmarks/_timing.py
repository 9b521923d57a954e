"""What the benchmarks share: interleaved timing, and the machine beside every number."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import torch

from fa_tracking.protocol.batches import Normalisation
from fa_tracking.trainers.data import Dataset, Split


def interleaved(candidates: dict[str, Callable[[], object]], rounds: int, warmup: int = 2) -> dict[str, list[float]]:
    """Seconds of each candidate in each round; in every round all run, in turn, so that drift hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for i in range(warmup + rounds):
        for name, run in candidates.items():
            began = time.perf_counter()
            run()
            if i >= warmup:
                times[name].append(time.perf_counter() - began)
    return times


def ratio(times: dict[str, list[float]], over: str, under: str) -> str:
    """Median of the round-by-round ratios, with the smallest and the largest."""
    ratios = sorted(a / b for a, b in zip(times[over], times[under], strict=True))
    return f"{statistics.median(ratios):.3f} (min {ratios[0]:.3f}, max {ratios[-1]:.3f}, {len(ratios)} rounds)"


def random_images(train: int, test: int = 2_000) -> Dataset:
    """Random bytes in CIFAR-10's shape: no timing depends on what the pixels show."""
    draw = torch.Generator().manual_seed(0)

    def split(size: int) -> Split:
        pixels = torch.randint(0, 256, (size, 3, 32, 32), dtype=torch.uint8, generator=draw)
        return Split(pixels, torch.randint(0, 10, (size,), generator=draw))

    return Dataset("random", split(train), split(test), Normalisation((127.5,) * 3, (73.9,) * 3), 10)


def machine() -> str:
    """The line under every figure."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}, mlflow {version('mlflow')}"
    )
