"""Whether torch.compile pays for the step of a single run on this machine's processor; of a stack's, see stack.py.

    python benchmarks/compiled.py [--steps N] [--rounds N] [--backend NAME]

The forward pass and loss of BP on ResMLP d = 256, batch 128, one thread, as it is and compiled (by inductor); backward
pass and fused AdamW follow in both. The time of compilation, once a process and shape, is told beside the ratio.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from _timing import interleaved, machine, random_images, ratio

from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.learner import learner_of

BATCH = 128


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=20)
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--backend", default="inductor")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    eager, compiled = step(lambda f: f), step(partial(torch.compile, backend=given.backend))
    began = time.perf_counter()
    compiled(1)
    seconds = time.perf_counter() - began
    candidates = {"eager": lambda: eager(given.steps), "compiled": lambda: compiled(given.steps)}
    print(f"compiled / eager step   {ratio(interleaved(candidates, given.rounds), 'compiled', 'eager')}")
    print(f"compilation and first step {seconds:.1f} s")
    print(machine())


def step(wrap: Callable[[Any], Any]) -> Callable[[int], None]:
    learner = learner_of(RunConfig("bp", dataset="random"), random_images(BATCH, BATCH))
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(BATCH, 3, 32, 32, generator=draw), torch.randint(0, 10, (BATCH,), generator=draw)
    loss = wrap(lambda model: F.cross_entropy(model(x), y))

    def run(times: int) -> None:
        for _ in range(times):
            learner.optimizer.zero_grad()
            loss(learner.model).backward()
            learner.optimizer.step()

    return run


if __name__ == "__main__":
    main()
