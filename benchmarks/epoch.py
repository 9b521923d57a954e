"""Claims on the time of an epoch, one thread, data in memory, every pair interleaved in one run:

    DFA / plain torch BP                      at most 0.95 for the MLP 3072-256-256-256-256-10 and for ResMLP d = 256
    FA / plain torch BP                       at most 1.05 for both
    BP with tracking / bare matrix products   at most 1.3 for ResMLP d = 256
    fa-track train dfa / DataLoader pipeline  at most 0.25, for the MLP, an epoch of training and test each

    python benchmarks/epoch.py [--images N] [--rounds N]

Random images of CIFAR-10's shape, batch 128, fused AdamW. "Plain torch BP" is the textbook loop over the same tensors
and modules with no code of this project. The DataLoader pipeline is the one of BioTorch (github.com/jsalbert/biotorch,
cifar10, num_workers 0): torchvision's Resize, ToTensor and Normalize on each image, then plain BP with the same
optimizer. "With tracking" holds diagnostics, Γ with its null, the store and the evaluation of the test set; the bare
products beside it are those of training and of the test set. "Products and AdamW" is what the products of training and
PyTorch's optimizer take together, with nothing between them.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from _timing import interleaved, machine, random_images, ratio
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

import fa_tracking
from fa_tracking.tracking.run import TrackedRun
from fa_tracking.trainers import loop
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.data import Dataset
from fa_tracking.trainers.learner import Learner, build
from fa_tracking.trainers.method import LearningRule, generator
from fa_tracking.trainers.model import BlockModel
from fa_tracking.trainers.running import NULL_SEEDS, metrics_of

BATCH = 128
STEP_IMAGES = 40 * BATCH
MLP = {"architecture": "mlp", "width": 256, "depth": 3}
RESMLP = {"architecture": "resmlp", "width": 256, "depth": 4}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=50_000)
    arguments.add_argument("--rounds", type=int, default=15)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    for name, network in (("MLP", MLP), ("ResMLP", RESMLP)):
        methods(name, network, min(given.images, STEP_IMAGES), given.rounds)
    products(min(given.images, STEP_IMAGES), given.rounds)
    with tempfile.TemporaryDirectory() as folder:
        whole_epochs(given.images, (given.rounds + 2) // 3, f"sqlite:///{folder}/mlflow.db")
    print(machine())


def methods(name: str, network: dict[str, object], images: int, rounds: int) -> None:
    """Local rules against plain BP, on the same data, path to the batch and optimizer."""
    dataset = random_images(images)
    candidates = {"plain": plain_bp(network, dataset)}
    candidates |= {method: ours(method, network, dataset) for method in ("bp", "dfa", "fa")}
    times = interleaved(candidates, rounds)
    for method, claim in (("bp", ""), ("dfa", "claim: at most 0.95"), ("fa", "claim: at most 1.05")):
        print(f"{name:<7} {method:>3} / plain torch BP   {ratio(times, method, 'plain')}   {claim}")


def products(images: int, rounds: int) -> None:
    """A BP epoch without tracking, and the products with AdamW alone, against the matrix products."""
    dataset, batches = random_images(images), images // BATCH
    candidates = {
        "bp": ours("bp", RESMLP, dataset),
        "bare": bare_products(batches),
        "adamw": bare_products(batches, updated=True),
    }
    times = interleaved(candidates, rounds)
    print(f"ResMLP  bp / bare matrix products   {ratio(times, 'bp', 'bare')}   claim with tracking: at most 1.3")
    print(f"ResMLP  products and AdamW / bare matrix products   {ratio(times, 'adamw', 'bare')}")


def whole_epochs(images: int, rounds: int, uri: str) -> None:
    """Training, test set, diagnostics and store of one epoch, against a DataLoader pipeline and bare products."""
    dataset = random_images(images, images // 5)
    with fa_tracking.start_run(experiment="epoch", tracking_uri=uri, method="both", seed=0) as run:
        candidates = {
            "dfa": tracked("dfa", MLP, dataset, run),
            "pipeline": pipeline(MLP, dataset),
            "bp": tracked("bp", RESMLP, dataset, run),
            "bare": bare_products(images // BATCH, len(dataset.test.labels) // BATCH),
        }
        times = interleaved(candidates, rounds, warmup=1)
    against_pipeline = ratio(times, "dfa", "pipeline")
    print(f"MLP     tracked dfa epoch / DataLoader pipeline   {against_pipeline}   claim: at most 0.25")
    print(f"ResMLP  tracked bp epoch / bare matrix products   {ratio(times, 'bp', 'bare')}   claim: at most 1.3")


def ours(method: str, network: dict[str, object], dataset: Dataset) -> Callable[[], object]:
    """One epoch of training by this project's loop, without evaluation."""
    config = RunConfig(method=method, dataset="random", **network)  # type: ignore[arg-type]
    return _training(config, dataset, *build(config, dataset))


def tracked(method: str, network: dict[str, object], dataset: Dataset, run: TrackedRun) -> Callable[[], object]:
    """One epoch of ``fa-track train``: training, test set, diagnostics, Γ and its null, and the store's answer."""
    config = RunConfig(method=method, dataset="random", **network)  # type: ignore[arg-type]
    model, rule = build(config, dataset)
    train = _training(config, dataset, model, rule)
    batches = loop.evaluation_inputs(dataset)
    credit = rule.credit if rule.has_credit else None
    null = [rule.fresh(model, seed).credit for seed in NULL_SEEDS] if credit and rule.has_null else []

    def epoch() -> None:
        met = train()
        accuracy = loop.evaluate(model, dataset)
        run.log_epoch(1, model, batches, accuracy, credit, null, metrics_of(met, 0.0), null_batches=rule.null_batches)
        run.flush()

    return epoch


def _training(config: RunConfig, dataset: Dataset, model: BlockModel, rule: LearningRule) -> Callable[[], loop.Met]:
    optimizer = torch.optim.AdamW([*model.parameters(), *rule.parameters()], lr=config.lr, fused=True)
    learner = Learner(config, model, rule, optimizer, generator(0, "benchmark"))
    return partial(loop.train_epoch, learner, dataset, 1)


def plain_bp(network: dict[str, object], dataset: Dataset) -> Callable[[], object]:
    """The textbook loop."""
    model, optimizer = textbook(network, dataset)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (dataset.normalisation.mean, dataset.normalisation.std))
    inputs, labels = dataset.train.inputs, dataset.train.labels

    def epoch() -> None:
        model.train()
        for index in torch.randperm(len(labels)).split(BATCH):
            step(model, optimizer, (inputs[index].float() - mean) / std, labels[index])

    return epoch


def pipeline(network: dict[str, object], dataset: Dataset) -> Callable[[], object]:
    """An epoch of training and one pass over the test set, each image decoded to PIL and transformed by itself."""
    model, optimizer = textbook(network, dataset)
    transform = transforms.Compose(
        [
            transforms.Resize((32, 32)),
            transforms.ToTensor(),
            transforms.Normalize((0.4914, 0.4821, 0.4465), (0.2470, 0.2435, 0.2616)),
        ]
    )

    class Images(torch.utils.data.Dataset):
        def __init__(self, inputs: Tensor, labels: Tensor) -> None:
            self.pixels, self.labels = inputs.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist()

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return transform(Image.fromarray(self.pixels[index])), self.labels[index]

    train = DataLoader(Images(dataset.train.inputs, dataset.train.labels), BATCH, shuffle=True, drop_last=True)
    test = DataLoader(Images(dataset.test.inputs, dataset.test.labels), BATCH)

    def epoch() -> None:
        model.train()
        for x, y in train:
            step(model, optimizer, x, y)
        model.eval()
        with torch.no_grad():
            sum(int((model(x).argmax(1) == y).sum()) for x, y in test)

    return epoch


def textbook(network: dict[str, object], dataset: Dataset) -> tuple[nn.Module, torch.optim.Optimizer]:
    config = RunConfig(method="bp", dataset="random", **network)  # type: ignore[arg-type]
    model, _ = build(config, dataset)
    return model, torch.optim.AdamW(model.parameters(), lr=config.lr, fused=True)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def bare_products(batches: int, tested: int = 0, updated: bool = False) -> Callable[[], object]:
    """The matrix products of BP on ResMLP d = 256 with four blocks: forward, to the weights, to the inputs; and forward
    alone on so many batches that are tested. Where they are ``updated``, AdamW takes a step on the weights."""
    d, hidden = 256, 1024
    layers = [(3072, d, False), *[(d, hidden, True), (hidden, d, True)] * 4, (d, 10, True)]
    operands = []
    for into, out, backward in layers:
        x, w, e = torch.randn(BATCH, into), torch.randn(out, into), torch.randn(BATCH, out)
        w.grad = torch.zeros(out, into)
        operands.append((x, w, e, torch.empty(BATCH, out), w.grad, torch.empty(BATCH, into), backward))
    optimizer = torch.optim.AdamW([w for _, w, *_ in operands], lr=1e-3, fused=True) if updated else None

    def epoch() -> None:
        for _ in range(batches):
            for x, w, e, forward, to_weight, to_input, backward in operands:
                torch.mm(x, w.T, out=forward)
                torch.mm(e.T, x, out=to_weight)
                if backward:
                    torch.mm(e, w, out=to_input)
            if optimizer:
                optimizer.step()
        for _ in range(tested):
            for x, w, _, forward, *_ in operands:
                torch.mm(x, w.T, out=forward)

    return epoch


if __name__ == "__main__":
    main()
