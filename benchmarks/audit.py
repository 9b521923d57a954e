"""Claim: 100 checkpoints of ResMLP d = 256 are audited in under 20 s on two cores, data loading included, or within
1.3 times of the forward and backward passes that they need, whichever is longer.

    python benchmarks/audit.py [--checkpoints N] [--compared N] [--epochs N] [--rounds N] [--processes N …]
                               [--width N] [--narrow N …] [--images N]

A SQLite store of N finished runs, each with the metrics of its epochs and a checkpoint of its own draw; random test
images of CIFAR-10's shape and number, as JPEG in a parquet file. The seconds are those of the command, which starts
Python, decodes the images, and writes tags, note and report of every run, with its pictures and without.

The ratios are of processor time, in one process and one thread, all in turn: reading, measuring and writing of an
audit of so many runs as are compared, with pictures and without, against the bare passes over the same networks and
batches. These are a forward pass, the backward pass to every hidden state, and for the block knock-out what follows
each block that is taken out. The last lines say the same of narrower networks, whose passes would gain most from being
stacked.
"""

import argparse
import io
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from _timing import machine
from PIL import Image
from torch import Tensor

import fa_tracking
from fa_tracking.auditor.run import audit
from fa_tracking.protocol.batches import Normalisation, evaluation_batches
from fa_tracking.tracking import names
from fa_tracking.tracking.checkpoint import DataSource
from fa_tracking.trainers.data import test_split
from fa_tracking.trainers.models.resmlp import Model

WIDTH = 256
MEAN, STD = (127.5,) * 3, (73.9,) * 3
PICTURES = {"--pictures": "with pictures", "--no-pictures": "without pictures"}
FA_TRACK = "from fa_tracking.cli import main; main()"

Batches = list[tuple[Tensor, Tensor]]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--checkpoints", type=int, default=100)
    arguments.add_argument("--compared", type=int, default=10)
    arguments.add_argument("--epochs", type=int, default=30)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--processes", type=int, nargs="+", default=[2], help="of the command that is timed")
    arguments.add_argument("--width", type=int, default=WIDTH, help="of the networks; the claim is of the default")
    arguments.add_argument("--narrow", type=int, nargs="*", default=[64], help="widths that are compared too")
    arguments.add_argument("--images", type=int, default=10_000, help="of the test set")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work_in(folder)
        write_images(Path(folder, "random"), given.images)
        with ProcessPoolExecutor(2, get_context("forkserver")) as two:
            list(two.map(partial(save, folder, given.epochs, given.width), range(given.checkpoints)))
        for processes in given.processes:
            for option, said in PICTURES.items():
                seconds = command("audit", "--experiment", "audit", "--jobs", str(processes), option)
                jobs = f"{processes} process{'es' * (processes - 1)}"
                print(f"{given.checkpoints} checkpoints, {jobs}, {said}   {seconds:.1f} s")
        for width in (given.width, *given.narrow):
            compare(width, given.compared, given.epochs, given.rounds)
    print(f"{machine()}, load {os.getloadavg()[0]:.1f}")


def compare(width: int, runs: int, epochs: int, rounds: int) -> None:
    """The audit of runs against the bare passes of their networks."""
    experiment = f"compared {width}"
    models = [saved(experiment, seed, epochs, width) for seed in range(runs)]
    batches = evaluation()
    sides: dict[str, Callable[[], object]] = {
        "audit": partial(audit, experiment),
        "audit without pictures": partial(audit, experiment, pictures=False),
        "bare passes": lambda: [passes(model, batches) for model in models],
    }
    audit(experiment)  # what a process does once: imports, images, the engine that draws
    took = [{name: processor_seconds(run) / runs for name, run in sides.items()} for _ in range(rounds)]
    for name in [*sides][:-1]:
        ratios = [each[name] / each["bare passes"] for each in took]
        spread = f"min {min(ratios):.2f}, max {max(ratios):.2f}, {rounds} rounds"
        claim = "   claim: at most 1.3, or 20 s for 100" if width == WIDTH else ""
        print(f"d = {width:<3}  {name} / bare passes   {statistics.median(ratios):.2f} ({spread}){claim}")
    each = ", ".join(f"{name} {1e3 * statistics.median(t[name] for t in took):.0f} ms" for name in sides)
    print(f"         processor time a checkpoint: {each}")


def passes(model: Model, batches: Batches) -> int:
    """The forward and backward passes of one checkpoint; how many samples its variants get right together."""
    return sum(_passes(model, x, y) for x, y in batches)


def _passes(model: Model, x: Tensor, y: Tensor) -> int:
    logits, hidden = model(x, return_hidden=True)
    error = torch.softmax(logits.detach(), dim=1)
    error[torch.arange(len(y)), y] -= 1
    torch.autograd.grad(logits, hidden, grad_outputs=error)
    with torch.no_grad():
        without = [after(model, layer + 1, hidden[layer]) for layer in range(len(model.blocks))]
        without_all = model.readout(hidden[0])
    return sum(int((found.argmax(1) == y).sum()) for found in (logits, *without, without_all))


def after(model: Model, layer: int, h: Tensor) -> Tensor:
    """The logits of a state as it goes into block ``layer``."""
    for block in model.blocks[layer:]:
        h = h + block(h)
    return model.readout(h)


def work_in(folder: str) -> None:
    """In one thread, on the store and the data in ``folder``."""
    torch.set_num_threads(1)
    os.chdir(folder)
    os.environ |= {"FA_TRACK_DATA": folder, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}


def save(folder: str, epochs: int, width: int, seed: int) -> None:
    """In a process of its own."""
    work_in(folder)
    saved("audit", seed, epochs, width)


def saved(experiment: str, seed: int, epochs: int, width: int) -> Model:
    """A finished run with the metrics of its epochs and a checkpoint; the network of it."""
    torch.manual_seed(seed)
    network = {"input_shape": (3, 32, 32), "classes": 10, "width": width, "depth": 4}
    model = Model(**network)
    source = DataSource(name="random", loader="trainers", test_sha256=test_split("random").digest, mean=MEAN, std=STD)
    params = {"method": "dfa", "architecture": "resmlp", "dataset": "random", "seed": seed}
    with fa_tracking.start_run(experiment, **params) as run:
        for epoch in range(1, epochs + 1):
            run.log_metrics(logged(epoch), step=epoch)
        run.log_checkpoint(model, {}, epochs, factory="trainers:resmlp", config=network, dataset=source)
    return model.eval()


def logged(epoch: int) -> dict[str, float]:
    """What a run of DFA logs at an epoch, in kind."""
    decay = math.exp(-epoch / 20)
    kinds = (names.residual_norm, names.grad_norm, names.alignment, names.alignment_null, names.alignment_null_sd)
    by_layer = {kind(layer): decay / (layer + 1) for kind in kinds for layer in range(5)}
    return {**by_layer, names.ACCURACY_TEST: 0.1 + 0.3 * (1 - decay), names.ALIGNMENT_MISSING: 0.0}


def evaluation() -> Batches:
    """The protocol's ten batches of 128, normalised."""
    split, normalise = test_split("random"), Normalisation(MEAN, STD)
    return [(normalise(split.inputs[index]), split.labels[index]) for index in evaluation_batches(len(split.labels))]


def write_images(folder: Path, images: int) -> None:
    """Random images as the Hugging Face hub lays them out; of the training images an audit asks nothing."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
    rows = [{"bytes": _jpeg(image), "path": ""} for image in pixels]
    table = pa.table({"img": rows, "label": draw.integers(0, 10, len(rows))})
    pq.write_table(table, folder / "test.parquet")
    pq.write_table(table[:1], folder / "train.parquet")


def _jpeg(image: np.ndarray) -> bytes:
    Image.fromarray(image).save(file := io.BytesIO(), "JPEG")
    return file.getvalue()


def processor_seconds(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def command(*words: str) -> float:
    """Seconds of `fa-track` with ``words``."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", FA_TRACK, *words], check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
