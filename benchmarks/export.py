"""Claims on `fa-track export`, on SQLite stores of 100 and 1,000 runs × 40 metrics × 100 steps, all in one run:

    direct export / MLflow's client   at least 35 times faster at 100 runs, 200 times at 1,000
    rate                              at least 1,200,000 metric points per second into a file on disk
    peak memory                       under 400 MB, whatever the size
    one new run among 1,000           under 2 % of the time of a full export

    python benchmarks/export.py [--runs N …] [--calls N]

MLflow's side is `search_runs` and one `get_metric_history` per run and metric; it is timed on a sample of calls, spread
over the runs, and extrapolated. Each export runs in a process of its own, whose memory the kernel counts.
"""

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from _timing import machine
from mlflow import MlflowClient

KEYS = [f"residual_norm/h{i}" for i in range(20)] + [f"grad_norm/g{i}" for i in range(19)] + ["accuracy/test"]
STEPS = 100

EXPORT = """
import json, sys, time
import adbc_driver_sqlite.dbapi, duckdb, pyarrow.compute  # their import is no part of the export
from fa_tracking.results.export.export import export
began = time.perf_counter()
done = export(sys.argv[2], sys.argv[1])
seconds = time.perf_counter() - began
lines = open("/proc/self/status").read().splitlines()
peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
print(json.dumps({"seconds": seconds, "peak_mb": peak, "points": done.metrics, "read": done.read}))
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, nargs="+", default=[100, 1000])
    arguments.add_argument("--calls", type=int, default=40, help="of get_metric_history, timed")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for runs in given.runs:
            measure(Path(folder), runs, given.calls)
    print(machine())


def measure(folder: Path, runs: int, calls: int) -> None:
    store = folder / f"{runs}.db"
    client, experiment = build(store, runs)
    uri, database = f"sqlite:///{store}", folder / f"{runs}.duckdb"
    full = exported(uri, database)
    mlflow_side = by_client(client, experiment, calls)
    again = exported(uri, database)
    add_runs(store, experiment, 1)
    one = exported(uri, database)
    points = full["points"]
    print(f"{runs} runs, {points:,.0f} points")
    print(f"  direct export                {full['seconds']:8.2f} s   {points / full['seconds']:,.0f} points/s")
    print(f"  peak memory                  {full['peak_mb']:8.0f} MB")
    faster = f"direct is {mlflow_side / full['seconds']:.0f} times faster"
    print(f"  MLflow's client, from {calls:>3} calls {mlflow_side:6.0f} s   {faster}")
    print(f"  nothing new / full           {again['seconds'] / full['seconds']:8.2%}   {again['seconds']:.3f} s")
    share = one["seconds"] / full["seconds"]
    print(f"  one new run / full           {share:8.2%}   {one['seconds']:.3f} s, {one['read']:.0f} read")


def build(store: Path, runs: int) -> tuple[MlflowClient, str]:
    """A store as MLflow makes it, its rows written in bulk."""
    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.create_experiment("benchmark")
    add_runs(store, experiment, runs)
    return client, experiment


def add_runs(store: Path, experiment: str, runs: int) -> None:
    now = int(time.time() * 1000)
    with sqlite3.connect(store) as connection:
        for seed in range(runs):
            run = uuid.uuid4().hex
            connection.execute(
                "insert into runs (run_uuid, name, source_type, user_id, status, start_time, end_time, "
                "lifecycle_stage, artifact_uri, experiment_id) "
                "values (?, ?, 'LOCAL', 'someone', 'FINISHED', ?, ?, 'active', '', ?)",
                (run, f"run {seed}", now, now + 1000, int(experiment)),
            )
            params = {"method": f"m{seed % 7}", "seed": str(seed), "width": "256", "depth": "4", "epochs": str(STEPS)}
            connection.executemany("insert into params values (?, ?, ?)", [(k, v, run) for k, v in params.items()])
            tags = {f"tag{i}": "value" for i in range(12)}
            connection.executemany("insert into tags values (?, ?, ?)", [(k, v, run) for k, v in tags.items()])
            points = [(key, 0.5 + step, now + step, run, step, 0) for step in range(STEPS) for key in KEYS]
            into = "insert into metrics (key, value, timestamp, run_uuid, step, is_nan) values (?, ?, ?, ?, ?, ?)"
            connection.executemany(into, points)
            last = [(key, 0.5 + STEPS - 1, now + STEPS - 1, STEPS - 1, 0, run) for key in KEYS]
            into = (
                "insert into latest_metrics (key, value, timestamp, step, is_nan, run_uuid) values (?, ?, ?, ?, ?, ?)"
            )
            connection.executemany(into, last)


def by_client(client: MlflowClient, experiment: str, calls: int) -> float:
    """Seconds that search_runs and every get_metric_history would take."""
    began = time.perf_counter()
    runs, token = [], None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        runs, token = [*runs, *page], page.token
        if not token:
            break
    searched = time.perf_counter() - began
    step = max(1, len(runs) * len(KEYS) // calls)
    sample = [(runs[i // len(KEYS)].info.run_id, KEYS[i % len(KEYS)]) for i in range(0, len(runs) * len(KEYS), step)]
    began = time.perf_counter()
    for run, key in sample:
        client.get_metric_history(run, key)
    return searched + (time.perf_counter() - began) / len(sample) * len(runs) * len(KEYS)


def exported(uri: str, database: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", EXPORT, uri, str(database)], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
