"""What the benchmarks share: interleaved timing, and the machine beside every number."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import torch


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


def machine() -> str:
    """The line under every figure."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}, mlflow {version('mlflow')}"
    )
