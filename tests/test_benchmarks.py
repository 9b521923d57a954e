"""Each benchmark runs, in a tiny size; what it measures is for people to read, not for a test to judge."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize(
    ("script", "arguments", "prints"),
    [
        ("audit.py", ["--checkpoints", "2", "--epochs", "2", "--rounds", "1"], "audit / bare passes"),
        ("diagnostics_cost.py", ["--rounds", "1"], "diagnostics / training"),
        ("epoch.py", ["--images", "1280", "--rounds", "1"], "dfa / plain torch BP"),
        ("export.py", ["--runs", "3", "--calls", "2"], "one new run / full"),
        ("large.py", ["--layers", "0", "--epochs", "20", "--runs", "0", "--architectures", "0"], "dashboard"),
        ("queries.py", ["--runs", "40", "--rounds", "1", "--parquet"], "of the file's"),
        (
            "scaling.py",
            ["--plan", "10", "2", "--epochs", "1", "--images", "128", "--seconds", "0.1", "--exported", "3"],
            "store writes",
        ),
        ("tracking_overhead.py", ["--epochs", "1", "--images", "512"], "tracking / epoch"),
    ],
)
def test_a_benchmark_runs_and_prints_its_ratio(script: str, arguments: list[str], prints: str) -> None:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert prints in done.stdout


def test_every_benchmark_is_tried() -> None:
    tried = {
        "audit.py",
        "diagnostics_cost.py",
        "epoch.py",
        "export.py",
        "large.py",
        "queries.py",
        "scaling.py",
        "tracking_overhead.py",
    }
    assert {p.name for p in BENCHMARKS.glob("[!_]*.py")} == tried
