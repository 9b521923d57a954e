"""Claim: all diagnostics over K batches cost at most 1.3 of a training-style forward and backward pass over them.

    python benchmarks/diagnostics_cost.py [--rounds N]

ResMLP d = 256 on CIFAR-10's shape, K = 10 batches of 128. The peer computes parameter gradients, as training does;
the diagnostics need gradients of hidden states alone, and check these by a finite difference in float64. Γ with its
ten-draw null is timed beside them.
"""

import argparse
import statistics

import torch
from _timing import interleaved, machine, ratio

from fa_tracking.protocol.alignment import alignment
from fa_tracking.protocol.diagnose import capture_all, diagnose
from fa_tracking.trainers.methods.bp import Method as BP
from fa_tracking.trainers.methods.dfa import Method as DFA
from fa_tracking.trainers.models.resmlp import Model


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=30)
    rounds = arguments.parse_args().rounds
    torch.set_num_threads(1)
    shape = {"input_shape": (3, 32, 32), "classes": 10, "width": 256, "depth": 4}
    model = Model(**shape)
    model.config = shape
    batches = [(torch.randn(128, 3, 32, 32), torch.randint(0, 10, (128,))) for _ in range(10)]
    bp, dfa = BP(model, 0), DFA(model, 0)
    null = [dfa.fresh(model, seed).credit for seed in range(10)]

    def training() -> None:
        for x, y in batches:
            model.zero_grad()
            bp.backward(model, x, y)

    def with_gamma() -> None:
        captures = capture_all(model, batches)
        alignment(model, captures, dfa.credit, null, 1e-7)

    times = interleaved(
        {"training": training, "diagnostics": lambda: diagnose(model, batches), "captures and Γ": with_gamma}, rounds
    )
    for name, seconds in times.items():
        print(f"{name:<16} {1e3 * statistics.median(seconds):8.1f} ms")
    print(f"diagnostics / training     {ratio(times, 'diagnostics', 'training')}   claim: at most 1.3")
    print(f"captures and Γ / training  {ratio(times, 'captures and Γ', 'training')}")
    print(machine())


if __name__ == "__main__":
    main()
