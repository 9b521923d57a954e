"""Feedback alignment by this project's rule against BioTorch's layers, on the same network and data.

    python -m pip install --no-deps biotorch      # the peer; without it the benchmark says so
    python benchmarks/layers.py [--steps N] [--rounds N]

MLP 3072-256-256-256-256-10, batch 128, one thread, fused AdamW on both. BioTorch (github.com/jsalbert/biotorch, Sanfiz
& Akrout 2021) replaces each linear layer by one whose autograd function sends the error back through a fixed matrix.
"""

import argparse
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from _timing import interleaved, machine, random_images, ratio
from torch import Tensor, nn

from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.learner import learner_of

BATCH = 128


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=20)
    arguments.add_argument("--rounds", type=int, default=15)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    try:
        from biotorch.layers.fa import Linear
    except ImportError as error:
        print(f"FA / BioTorch's FA layers   not measured: {error}; pip install --no-deps biotorch")
        return
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(BATCH, 3, 32, 32, generator=draw), torch.randint(0, 10, (BATCH,), generator=draw)
    times = interleaved({"ours": ours(x, y, given.steps), "theirs": theirs(Linear, x, y, given.steps)}, given.rounds)
    print(f"FA / BioTorch's FA layers   {ratio(times, 'ours', 'theirs')}")
    print(machine())


def ours(x: Tensor, y: Tensor, steps: int) -> Callable[[], None]:
    learner = learner_of(
        RunConfig("fa", architecture="mlp", width=256, depth=3, dataset="random"), random_images(BATCH, BATCH)
    )

    def run() -> None:
        for _ in range(steps):
            learner.optimizer.zero_grad()
            learner.rule.backward(learner.model, x, y)
            learner.optimizer.step()

    return run


def theirs(linear: type[nn.Module], x: Tensor, y: Tensor, steps: int) -> Callable[[], None]:
    sizes = [3072, 256, 256, 256, 256]
    hidden = [part for i, o in pairwise(sizes) for part in (linear(i, o), nn.ReLU())]
    model = nn.Sequential(nn.Flatten(), *hidden, linear(256, 10))
    trained = [p for name, p in model.named_parameters() if not name.endswith("_backward")]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)

    def run() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

    return run


if __name__ == "__main__":
    main()
