"""Each benchmark runs, in a tiny size; what it measures is for people to read, not for a test to judge."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.bench
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
TRIED = [
    (
        "audit.py",
        "--checkpoints 1 --compared 1 --epochs 2 --rounds 1 --processes 1 --width 16 --narrow 8 --images 1280",
        "audit / bare passes",
    ),
    ("compiled.py", "--steps 1 --rounds 1 --backend eager", "compiled / eager"),
    ("diagnostics_cost.py", "--rounds 1", "diagnostics / training"),
    ("epoch.py", "--images 640 --rounds 1", "dfa / plain torch BP"),
    ("export.py", "--runs 3 --calls 2", "one new run / full"),
    ("floor.py", "--methods bp --cells 2 --width 8 --steps 1 --rounds 1 --side 64", "step / floor"),
    ("large.py", "--layers 0 --epochs 20 --runs 0 --architectures 0", "dashboard"),
    ("layers.py", "--steps 1 --rounds 1", "FA / BioTorch's FA layers"),
    ("processes.py", "--images 256 --rounds 1", "beside another / alone"),
    ("queries.py", "--runs 40 --rounds 1 --parquet", "of the file's"),
    ("scaling.py", "--plan 10 2 --epochs 1 --images 128 --seconds 0.1 --exported 3", "store writes"),
    ("stack.py", "--widths 8 --cells 2 --steps 1 --rounds 1 --no-compile", "stack    / one after the other"),
    ("start_up.py", "--rounds 1", "query / import torch, mlflow"),
    ("tracking_overhead.py", "--epochs 1 --images 512", "tracking / epoch"),
    ("writer.py", "--epochs 3 --metrics 4", "ours / MLflow's log_metrics"),
]


@pytest.mark.parametrize(("script", "arguments", "prints"), TRIED)
def test_a_benchmark_runs_and_prints_its_ratio(script: str, arguments: str, prints: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)}
    command = [sys.executable, str(BENCHMARKS / script), *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert prints in done.stdout


def test_every_benchmark_is_tried() -> None:
    assert {p.name for p in BENCHMARKS.glob("[!_]*.py")} == {script for script, _, _ in TRIED}
