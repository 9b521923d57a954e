"""Tries the readings that the published study leaves open against its fingerprints, and prints the table of them.

python docs/readings.py --data-dir DIR --seed 42 [--only NAME]   # trains; adds rows to docs/reference-results/readings.csv
python docs/readings.py                                          # prints the table of what is there

A fingerprint is an early trajectory that the study, or a re-simulation of it, gives; the distance is the mean factor
between ours and theirs over its numbers, exp(mean |log(ours/theirs)|).
"""

import argparse
import csv
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from fa_tracking import markdown
from fa_tracking.protocol.diagnose import diagnose
from fa_tracking.trainers import data
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.learner import Learner, learner_of
from fa_tracking.trainers.loop import evaluate, evaluation_inputs, train_epoch
from fa_tracking.trainers.options import RunOptions
from fa_tracking.trainers.tracked import prepare

ROWS = Path(__file__).parent / "reference-results" / "readings.csv"
LOCAL = {"credit_index": "input", "credit_normalisation": "rms_eps", "clip_norm": 1.0}
COMMON = {"dataset": "cifar10", "augmentation": "crop_flip_mean", "lr_schedule": "cosine"}

Numbers = Mapping[int, Mapping[str, float]]
"""By epoch: growth (a), hL (‖h_L‖), gL (‖g_L‖ at mean over 128), h0, accuracy."""


@dataclass(frozen=True)
class Fingerprint:
    """What a reading is held against: the config that was trained, and what it showed after some epochs."""

    method: str
    said: str
    numbers: Numbers
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Reading:
    """One way to read what is open: what is changed in the config, or in the learner that is built of it."""

    says: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    patch: Callable[[Learner], None] | None = None


FINGERPRINTS = {
    "dfa": Fingerprint(
        "dfa",
        "DFA, cosine over 100 (re-simulated)",
        {
            1: {"h0": 1.2e3, "hL": 1.1e4, "growth": 3.7, "gL": 7.7e-6},
            2: {"h0": 2.3e3, "hL": 6.6e4, "growth": 8.3, "gL": 1.6e-6},
            3: {"h0": 3.4e3, "hL": 1.9e5, "growth": 14, "gL": 6.4e-7},
            5: {"h0": 5.7e3, "hL": 7.8e5, "growth": 32, "gL": 2.0e-7},
        },
        {"epochs": 100, **LOCAL},
    ),
    "dfa_random": Fingerprint(
        "dfa",
        "DFA, random labels, cosine over 3 (published)",
        {1: {"hL": 1616, "gL": 8 * 5.1e-6}, 2: {"hL": 9768, "gL": 8 * 8.5e-7}, 3: {"hL": 14510, "gL": 8 * 5.6e-7}},
        {"epochs": 3, "labels": "random", **LOCAL},
    ),
    "sb": Fingerprint(
        "state_bridge",
        "State Bridge, cosine over 30 (re-simulated)",
        {1: {"growth": 14}, 3: {"growth": 158}},
        {"epochs": 30, **LOCAL},
    ),
    "sb_random": Fingerprint(
        "state_bridge",
        "State Bridge, random labels, 3 epochs (published)",
        {3: {"hL": 6.2e3}},
        {"epochs": 3, "labels": "random", **LOCAL},
    ),
    "cb": Fingerprint(
        "credit_bridge",
        "Credit Bridge, cosine over 20 (re-simulated)",
        {4: {"growth": 23}, 8: {"growth": 151}},
        {"epochs": 20, **LOCAL},
    ),
    "cb_random": Fingerprint(
        "credit_bridge",
        "Credit Bridge, random labels, 3 epochs (published)",
        {3: {"hL": 2.0e4, "gL": 3.2e-6}},
        {"epochs": 3, "labels": "random", **LOCAL},
    ),
    "ep_random": Fingerprint(
        "ep_credit",
        "EP, random labels, 5 epochs (published)",
        {5: {"hL": 586}},
        {"epochs": 5, "labels": "random", "credit_index": "input"},
    ),
}


def raw_states(learner: Learner) -> None:
    """G reads h_l and predicts h_L, by the mean squared error over the mean square of h_L."""
    rule = learner.rule
    rule.bridge.read = lambda h: h

    def learn(model: Any, states: Any, error: Any, y: Any) -> Any:
        credit, predicted = rule._credit(model, states[: rule.credits(model)], error, y)
        scale = states[-1].square().mean()
        return credit, torch.stack([F.mse_loss(p, states[-1]) for p in predicted]).mean() / scale

    rule.learn = learn


def exact_embedding(learner: Learner) -> None:
    """The embedding sees the true gradient in the place of a_0."""
    rule, signals = learner.rule, learner.rule.signals

    def changed(model: Any, x: Any, y: Any, penalty: Any = 0.0) -> Any:
        found = signals(model, x, y, penalty)
        embedded = found.sent[0][0]
        hidden = embedded.detach().requires_grad_()
        h = hidden
        for block in model.blocks:
            h = model.advance(h, block(h))
        (slope,) = torch.autograd.grad(F.cross_entropy(model.readout(h), y), hidden)
        return found._replace(sent=[(embedded, slope), *found.sent[1:]])

    rule.signals = changed


def larger_step(learner: Learner) -> None:
    learner.rule.step = 0.1


def both(*patches: Callable[[Learner], None]) -> Callable[[Learner], None]:
    def patch(learner: Learner) -> None:
        for each in patches:
            each(learner)

    return patch


UNCLIPPED = Reading("gradients not clipped", {"clip_norm": math.inf})
EXACT_RMS = Reading("divided by RMS(a) itself", {"credit_normalisation": "rms"})

READINGS = {
    "dfa": [Reading("as built"), EXACT_RMS, UNCLIPPED, Reading("credit at the output", {"credit_index": "output"})],
    "dfa_random": [Reading("as built"), EXACT_RMS],
    "sb": [
        Reading("as built: LN(h_l) in, target LN(h_L)"),
        Reading("raw state in, error over the target's mean square", patch=raw_states),
        Reading("LN in and out, embedding by the true gradient", patch=exact_embedding),
        Reading("raw state in, embedding by the true gradient", patch=both(raw_states, exact_embedding)),
    ],
    "cb": [
        Reading("as built: unit weights, embedding by a_0"),
        Reading("embedding by the true gradient", patch=exact_embedding),
        EXACT_RMS,
    ],
    "ep_random": [
        Reading("as built: credit not normalised, h_0 free, a step of 0.05"),
        Reading("a step of 0.1", patch=larger_step),
        Reading("credit normalised", {"credit_normalisation": "rms_eps", "clip_norm": 1.0}),
    ],
}
READINGS |= {"sb_random": READINGS["sb"], "cb_random": READINGS["cb"]}


def measured(fingerprint: Fingerprint, reading: Reading, seed: int, data_dir: str | None) -> Iterator[dict[str, Any]]:
    """A row for each number of the fingerprint: ours beside theirs."""
    dataset = data.load("cifar10", data_dir)
    config = RunConfig(fingerprint.method, seed=seed, **{**COMMON, **fingerprint.config, **reading.changes})
    learner = learner_of(config, dataset)
    if reading.patch:
        reading.patch(learner)
    batches = evaluation_inputs(dataset)
    for epoch in range(1, max(fingerprint.numbers) + 1):
        train_epoch(learner, dataset, epoch)
        if epoch not in fingerprint.numbers:
            continue
        report = diagnose(learner.model, batches, evaluate(learner.model, dataset))
        ours = {
            "h0": report.residual_norms[0],
            "hL": report.residual_norms[-1],
            "growth": report.max_per_block_growth,
            "gL": report.bp_grad_norms[-1],
        }
        for key, theirs in fingerprint.numbers[epoch].items():
            yield {"epoch": epoch, "number": key, "theirs": theirs, "ours": ours[key]}


def table(rows: list[dict[str, str]]) -> str:
    """The table in Markdown: a row for each reading, fingerprint and seed."""
    head, found = ["fingerprint", "reading", "seed", "ours / theirs by epoch", "distance"], []
    keys = list(dict.fromkeys((r["fingerprint"], r["reading"], r["seed"]) for r in rows))
    order = {
        (name, reading.says): (i, j) for i, name in enumerate(FINGERPRINTS) for j, reading in enumerate(READINGS[name])
    }
    for name, says, seed in sorted(keys, key=lambda k: (order[k[0], k[1]], int(k[2]))):
        own = [r for r in rows if (r["fingerprint"], r["reading"], r["seed"]) == (name, says, seed)]
        logs = [abs(math.log(float(r["ours"]) / float(r["theirs"]))) for r in own]
        shown = ", ".join(f"{r['number']}({r['epoch']}) {float(r['ours']):.2g}/{float(r['theirs']):.2g}" for r in own)
        found.append([FINGERPRINTS[name].said, says, seed, shown, f"{math.exp(sum(logs) / len(logs)):.2f}"])
    return markdown.table(head, found, is_markdown=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", nargs="*", choices=list(FINGERPRINTS), default=list(FINGERPRINTS))
    parser.add_argument("--first", action="store_true", help="the reading as built alone")
    given = parser.parse_args()
    rows = list(csv.DictReader(ROWS.open())) if ROWS.exists() else []
    if given.seed is None:
        print(table(rows), end="")
        return
    prepare(RunOptions(threads=1))
    for name in given.only:
        for reading in READINGS[name][:1] if given.first else READINGS[name]:
            head = {"fingerprint": name, "reading": reading.says, "seed": str(given.seed)}
            found = [head | row for row in measured(FINGERPRINTS[name], reading, given.seed, given.data_dir)]
            rows = list(csv.DictReader(ROWS.open())) if ROWS.exists() else []
            rows = [r for r in rows if any(r[k] != v for k, v in head.items())] + found
            with ROWS.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(found[0]))
                writer.writeheader()
                writer.writerows(rows)
            print(table([{k: str(v) for k, v in row.items()} for row in found]), end="", flush=True)


if __name__ == "__main__":
    main()
