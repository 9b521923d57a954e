"""What is large, measured once: seconds on the clock and of the processor, peak memory and bytes written.

    python benchmarks/large.py [--layers N] [--epochs N] [--runs N] [--architectures N] [--keep FOLDER]

    layers          one run of resmlp with as many blocks, of width 16, trained for one epoch
    epochs          one run of as many epochs, of 40 metrics each, beside one of ten epochs
    runs            as many audited runs in ten experiments, of 4 metrics and 5 epochs each
    architectures   one experiment of as many architectures, by bp and dfa with three seeds each

Each is left out at 0. The first trains; the stores of the others are written in bulk, as MLflow lays its own out. Every
command runs in a process of its own, whose memory the kernel counts, from a folder of its own. A page of a dashboard is
what /fa/ serves too; /fa/ itself is asked over HTTP of a real server.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _timing import machine
from mlflow import MlflowClient

FA_TRACK = """
import atexit, pathlib, re, time
peak = lambda: re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]
atexit.register(lambda: pathlib.Path("took.txt").write_text(f"{peak()} {time.process_time()}"))
from fa_tracking.cli import main
main(prog_name="fa-track")
"""
THRESHOLDS = {
    "g_norm_floor": 1e-7,
    "h_norm_explosion_ratio": 50.0,
    "stability_drift_ceiling": 0.3,
    "frozen_acc_margin_pp": 2.0,
}
SCALARS = ("accuracy/test", "diagnostics/max_block_growth", "diagnostics/deepest_grad_norm", "diagnostics/stability")
LAYERS = [
    f"{prefix}{layer}"
    for prefix in ("residual_norm/h", "grad_norm/g", "alignment/l", "alignment_null/l", "alignment_null_sd/l")
    for layer in range(7)
]
EXPERIMENTS = 10


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"layers": 1000, "epochs": 100_000, "runs": 100_000, "architectures": 50}
    for name, size in sizes.items():
        arguments.add_argument(f"--{name}", type=int, default=size)
    arguments.add_argument("--keep", type=Path, help="work in this folder, and leave it")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name in sizes:
            if size := getattr(given, name):
                folder = (given.keep or Path(scratch)) / name
                folder.mkdir(parents=True)
                os.chdir(folder)
                globals()[f"many_{name}"](size)
    print(machine())


def many_layers(layers: int) -> None:
    print(f"a run of {layers:,} layers")
    sizes = ["--width", "16", "--depth", str(layers), "--dataset", "digits", "--epochs", "1"]
    step("train", "train", "dfa", "--experiment", "large", *sizes, "--seed", "1")
    step("audit", "audit", "--experiment", "large")
    read("large")


def many_epochs(epochs: int) -> None:
    print(f"a run of {epochs:,} epochs, {epochs * len([*SCALARS, *LAYERS]):,} points")
    with store("large") as add:
        add([1], {"method": "dfa", "architecture": "resmlp"}, [*SCALARS, *LAYERS], epochs)
        add([2], {"method": "dfa", "architecture": "resmlp"}, [*SCALARS, *LAYERS], 10)
    read("large", "first_flag", "training_by_cell", "trajectories")


def many_runs(runs: int) -> None:
    each = runs // EXPERIMENTS
    print(f"{runs:,} runs in {EXPERIMENTS} experiments, {runs * len(SCALARS) * 5:,} points")
    for i in range(EXPERIMENTS):
        with store(f"large{i}") as add:
            for cell in range(each // 10):
                params = {"method": ("bp", "dfa", "fa", "ep")[cell % 4], "architecture": "resmlp", "lr": 1e-5 * cell}
                add(range(10), params, SCALARS, 5)
    with store("one_more") as add:
        add([1], {"method": "bp", "architecture": "resmlp"}, SCALARS, 5)
    step("audit of one run's experiment", "audit", "--experiment", "one_more")
    step("study status", "study", "status", "dfa_penalty")
    read("large0")
    step("nothing new: export", "export")
    serve()


def many_architectures(architectures: int) -> None:
    print(f"{architectures} architectures, {architectures * 6} runs")
    with store("large") as add:
        for i in range(architectures):
            for method in ("bp", "dfa"):
                add([1, 2, 3], {"method": method, "architecture": f"network_{i:02}"}, [*SCALARS, *LAYERS], 10)
    read("large", "cross_architecture", "verdict_matrix")
    for chart in ("cross_architecture", "verdict_matrix", "audit_panels", "trajectories", "alignment_by_layer"):
        step(f"chart {chart}", "chart", chart, "--experiment", "large", "-o", f"{chart}.png", written=f"{chart}.png")


def read(experiment: str, *queries: str) -> None:
    """What comes after an audit."""
    about = ["--experiment", experiment]
    step("export", "export", written="fa_results.duckdb")
    for query in ("cross_seed", "board", *queries):
        step(f"query {query}", "query", query, *about, "--format", "csv")
    step("dashboard", "dashboard", *about, "-o", "page.html", written="page.html")


def step(label: str, *words: str, written: str | None = None) -> None:
    """Run one command, and print what it took."""
    began = time.perf_counter()
    with Path("output.txt").open("wb") as output:
        done = subprocess.run([sys.executable, "-c", FA_TRACK, *words], stdout=output, stderr=output, check=False)
    seconds = time.perf_counter() - began
    peak, processor = map(float, Path("took.txt").read_text().split())
    said = f"   exit {done.returncode}: {_last_line()}" if done.returncode else ""
    size = f"   {Path(written).stat().st_size / 1e6:8.2f} MB" if written and Path(written).exists() else ""
    print(
        f"  {label:<32} {seconds:7.1f} s, {processor:6.1f} s of processor, {peak / 1024:6.0f} MB of memory{size}{said}",
        flush=True,
    )


def _last_line() -> str:
    return ([*Path("output.txt").read_text().strip().splitlines()] or [""])[-1]


def serve() -> None:
    """/fa/ and the page of one experiment, of a server over the store of this folder."""
    port = "5793"
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "fa-track", "--workers", "1", "--port", port]
    with Path("server.txt").open("wb") as log:
        server = subprocess.Popen([*command, "--backend-store-uri", "sqlite:///mlflow.db"], stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(f"{address}/health")
        for path in ("/fa/", "/fa/1", "/fa/1"):
            began = time.perf_counter()
            with urllib.request.urlopen(address + path, timeout=600) as answer:
                size = len(answer.read())
            print(f"  GET {path:<28} {time.perf_counter() - began:8.1f} s   {size / 1e6:8.2f} MB", flush=True)
    finally:
        server.terminate()
        server.wait()


def _wait(address: str) -> None:
    for _ in range(120):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(1)
    sys.exit("the server did not start: see server.txt")


@contextmanager
def store(experiment: str) -> "Iterator[Any]":
    """``add(seeds, params, keys, epochs)``: audited runs of one cell, written into MLflow's store in bulk."""
    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")
    experiment_id = int(client.create_experiment(experiment))
    connection = sqlite3.connect("mlflow.db")
    connection.execute("pragma synchronous = off")

    def add(seeds: Iterable[int], params: Mapping[str, object], keys: Iterable[str], epochs: int) -> None:
        for seed in seeds:
            _add_run(connection, experiment_id, {**params, "seed": seed, "epochs": epochs}, [*keys], epochs)

    with connection:
        yield add
    connection.close()


def _add_run(
    connection: sqlite3.Connection, experiment: int, params: Mapping[str, object], keys: list[str], epochs: int
) -> None:
    run, now = uuid.uuid4().hex, int(time.time() * 1000)
    connection.execute(
        "insert into runs (run_uuid, name, source_type, user_id, status, start_time, end_time, lifecycle_stage, "
        "artifact_uri, experiment_id) values (?, ?, 'LOCAL', 'someone', 'FINISHED', ?, ?, 'active', ?, ?)",
        (run, f"{params['method']}, seed {params['seed']}", now, now + 1000, f"mlruns/{run}", experiment),
    )
    sized = {"width": 64, "depth": 6, "dataset": "digits", "penalty": 0.0, "frozen_blocks": False, **params}
    connection.executemany("insert into params values (?, ?, ?)", [(k, str(v), run) for k, v in sized.items()])
    value = int(run[:6], 16) / 16**6  # in [0, 1), another for each run
    measured = {
        "epoch": epochs, "headline_accuracy": value, "control_accuracy": 0.1, "margin_pp": 100 * value - 10,
        "max_block_growth": 100 * value, "stream_growth": None, "deepest_residual_norm": 10.0,
        "deepest_grad_norm": 1e-6, "grad_gain": 1e-6, "chance_error": 0.949, "reference": "checked", "stability": 0.1,
        "fired": {"n": False, "a": value > 0.5, "b": False, "c": False, "d": value < 0.12},
    }  # fmt: skip
    flags = ",".join(letter for letter, fires in measured["fired"].items() if fires)  # type: ignore[attr-defined]
    tags = {
        "fa.verdict": f"needs walk-back: {flags}" if flags else "trustworthy",
        "fa.flags": flags,
        "fa.evidence": "full",
        "fa.measured": json.dumps(measured),
        "fa.thresholds": json.dumps(THRESHOLDS),
        "fa.audited_at": "2026-01-01T00:00:00+00:00",
    }
    connection.executemany("insert into tags values (?, ?, ?)", [(k, v, run) for k, v in tags.items()])
    connection.executemany(
        "insert into metrics (key, value, timestamp, run_uuid, step, is_nan) values (?, ?, ?, ?, ?, 0)",
        ((key, value * (1 + step % 7) / 7, now + step, run, step) for step in range(1, epochs + 1) for key in keys),
    )
    connection.executemany(
        "insert into latest_metrics (key, value, timestamp, step, is_nan, run_uuid) values (?, ?, ?, ?, 0, ?)",
        [(key, value * (1 + epochs % 7) / 7, now + epochs, epochs, run) for key in keys],
    )


if __name__ == "__main__":
    main()
