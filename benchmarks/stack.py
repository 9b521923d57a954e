"""Claim: on a CPU, small networks train faster side by side than one after the other; the smaller, the more.

    python benchmarks/stack.py [--widths N …] [--cells N] [--steps N] [--rounds N] [--device cuda] [--no-compile]

Steps of DFA and BP on ResMLP with four blocks, batch 128, one thread: as many cells one after the other, the same as
one stack, whose step is played from its record, as one whose step is not recorded (plain), and as one whose step is
compiled (--no-compile leaves it out). With --cells 1 it is seen what they would give a single run. Inputs have 64
features up to a width of 64 and CIFAR-10's 3,072 above. Below each width stands how far the first two have come apart
in ten steps: in their losses, relative, and in their weights, relative to the norm of each tensor; the largest over
steps, cells and tensors.
"""

import argparse
import sys
from collections.abc import Callable

import torch
from _timing import interleaved, machine, ratio
from torch import Tensor

from fa_tracking.protocol.batches import Normalisation
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.data import Dataset, Split
from fa_tracking.trainers.learner import Learner, learner_of
from fa_tracking.trainers.stacked import recorded
from fa_tracking.trainers.stacked.stack import Stack

BATCH = 128
COMPARED = 10


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    arguments.add_argument("--cells", type=int, default=8)
    arguments.add_argument("--steps", type=int, default=5)
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--no-compile", dest="compile", action="store_false")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    recorded.UNCOMPILED = COMPARED  # a step is compiled as soon as it has been compared
    for width in given.widths:
        dataset = features(64 if width <= 64 else 3072)
        for method in ("dfa", "bp"):
            compare(method, width, dataset, given)
    print(f"{given.device}; {machine()}")


def compare(method: str, width: int, dataset: Dataset, given: argparse.Namespace) -> None:
    configs = [RunConfig(method, width=width, dataset="random", seed=seed) for seed in range(given.cells)]
    batch = batches(given.cells, dataset, given.device)
    forms = ["stack", "plain", *(["compiled"] if given.compile else [])]
    learners = {form: [learner_of(c, dataset, given.device) for c in configs] for form in ("alone", *forms)}
    steps = {form: side_by_side(learners[form], batch, form) for form in forms}
    steps["alone"] = one_after_the_other(learners["alone"], batch)
    losses = {form: torch.stack([step() for _ in range(COMPARED)]) for form, step in steps.items()}
    lost = (losses["stack"] / losses["alone"] - 1).abs().max().item()
    apart = max(distance(a, b) for a, b in zip(learners["alone"], learners["stack"], strict=True))
    if given.compile:
        steps["compiled"]()
    times = interleaved({form: repeated(step, given.steps) for form, step in steps.items()}, given.rounds)
    for form in forms:
        found = ratio(times, form, "alone")
        print(f"{method:>3} d = {width:<4} {given.cells} cells  {form:<8} / one after the other  {found}")
    print(f"    apart in {COMPARED} steps: losses {lost:.1e}, weights {apart:.1e}   claim: at most 1e-5")


def features(size: int) -> Dataset:
    draw = torch.Generator().manual_seed(0)
    split = Split(torch.rand(BATCH, size, generator=draw), torch.randint(0, 10, (BATCH,), generator=draw))
    return Dataset("random", split, split, Normalisation((0.5,), (0.3,)), 10)


def batches(learners: int, dataset: Dataset, device: str) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(learners, BATCH, *dataset.input_shape, generator=draw)
    return x.to(device), torch.randint(0, 10, (learners, BATCH), generator=draw).to(device)


def one_after_the_other(learners: list[Learner], batch: tuple[Tensor, Tensor]) -> Callable[[], Tensor]:
    def step() -> Tensor:
        losses = []
        for learner, x, y in zip(learners, *batch, strict=True):
            learner.optimizer.zero_grad()
            losses.append(learner.rule.backward(learner.model, x, y)[0])
            learner.optimizer.step()
        return torch.stack(losses)

    return step


def side_by_side(learners: list[Learner], batch: tuple[Tensor, Tensor], form: str) -> Callable[[], Tensor]:
    stack = Stack(learners, form == "compiled")
    if form == "plain":
        stack._step = recorded.Recorded(stack._gradients, unrecorded=sys.maxsize)
    return lambda: stack.train_step(*batch, 0.0)[0]


def repeated(step: Callable[[], object], times: int) -> Callable[[], None]:
    def steps() -> None:
        for _ in range(times):
            step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return steps


def distance(alone: Learner, stacked: Learner) -> float:
    return max(
        ((b - a).norm() / a.norm()).item()
        for a, b in zip(alone.model.parameters(), stacked.model.parameters(), strict=True)
    )


if __name__ == "__main__":
    main()
