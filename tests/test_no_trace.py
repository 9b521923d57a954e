"""A measurement leaves no trace in what a module keeps beside its parameters and buffers."""

import copy
import random
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fa_tracking import diagnose
from fa_tracking.protocol.probe import capture_all


def batches(n: int = 32) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(n, 6, generator=draw) * 3, torch.randint(4, (n,), generator=draw)) for _ in range(8)]


class Averages:
    """A small object that a module keeps."""

    def __init__(self) -> None:
        self.mean, self.seen, self.by_layer = torch.zeros(8), 0, {"h": [0.0]}


class Keeping(nn.Module):
    """A network that keeps, and changes, plain attributes of every kind in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.blocks = nn.Linear(6, 8), nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.head = nn.Linear(8, 4)
        self.means = [torch.full((8,), 0.5) for _ in range(3)]
        self.in_place = torch.zeros(8)
        self.array, self.number, self.text = np.zeros(8), 0, ""
        self.history, self.counts = deque(maxlen=5), Counter({"seen": 1})
        self.cache: Any = OrderedDict(a=torch.ones(1))
        self.lists: Any = defaultdict(list, a=[1])
        self.nested = ([torch.zeros(8)], {"x": {"y": torch.zeros(8)}})
        self.object, self.space = Averages(), SimpleNamespace(last=None)
        self.draw, self.drawn = torch.Generator().manual_seed(1), np.random.default_rng(1)
        self.choice, self.state = random.Random(1), np.random.RandomState(1)
        self.names = {"a"}
        self.itself: list[Any] = []
        self.itself.append(self.itself)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        self.peer: Any = 0.0
        for i, block in enumerate(self.blocks):
            h = h + torch.relu(block(h))
            self.means[i] = 0.9 * self.means[i].detach() + 0.1 * h.mean(0)
            self.peer = self.peer + (self.means[i] - self.means[i].mean()).square().mean()
        with torch.no_grad():
            self.in_place.mul_(0.9).add_(h.mean(0), alpha=0.1)
            self.nested[0][0].add_(1)
            self.nested[1]["x"]["y"] += 1
        self.array += 1
        self.number, self.text = self.number + 1, self.text + "."
        self.history.append(h)
        self.counts["seen"] += 1
        self.cache["b"] = h
        self.lists["b"].append(h)
        self.names.add("b")
        self.object.mean = self.object.mean + h.detach().mean(0)
        self.object.seen += 1
        self.object.by_layer["h"].append(float(h.detach().sum()))
        self.space.last = h
        torch.rand(1, generator=self.draw)
        self.drawn.random(), self.choice.random(), self.state.rand()
        self.derived = self.head.weight * 2
        return self.head(h)


def kept(model: Keeping) -> list[Any]:
    """Everything that the network keeps, by value and by identity."""
    values = {name: value for name, value in vars(model).items() if not name.startswith("_")}
    return [
        *([id(values[name]) for name in sorted(values)]),
        [mean.tolist() for mean in model.means],
        [id(mean) for mean in model.means],
        (model.in_place.tolist(), model.in_place._version, model.array.tolist(), model.number, model.text),
        (len(model.history), dict(model.counts), list(model.cache), dict(model.lists), sorted(model.names)),
        (model.nested[0][0].tolist(), model.nested[1]["x"]["y"].tolist(), model.nested[0][0]._version),
        (model.object.mean.tolist(), model.object.seen, copy.deepcopy(model.object.by_layer), model.space.last),
        (model.draw.get_state().tolist(), str(model.drawn.bit_generator.state)),
        (str(model.choice.getstate()), str(model.state.get_state())),
        len(model.itself),
        sorted(vars(model)),
    ]


@pytest.mark.parametrize("is_refused", [False, True])
def test_plain_attributes_come_out_as_they_went_in(is_refused: bool) -> None:
    model = Keeping()
    before = kept(model)
    if is_refused:
        with pytest.raises(ValueError, match="labels from"):
            diagnose(model, [(x, y + 9) for x, y in batches()])
    else:
        first = diagnose(model, batches())
        assert diagnose(model, batches()) == first
    assert kept(model) == before


def trained(measured: bool) -> Tensor:
    model, optimizer = Keeping(), None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batches(256)[0]
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y) + model.peer
        loss.backward()
        optimizer.step()
        if measured:
            diagnose(model, batches())
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_measuring_changes_no_training_that_keeps_running_means() -> None:
    assert torch.equal(trained(False), trained(True))


class HookedList(Keeping):
    """Its hooks fill a list of the network's, which the forward pass reads and empties."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        seen = self.seen
        for block in self.blocks:
            block.register_forward_hook(lambda _, args, out: seen.append(out))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.clear()
        logits = super().forward(x)
        return logits * (len(self.seen) / 3)


def test_a_list_that_hooks_hold_too_stays_the_very_list() -> None:
    model = HookedList()
    report = diagnose(model, batches())
    seen = model.seen
    model(batches()[0][0])
    assert model.seen is seen and len(seen) == 3
    torch.testing.assert_close(capture_all(model, batches()[:1])[0].logits, model.eval()(batches()[0][0]).detach())
    assert report.reference == "checked"


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm, nn.utils.parametrizations.weight_norm])
def test_a_weight_that_is_computed_from_others_is_what_it_was(norm: Any) -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layers = [norm(nn.Linear(6, 8)), nn.ReLU(), norm(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 4)]
    model = nn.Sequential(*layers)
    model(batches()[0][0]).sum().backward()
    weight = model[0].weight
    before, grads = weight.detach().clone(), [p.grad.clone() for p in model.parameters()]  # type: ignore[union-attr]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = diagnose(model, batches())
    assert torch.equal(model[0].weight, before)
    if norm is not nn.utils.parametrizations.weight_norm:
        assert model[0].weight is weight
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))  # type: ignore[arg-type]
    assert report.reference == "checked"


class Trainer:
    """What a module may know that is not to be looked into: it holds a module, a file, a lock."""

    def __init__(self, module: nn.Module) -> None:
        import threading

        self.module, self.lock, self.steps, self.inner = module, threading.Lock(), 0, SimpleNamespace(deep=self)


def test_an_object_that_other_threads_may_use_is_left_alone_and_what_changed_in_it_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = Keeping()
    model.trainer = Trainer(model)  # type: ignore[assignment]
    diagnose(model, batches())
    assert "measuring has changed" not in capsys.readouterr().err
    model.register_forward_hook(lambda module, *_: setattr(module.trainer, "steps", module.trainer.steps + 1))
    trainer = model.trainer
    diagnose(model, batches())
    assert model.trainer is trainer and trainer.steps > 0
    assert "measuring has changed Trainer.steps, which Keeping knows of" in capsys.readouterr().err


class Meter:
    __slots__ = ("mean", "seen")

    def __init__(self) -> None:
        self.mean, self.seen = torch.zeros(8), [0]


class Listed(list):  # type: ignore[type-arg]
    """A list of another class."""


class Hidden(nn.Module):
    """It keeps modules that are not registered and an object within an object, and adds hooks to itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.mid, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.aside = [nn.BatchNorm1d(8), nn.Dropout(0.5)]
        self.logger = SimpleNamespace(meter=Meter(), other=SimpleNamespace(count=0))
        self.outs: Any = Listed()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.embed(x))
        h = torch.relu(self.mid(self.aside[1](self.aside[0](h))))
        self.logger.meter.mean.add_(h.detach().mean(0))
        self.logger.meter.seen[0] += 1
        self.logger.other.count += 1
        self.outs.append(h)
        self.mid.register_forward_hook(lambda *_: None)
        return self.head(h)

    def kept(self) -> list[Any]:
        norm = self.aside[0]
        return [
            norm.running_mean.tolist(), int(norm.num_batches_tracked), [m.training for m in self.aside],
            self.logger.meter.mean.tolist(), list(self.logger.meter.seen), self.logger.other.count, len(self.outs),
            len(self.mid._forward_hooks),
        ]  # fmt: skip


def test_modules_that_are_not_registered_hooks_and_what_they_hold_come_out_as_they_went_in() -> None:
    model = Hidden()
    before, kept_hooks = model.kept(), dict(model.mid._forward_hooks)
    report = diagnose(model, batches(), layers=["embed", "mid"])
    assert model.kept() == before and dict(model.mid._forward_hooks) == kept_hooks
    assert report.reference == "checked" and diagnose(model, batches(), layers=["embed", "mid"]) == report


class Point(NamedTuple):
    x: Tensor
    scale: Tensor


class Record:
    def __init__(self, x: Tensor) -> None:
        self.x = x


class Shifting(nn.Module):
    """It writes into its inputs, whatever they are."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, *args: Any, **named: Any) -> Tensor:
        given = [*args, *named.values()][0]
        x = given.x if isinstance(given, Record) else given[0] if isinstance(given, list | tuple) else given
        x.mul_(2)
        return self.net(x)


@pytest.mark.parametrize(
    "made", [lambda x: x, lambda x: {"x": x}, lambda x: ([x],), lambda x: (Record(x),), lambda x: Point(x, x)]
)
def test_evaluation_batches_of_any_form_stay_as_they_were(made: Any) -> None:
    given = [(made(x.clone()), y) for x, y in batches()]
    expected = diagnose(Shifting(), batches())
    assert diagnose(Shifting(), given).residual_norms == pytest.approx(expected.residual_norms)
    assert diagnose(Shifting(), given).residual_norms == pytest.approx(expected.residual_norms)
