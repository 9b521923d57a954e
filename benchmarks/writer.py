"""Claim: logging an epoch costs the training loop at most 2 ms, and tracking at most 2 % of an epoch of 10 s.

    python benchmarks/writer.py [--epochs N] [--metrics N]

What a loop waits for while it hands over the metrics of an epoch (40 by default), by this project's journal and
background writer, by MLflow's `log_metrics`, by its `log_batch` and by its own asynchronous logging; each into a SQLite
store of its own, in turn. The writer's work in the background is told as processor time. Between two calls the loop
sleeps for 50 ms, in the place of training. That nothing is lost is counted at the end.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import mlflow
from _timing import machine
from mlflow import MlflowClient
from mlflow.entities import Metric

import fa_tracking

PAUSE = 0.05
EPOCH = 10.0
"""Seconds of the epoch that the claim is of."""
Log = Callable[[dict[str, float], int], object]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--epochs", type=int, default=100)
    arguments.add_argument("--metrics", type=int, default=40)
    given = arguments.parse_args()
    medians, shares = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for opened in (ours, log_metrics, log_batch, asynchronous):
            waited, behind, held = measured(opened, f"sqlite:///{folder}/mlflow.db", given.epochs, given.metrics)
            medians[opened.__name__] = statistics.median(waited)
            name = opened.__name__.replace("_", " ")
            shares[opened.__name__] = (medians[opened.__name__] + behind / given.epochs) / EPOCH
            print(
                f"{name:<13} the loop waits {1000 * medians[opened.__name__]:7.3f} ms an epoch "
                f"(max {1000 * max(waited):.1f}); in the background {1000 * behind / given.epochs:6.2f} ms; "
                f"{held} of {given.epochs * given.metrics} points in the store"
            )
    print(
        f"ours / MLflow's log_metrics   {medians['ours'] / medians['log_metrics']:.4f}   claim: at most 2 ms an epoch"
    )
    print(f"waiting and background of ours / an epoch of {EPOCH:.0f} s   {shares['ours']:.2%}   claim: at most 2 %")
    print(machine())


def measured(opened: "Callable[[str], object]", uri: str, epochs: int, metrics: int) -> tuple[list[float], float, int]:
    """Seconds that each call took, processor seconds of all else, and how many points the store holds in the end."""
    values = {f"residual_norm/h{number}": 1.0 for number in range(metrics)}
    waited = []
    with opened(uri) as (run_id, log):  # type: ignore[attr-defined]
        log(values, 0)
        time.sleep(1)
        before = time.process_time()
        own = 0.0
        for epoch in range(1, epochs + 1):
            began, used = time.perf_counter(), time.thread_time()
            log(values, epoch)
            waited.append(time.perf_counter() - began)
            own += time.thread_time() - used
            time.sleep(PAUSE)
    behind = time.process_time() - before - own
    client = MlflowClient(uri)
    held = sum(len(client.get_metric_history(run_id, key)) - 1 for key in values)
    return waited, behind, held


@contextmanager
def ours(uri: str) -> Iterator[tuple[str, Log]]:
    with fa_tracking.start_run(experiment="writer", tracking_uri=uri, method="bp", seed=0) as run:
        yield run.run_id, run.log_metrics


@contextmanager
def log_metrics(uri: str) -> Iterator[tuple[str, Log]]:
    with _mlflow(uri) as run_id:
        yield run_id, mlflow.log_metrics


@contextmanager
def log_batch(uri: str) -> Iterator[tuple[str, Log]]:
    client = MlflowClient(uri)

    def log(values: dict[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        client.log_batch(run_id, metrics=[Metric(key, value, now, step) for key, value in values.items()])

    with _mlflow(uri) as run_id:
        yield run_id, log


@contextmanager
def asynchronous(uri: str) -> Iterator[tuple[str, Log]]:
    with _mlflow(uri) as run_id:
        yield run_id, lambda values, step: mlflow.log_metrics(values, step, synchronous=False)
        mlflow.flush_async_logging()


@contextmanager
def _mlflow(uri: str) -> Iterator[str]:
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("writer")
    with mlflow.start_run() as run:
        yield run.info.run_id


if __name__ == "__main__":
    main()
