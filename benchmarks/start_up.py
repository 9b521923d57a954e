"""Claims on start-up: `fa-track --help` and `fa-track query` under 0.5 s, `import fa_tracking` under 0.1 s.

    python benchmarks/start_up.py [--rounds N]

Whole processes, interleaved. Beside them a Python that does nothing, which no command can be faster than, and one that
imports torch and MLflow, which these commands would wait for if they imported them. `query` asks an exported database
of one run.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from _timing import interleaved, machine, ratio

from fa_tracking.results.export.export import export
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.tracked import train

COMMAND = "import sys; sys.argv[0] = 'fa-track'; from fa_tracking.cli import main; main(prog_name='fa-track')"
PROGRAMS = {
    "python": ["-c", "pass"],
    "import fa_tracking": ["-c", "import fa_tracking"],
    "fa-track --help": ["-c", COMMAND, "--help"],
    "fa-track query": ["-c", COMMAND, "query", "cross_seed", "--experiment", "small"],
    "import torch, mlflow": ["-c", "import torch, mlflow"],
}
CLAIMS = {"import fa_tracking": 0.1, "fa-track --help": 0.5, "fa-track query": 0.5}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=9)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder)
        times = interleaved({name: process(words, folder) for name, words in PROGRAMS.items()}, given.rounds, 1)
    for name in PROGRAMS:
        claim = f"   claim: under {CLAIMS[name]:g} s" if name in CLAIMS else ""
        print(f"{name:<22} {statistics.median(times[name]):6.3f} s (max {max(times[name]):.3f}){claim}")
    print(f"query / import torch, mlflow   {ratio(times, 'fa-track query', 'import torch, mlflow')}")
    print(machine())


def prepare(folder: str) -> None:
    uri = f"sqlite:///{folder}/mlflow.db"
    train(RunConfig("bp", width=8, depth=1, dataset="digits", epochs=0), "small", uri)
    export(f"{folder}/fa_results.duckdb", uri)


def process(words: list[str], folder: str) -> Callable[[], object]:
    here = str(Path(__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    return lambda: subprocess.run([sys.executable, *words], cwd=folder, env=env, check=True, capture_output=True)


if __name__ == "__main__":
    main()
