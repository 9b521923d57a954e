"""How far a stack's training step is from what its device must do: its matrix products, and its traffic with memory.

    python benchmarks/floor.py [--methods NAME …] [--cells N] [--width N] [--steps N] [--rounds N] [--device cuda]
                               [--compile]

Goal on one H200: 6 methods × 3 seeds of ResMLP d = 256, 100 epochs of CIFAR-10, tracked, in under 3 minutes. A stack of
three seeds a method, batch 128, four blocks. Side by side with its step, on the same device:

    arithmetic   a product of two large matrices, whose rate the products of the step (torch's FlopCounterMode) divide
    memory       a copy of 256 MB, whose rate divides what AdamW and the passes cannot do without: of each parameter
                 seven transfers of AdamW (p, g, m and v in; p, m and v out), its gradient out and two readings

The floor is the larger of the two. Γ, diagnostics, the test set and the log are not in it, nor in the step.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from _timing import interleaved, machine
from stack import batches, features, repeated
from torch.utils.flop_counter import FlopCounterMode

from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.learner import learner_of
from fa_tracking.trainers.stacked.recorded import UNCOMPILED, UNRECORDED
from fa_tracking.trainers.stacked.stack import Stack

METHODS = ("bp", "dfa", "fa", "state_bridge", "credit_bridge", "ep")
COPIED = 64 * 2**20
TRANSFERS = 10
STEPS_AN_EPOCH = 391
EPOCHS = 100


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--methods", nargs="+", default=METHODS)
    arguments.add_argument("--cells", type=int, default=3)
    arguments.add_argument("--width", type=int, default=256)
    arguments.add_argument("--side", type=int, default=2048, help="of the large matrices")
    arguments.add_argument("--steps", type=int, default=5)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--compile", action="store_true")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    seconds = sum(compare(method, given) for method in given.methods)
    whole = seconds * STEPS_AN_EPOCH * EPOCHS
    print(f"{EPOCHS} epochs of these steps for all of them   {whole:.0f} s   goal on an H200, tracked: under 180 s")
    device = torch.cuda.get_device_name() if given.device.startswith("cuda") else given.device
    print(f"{device}; {machine()}")


def compare(method: str, given: argparse.Namespace) -> float:
    """Print a step's time over the floors; the seconds of a step."""
    dataset = features(3072)
    configs = [RunConfig(method, width=given.width, dataset="random", seed=seed) for seed in range(given.cells)]
    learners = [learner_of(config, dataset, given.device) for config in configs]
    stack, batch = Stack(learners, given.compile), batches(given.cells, dataset, given.device)
    for _ in range(UNCOMPILED + 1 if given.compile else UNRECORDED + 1):
        stack.train_step(*batch, 0.0)
    with FlopCounterMode(display=False) as counter:
        Stack([learner_of(config, dataset, given.device) for config in configs]).train_step(*batch, 0.0)
    moved = TRANSFERS * 4 * sum(p.numel() for learner in learners for p in learner.optimizer.param_groups[0]["params"])
    candidates = {"step": lambda: stack.train_step(*batch, 0.0), **yardsticks(given.side, given.device)}
    times = interleaved({name: repeated(run, given.steps) for name, run in candidates.items()}, given.rounds)
    step, product, copy = (statistics.median(times[name]) / given.steps for name in candidates)
    arithmetic, memory = counter.get_total_flops() * product / (2 * given.side**3), moved * copy / (2 * 4 * COPIED)
    over = step / max(arithmetic, memory)
    print(
        f"{method:<14} {given.cells} cells, d = {given.width}   step {1e3 * step:.3f} ms"
        f"   arithmetic {1e3 * arithmetic:.3f} ms   memory {1e3 * memory:.3f} ms   step / floor  {over:.2f}"
    )
    return step


def yardsticks(side: int, device: str) -> dict[str, Callable[[], object]]:
    """A product of two matrices (side, side), and a copy of 256 MB, into memory that is there."""
    a, b, out = (torch.randn(side, side, device=device) for _ in range(3))
    source, target = (torch.zeros(COPIED, device=device) for _ in range(2))
    return {"product": lambda: torch.mm(a, b, out=out), "copy": lambda: target.copy_(source)}


if __name__ == "__main__":
    main()
