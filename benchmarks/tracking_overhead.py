"""Claim: tracking and all diagnostics together take at most 5 % of a CIFAR-10 epoch without them.

    python benchmarks/tracking_overhead.py [--epochs N] [--images N]

DFA on ResMLP d = 256, batch 128, one thread, a real SQLite store; random images of CIFAR-10's shape and number. Each
epoch is trained, then diagnosed and logged (Γ per layer with its ten-draw null included), and the store's answer is
waited for, though training itself would not wait. The checkpoint of a run's end is timed beside it.
"""

import argparse
import statistics
import tempfile
import time

import torch
from _timing import machine, random_images

import fa_tracking
from fa_tracking.trainers import loop
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.learner import Learner, build
from fa_tracking.trainers.method import generator
from fa_tracking.trainers.running import NULL_SEEDS, metrics_of


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--epochs", type=int, default=5)
    arguments.add_argument("--images", type=int, default=50_000)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    config = RunConfig(method="dfa", dataset="random", epochs=given.epochs)
    dataset = random_images(given.images)
    model, rule = build(config, dataset)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, fused=True)
    batches = loop.evaluation_inputs(dataset)
    null = [rule.fresh(model, seed).credit for seed in NULL_SEEDS]
    learner = Learner(config, model, rule, optimizer, generator(0, "benchmark"))
    trained, tracked = [], []
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        with fa_tracking.start_run(experiment="overhead", tracking_uri=uri, method="dfa", seed=0) as run:
            run.flush()
            for epoch in range(1, given.epochs + 1):
                began = time.perf_counter()
                met = loop.train_epoch(learner, dataset, epoch)
                between = time.perf_counter()
                run.log_epoch(epoch, model, batches, 0.1, rule.credit, null, metrics_of(met, between - began))
                run.flush()
                trained.append(between - began)
                tracked.append(time.perf_counter() - between)
            began = time.perf_counter()
            run.log_checkpoint(model, rule.state_dict(), given.epochs)
            run.flush()
            checkpoint = time.perf_counter() - began
    shares = sorted(b / a for a, b in zip(trained, tracked, strict=True))
    print(f"epoch without tracking       {statistics.median(trained):8.3f} s")
    print(f"diagnostics and tracking     {statistics.median(tracked):8.3f} s")
    print(f"checkpoint, once a run       {checkpoint:8.3f} s")
    spread = f"min {shares[0]:.2%}, max {shares[-1]:.2%}, {len(shares)} epochs"
    print(f"tracking / epoch             {statistics.median(shares):.2%} ({spread})   claim: at most 5 %")
    print(machine())


if __name__ == "__main__":
    main()
