"""Throughput of a study over workers, and on paper what many runs on many machines need.

    python benchmarks/scaling.py [--workers N …] [--executors NAME …] [--runs N] [--epochs N]
    python benchmarks/scaling.py --plan RUNS NODES [--per-node N] [--epochs N] [--images N] [--store URI]

The first trains the same small study with each executor and number of workers, each into a new SQLite store. `whole`
counts from the command to its end, `warm` from the moment at which each worker has ended its first run: a long study
goes at that pace.

The second measures what one run costs (DFA on ResMLP 4×256, random images of CIFAR-10's shape, one thread), what the
store takes and how fast an export reads, and multiplies. It assumes that a core of a node is as fast as one of this
machine. --store measures writes into that store; without it, into a new SQLite file.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from _timing import machine, random_images
from export import build, exported
from sqlalchemy import event
from sqlalchemy.engine import Engine

import fa_tracking
from fa_tracking.executors import Needs
from fa_tracking.tracking import names, store
from fa_tracking.tracking.address import without_password
from fa_tracking.trainers import learner, loop
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.method import generator
from fa_tracking.trainers.running import NULL_SEEDS
from fa_tracking.trainers.study import lease, schedule
from fa_tracking.trainers.study.grid import Study

CONFIG = RunConfig(method="dfa", dataset="random")
FEW_IMAGES = 1280


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--executors", nargs="+", default=["local", "ray"])
    arguments.add_argument("--runs", type=int, default=24)
    arguments.add_argument("--epochs", type=int, default=30)
    arguments.add_argument("--plan", type=int, nargs=2, metavar=("RUNS", "NODES"))
    arguments.add_argument("--per-node", type=int, default=16, help="runs that train side by side on a node")
    arguments.add_argument("--images", type=int, default=50_000)
    arguments.add_argument("--store", metavar="URI")
    arguments.add_argument("--seconds", type=float, default=5.0, help="of writing into the store")
    arguments.add_argument("--exported", type=int, default=200, help="runs of the export that is timed")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.plan:
            plan(Path(folder), given)
        else:
            throughput(Path(folder), given.executors, given.workers, given.runs, given.epochs)
    torch.set_num_threads(1)
    print(machine())


def throughput(folder: Path, executors: list[str], workers: list[int], runs: int, epochs: int) -> None:
    fixed = {"dataset": "digits", "width": 64, "depth": 4, "epochs": epochs}
    study = Study.model_validate(
        {
            "title": "throughput",
            "experiment": "throughput",
            "seeds": list(range(runs)),
            "fixed": fixed,
            "grids": [{"parameters": {"method": {"values": ["dfa"]}}}],
        }
    )
    print(f"{runs} runs of {epochs} epochs, {' '.join(f'{k}={v}' for k, v in fixed.items())}; runs per minute")
    print(f"{'executor':<10} {'workers':>7} {'whole':>8} {'warm':>8}")
    for executor in executors:
        for jobs in workers:
            uri = f"sqlite:///{folder}/{executor}-{jobs}.db"
            began, ends = time.perf_counter(), []

            def finished(*_: object, ends: list[float] = ends) -> None:
                ends.append(time.perf_counter())

            problems = schedule.run(study, uri, needs=Needs(jobs=jobs), executor=executor, finished=finished)
            if problems:
                raise SystemExit(f"{executor}: {next(iter(problems.values()))}")
            whole = 60 * runs / (ends[-1] - began)
            warm = 60 * (runs - jobs) / (ends[-1] - ends[jobs - 1])
            print(f"{executor:<10} {jobs:>7} {whole:>8.1f} {warm:>8.1f}", flush=True)


def plan(folder: Path, given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    (runs, nodes), epochs = given.plan, given.epochs
    epoch = epoch_seconds(given.images)
    writes, points, artifact_bytes, diagnostics = one_run(folder, epochs)
    uri = given.store or f"sqlite:///{folder}/writes.db"
    capacity, writers = write_rate(uri, given.seconds)
    reading = export_rate(folder, given.exported)

    seconds = epochs * (epoch + diagnostics)
    writes += seconds / lease.BEAT
    side_by_side = min(runs, nodes * given.per_node)
    duration = seconds * runs / side_by_side
    per_second = writes * runs / duration
    print(f"unit costs: a run is {CONFIG.method}, {CONFIG.architecture} {CONFIG.depth}×{CONFIG.width}, {epochs} epochs")
    print(f"  epoch of {given.images:,} images     {epoch:12.2f} s")
    print(f"  diagnostics of an epoch      {diagnostics:12.2f} s")
    print(f"  writes a run                 {writes:12.0f}   with a sign of life every {lease.BEAT:.0f} s")
    print(f"  metric points a run          {points:12,.0f}")
    print(f"  artifacts a run              {artifact_bytes / 1e6:12.2f} MB")
    print(f"  the store takes              {capacity:12.0f} writes/s   {writers} writers, {without_password(uri)}")
    print(f"  an export reads              {reading:12,.0f} points/s")
    print(f"{runs:,} runs on {nodes} nodes, {given.per_node} side by side on each")
    print(f"  duration                     {duration / 3600:12.2f} h")
    print(f"  store writes                 {per_second:12.1f} /s   {per_second / capacity:.0%} of what it takes")
    print(
        f"  artifacts                    {artifact_bytes * runs / 1e9:12.1f} GB   "
        f"{artifact_bytes * runs / duration / 1e6:.2f} MB/s"
    )
    print(f"  export                       {points * runs / reading:12.1f} s   {points * runs:,.0f} points")


def epoch_seconds(images: int) -> float:
    dataset = random_images(images)
    model, rule = learner.build(CONFIG, dataset)
    optimizer = torch.optim.AdamW(model.parameters(), lr=CONFIG.lr, fused=True)
    began = time.perf_counter()
    loop.train_epoch(learner.Learner(CONFIG, model, rule, optimizer, generator(0, "benchmark")), dataset, 1)
    loop.evaluate(model, dataset)
    return time.perf_counter() - began


def one_run(folder: Path, epochs: int) -> tuple[int, int, int, float]:
    """Writing transactions, metric points, bytes of artifacts, and median seconds of the diagnostics of an epoch."""
    dataset = random_images(FEW_IMAGES)
    model, rule = learner.build(CONFIG, dataset)
    batches = loop.evaluation_inputs(dataset)
    null = [rule.fresh(model, seed).credit for seed in NULL_SEEDS]
    uri = f"sqlite:///{folder}/run.db"
    client = store.client(uri)
    client.create_experiment("plan", artifact_location=str(folder / "artifacts"))
    params = {name: getattr(CONFIG, name) for name in names.PARAMS}
    with counted_writes() as writes, fa_tracking.start_run("plan", uri, **params) as run:
        for epoch in range(epochs + 1):
            run.log_epoch(epoch, model, batches, 0.1, rule.credit, null, {names.LOSS_TRAIN: 0.0})
        run.log_checkpoint(model, rule.state_dict(), epochs)
    found = client.get_run(run.run_id)
    spent = [m.value for m in client.get_metric_history(run.run_id, names.DIAGNOSTICS_SECONDS)]
    points = len(spent) * len(found.data.metrics)
    size = sum(p.stat().st_size for p in (folder / "artifacts").rglob("*") if p.is_file())
    return len(writes), points, size, statistics.median(spent)


@contextmanager
def counted_writes() -> Iterator[list[None]]:
    """Grows by one with every transaction that changes a database."""
    writes: list[None] = []
    dirty: set[int] = set()

    def executed(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE"):
            dirty.add(id(connection))

    def committed(connection: object) -> None:
        if id(connection) in dirty:
            dirty.remove(id(connection))
            writes.append(None)

    event.listen(Engine, "before_cursor_execute", executed)
    event.listen(Engine, "commit", committed)
    yield writes
    event.remove(Engine, "before_cursor_execute", executed)
    event.remove(Engine, "commit", committed)


def write_rate(uri: str, seconds: float) -> tuple[float, int]:
    """Batches of one epoch's metrics per second, from as many processes as there are cores, each into its own run."""
    writers = os.cpu_count() or 1
    client = store.client(uri)
    home = store.experiment_id(client, "benchmark of writes")
    runs = [client.create_run(home).info.run_id for _ in range(writers)]
    apart = multiprocessing.get_context("forkserver")  # no fork of this process: it may share no connection
    with ProcessPoolExecutor(writers, apart) as pool:
        list(pool.map(write, [uri] * writers, runs, [0.1] * writers))  # imports and connections are no part of it
        done = list(pool.map(write, [uri] * writers, runs, [seconds] * writers))
    return sum(done), writers


def write(uri: str, run_id: str, seconds: float) -> float:
    from mlflow.entities import Metric

    client = store.client(uri)
    keys = [names.residual_norm(i) for i in range(20)] + [names.grad_norm(i) for i in range(20)]
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        client.log_batch(run_id, metrics=[Metric(key, 0.5, 0, count) for key in keys])
        count += 1
    return count / (time.perf_counter() - began)


def export_rate(folder: Path, runs: int) -> float:
    build(folder / "exported.db", runs)
    done = exported(f"sqlite:///{folder}/exported.db", folder / "exported.duckdb")
    return done["points"] / done["seconds"]


if __name__ == "__main__":
    main()
