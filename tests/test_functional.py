"""Functional measures of credit, held against NumPy, against networks run on by hand, and against what must be."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from decimal import Context, Decimal
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import tiny
from torch import Tensor, nn

from fa_tracking import diagnose
from fa_tracking.protocol.capture import Capture
from fa_tracking.protocol.functional import functional
from fa_tracking.protocol.functional_report import Effect, Functional, in_short
from fa_tracking.protocol.moves import drawn, loss_change
from fa_tracking.protocol.probe import capture_all
from fa_tracking.trainers import data
from fa_tracking.trainers.learner import learner_of
from fa_tracking.trainers.loop import evaluation_inputs, train_epoch
from fa_tracking.trainers.models import mlp, preact_resnet, resmlp, vit_mini

BATCH, IN, WIDTH, CLASSES = 24, 12, 16, 5


def drawn_net(kind: Any, depth: int = 2, **shape: Any) -> Any:
    torch.manual_seed(3)
    net = kind.Model(**{"input_shape": [IN], "classes": CLASSES, "width": WIDTH, "depth": depth, **shape})
    for parameter in net.parameters():
        parameter.data.add_(0.2 * torch.randn(parameter.shape))
    return net


def batches(shape: tuple[int, ...] = (IN,), count: int = 8, size: int = BATCH) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(5)
    return [
        (torch.randn(size, *shape, generator=draw), torch.randint(CLASSES, (size,), generator=draw))
        for _ in range(count)
    ]


def credit(scale: float = 1.0) -> Callable[[Any, Capture], list[Tensor]]:
    """BP's gradient beside noise of its size: neither aligned nor at random."""

    def of(_: Any, capture: Capture) -> list[Tensor]:
        noise = [torch.randn(g.shape, generator=torch.Generator().manual_seed(9)) for g in capture.grads]
        return [scale * (g + 0.5 * g.norm() / n.norm() * n) for g, n in zip(capture.grads, noise, strict=True)]

    return of


def measured(net: nn.Module, given: Any = None, **options: Any) -> Functional:
    found = diagnose(net, given or batches(), functional=True, **{"credit": credit(), **options}).functional
    assert found is not None
    return found


def layer_norm(h: np.ndarray, norm: nn.LayerNorm) -> np.ndarray:
    centred = h - h.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + norm.eps)
    return scaled * array(norm.weight) + array(norm.bias)


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def affine(h: np.ndarray, layer: nn.Linear) -> np.ndarray:
    return h @ array(layer.weight).T + (0 if layer.bias is None else array(layer.bias))


def gelu(z: np.ndarray) -> np.ndarray:
    return z * (1 + np.vectorize(math.erf)(z / math.sqrt(2))) / 2


def by_numpy(net: Any) -> list[Callable[[np.ndarray], np.ndarray]]:
    """The embedding and each block as functions of arrays, from state to state, and the read-out."""

    def block(b: Any) -> Callable[[np.ndarray], np.ndarray]:
        if net.residual:
            return lambda h: h + affine(gelu(affine(layer_norm(h, b.ln), b.up)), b.down)
        return lambda h: np.maximum(affine(h, b[0]), 0)

    def read_out(h: np.ndarray) -> np.ndarray:
        return affine(layer_norm(h, net.out_ln) if hasattr(net, "out_ln") else h, net.out_head)

    return [lambda x: affine(x, net.embed[1]), *map(block, net.blocks), read_out]


def loss(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(1, keepdims=True)
    return np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]


@pytest.mark.parametrize("kind", [resmlp, mlp])
def test_both_measures_are_those_of_a_computation_in_numpy(kind: Any) -> None:
    net = drawn_net(kind)
    if kind is mlp:
        net.embed = nn.Sequential(nn.Flatten(), nn.Linear(IN, WIDTH))  # without its ReLU, as the arrays below
    given = batches()
    captures = capture_all(net, given)
    found = functional(net, captures, credit())
    steps = by_numpy(net)
    for layer in range(len(captures[0].hidden)):
        said, changed, nudged = [], [], []
        for number, (capture, (x, y)) in enumerate(zip(captures, given, strict=True)):
            h = array(x)
            for step in steps[: layer + 1]:
                h = step(h)

            def on(state: np.ndarray, layer: int = layer, labels: Tensor = y) -> np.ndarray:
                for step in steps[layer + 1 :]:
                    state = step(state)
                return loss(state, labels.numpy())

            a = array(credit()(net, capture)[layer])
            directions = torch.randn(32, *h.shape, generator=drawn(0, number, layer)).double().numpy()
            for v in directions:
                move = 1e-3 * v / np.linalg.norm(v, axis=1, keepdims=True)
                said.append((a * move).sum(1))
                changed.append(on(h + move) - on(h))
            rms = np.sqrt((a**2).mean(1, keepdims=True))
            nudged.append(on(h - 0.01 * a / rms) - on(h))
        expected = np.corrcoef(np.concatenate(said), np.concatenate(changed))[0, 1]
        assert found.rule.rho[layer] == pytest.approx(expected, abs=1e-6)
        assert 0.3 < expected < 0.98
        assert found.rule.nudge[layer] == pytest.approx(np.concatenate(nudged).mean(), rel=1e-5, abs=1e-9)


def test_a_healthy_network_has_bps_gradient_near_one_and_a_random_vector_near_nothing() -> None:
    dataset = data.load("digit_pairs")
    learner = learner_of(tiny("bp", dataset="digit_pairs", width=32, lr=1e-3), dataset)
    train_epoch(learner, dataset, 1)
    found = diagnose(learner.model, evaluation_inputs(dataset), functional=True).functional
    assert found is not None and found.samples == 1280
    assert all(rho is not None and rho >= 0.99 for rho in found.bp.rho)
    assert all(rho is not None and abs(rho) < 0.02 for rho in found.random.rho)
    assert all(n is not None and n < 0 for n in found.bp.nudge)
    assert all(
        n is not None and e is not None and abs(n) < 4 * e
        for n, e in zip(found.random.nudge, found.random.nudge_error, strict=True)
    )
    assert found.rule == Effect.missing(3) and found.remarks == ("the rule's credit: no credit of a rule was given",)


class Linear(nn.Module):
    """Its loss is linear in h_0: the true class is far behind the other."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.blocks, self.head = nn.Linear(IN, 8), nn.ModuleList([nn.Identity()]), nn.Linear(8, 2)
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor([500.0, -500.0]))

    def forward(self, x: Tensor, return_hidden: bool = False) -> Any:
        h = self.embed(x)
        logits = self.head(h)
        return (logits, [h]) if return_hidden else logits


def test_a_linear_loss_has_exactly_one_and_falls_by_the_length_of_its_gradient() -> None:
    torch.manual_seed(0)
    net, given = Linear(), [(x, torch.ones(len(x), dtype=torch.long)) for x, _ in batches()]
    found = measured(net, given, credit=lambda _, c: [c.grads[0]])
    assert found.bp.rho[0] == pytest.approx(1, abs=1e-9) and found.rule.rho == found.bp.rho
    slope = array(net.head.weight[0] - net.head.weight[1])
    assert found.bp.nudge[0] == pytest.approx(-0.01 * math.sqrt(8) * np.linalg.norm(slope), rel=1e-6)
    assert found.rule.nudge_error[0] == pytest.approx(0, abs=1e-9)


def test_neither_measure_depends_on_the_size_of_the_credit() -> None:
    net = drawn_net(resmlp)
    small, large = (measured(net, credit=credit(scale)).rule for scale in (2.0**-80, 2.0**80))
    for one, other in ((small.rho, large.rho), (small.nudge, large.nudge)):
        assert one == pytest.approx(other, rel=1e-6)


def test_where_float32_sees_no_loss_change_float64_does() -> None:
    net = drawn_net(resmlp)
    with torch.no_grad():
        net.embed[1].weight.mul_(1e8)
        net.embed[1].bias.mul_(1e8)
    found = measured(net)
    assert all(rho is not None and rho > 0.99 for rho in found.bp.rho)
    assert found.bp.rho_float32 == found.rule.rho_float32 == (None, None, None)
    assert "h_2: in float32 no loss changes when it moves by 0.001: ρ in float32 is missing" in found.remarks
    healthy = measured(drawn_net(resmlp))
    assert healthy.bp.rho_float32 == pytest.approx(healthy.bp.rho, abs=0.01)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [(vit_mini, {"input_shape": [3, 16, 16]}), (preact_resnet, {"input_shape": [3, 8, 8]}), (mlp, {})],
)
def test_what_is_moved_is_what_the_state_is_read_from(kind: Any, shape: dict[str, Any]) -> None:
    net = drawn_net(kind, **shape)
    given = batches(tuple(shape.get("input_shape", [IN])), count=2, size=9)
    found = measured(net, given, layers=None)
    wide = copy.deepcopy(net).double().eval()
    changes: list[list[Tensor]] = [[] for _ in found.gamma]
    for capture in capture_all(net, given):
        with torch.no_grad():
            logits, hidden = wide(capture.inputs.double(), return_hidden=True)
            before = F.cross_entropy(logits, capture.labels, reduction="none")
            for layer, a in enumerate(credit()(net, capture)):
                step = -0.01 * a.double() / a.double().square().mean(1, keepdim=True).sqrt()
                h = hidden[layer].clone()
                if h.ndim == 3:
                    h[:, 0] += step
                else:
                    h += step.view(h.shape)
                for block in wide.blocks[layer:]:
                    h = wide.advance(h, block(h))
                changes[layer].append(F.cross_entropy(wide.readout(h), capture.labels, reduction="none") - before)
    assert found.rule.nudge == pytest.approx([float(torch.cat(each).mean()) for each in changes], rel=1e-9, abs=1e-13)


class Named(nn.Module):
    """No blocks and no list of states: they are found, or named; the skip connection is another tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(IN, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h = h * 1.0 + torch.tanh(self.second(h))
        return self.last(h)


def test_a_network_with_named_layers_is_moved_where_they_make_a_state() -> None:
    torch.manual_seed(1)
    net = Named()
    found = measured(net, layers=["first"])
    whole = copy.deepcopy(net).double()
    changes = []
    for capture in capture_all(net, batches(), ["first"]):
        a = credit()(net, capture)[0].double()
        h = whole.first(capture.inputs.double())
        before, after = (
            F.cross_entropy(whole.last(s + torch.tanh(whole.second(s))), capture.labels, reduction="none")
            for s in (h, h - 0.01 * a / a.square().mean(1, keepdim=True).sqrt())
        )
        changes.append((after - before).detach())
    assert found.rule.nudge[0] == pytest.approx(float(torch.cat(changes).mean()), rel=1e-9)
    assert found.bp.rho[0] is not None and found.bp.rho[0] > 0.99


class Bypassed(Named):
    """Something leads from before the state to the logits."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(self.second(h) + x[:, :8])


def test_a_state_that_is_bypassed_is_moved_in_whole_passes() -> None:
    torch.manual_seed(1)
    found = measured(Bypassed(), layers=["first"])
    assert found.bp.rho[0] is not None and found.bp.rho[0] > 0.99 and found.bp.nudge[0] < 0  # type: ignore[operator]


class Noisy(Named):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.dropout(self.first(x), 0.5, training=True))


class Hidden(torch.autograd.Function):
    """No call of torch: it makes a state that cannot be moved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * grad


class Unmoved(Named):
    def __init__(self) -> None:
        super().__init__()
        self.made = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.made(Hidden.apply(self.first(x))))


class NoFloat64(Named):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)).float().to(x.dtype))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Noisy, "h_0: not measured: the network's output changes from call to call"),
        (Unmoved, "h_0: not measured: h_0 is made by an operation that cannot be moved"),
        (NoFloat64, "h_0: not measured: the network computes in less than float64"),
    ],
)
def test_a_network_that_cannot_be_run_on_has_no_measure_and_says_why(kind: Any, reason: str) -> None:
    torch.manual_seed(1)
    found = measured(kind(), layers=["made" if kind is Unmoved else "first"])
    assert found.remarks == (reason,)
    assert found.rule.rho == found.bp.nudge == (None,)


def test_what_has_no_effect_or_is_no_number_is_not_a_measurement() -> None:
    net, nothing = drawn_net(resmlp), [None, None, None]

    def partly(_: Any, c: Capture) -> list[Tensor | None]:
        return [torch.zeros_like(c.grads[0]), None, torch.full_like(c.grads[2], math.nan)]

    found = measured(net, credit=partly)
    assert found.rule.rho[:2] == (None, None) and math.isnan(found.rule.rho[2] or 0)
    assert found.rule.nudge[:2] == (None, None) and math.isnan(found.rule.nudge[2] or 0)
    assert found.remarks == (
        "the rule's credit: none at h_1",
        "h_0: the rule's credit is zero",
        "h_2: the rule's credit or the loss is not finite",
    )
    with torch.no_grad():
        net.out_head.weight.zero_()
    still = functional(net, capture_all(net, batches()), credit())
    assert [*still.bp.rho] == [*still.random.rho] == nothing
    assert "h_1: no loss changes when it moves by 0.001: ρ is missing" in still.remarks
    broken = functional(net, capture_all(net, batches()), lambda *_: 1 / 0)  # type: ignore[arg-type, return-value]
    assert "the rule's credit: division by zero" in broken.remarks and broken.rule == Effect.missing(3)
    with torch.no_grad():
        net.out_head.weight.fill_(math.inf)
    lost = functional(net, capture_all(net, batches()))
    assert all(rho is not None and math.isnan(rho) for rho in lost.random.rho)


def exact_change(logits: list[float], moved: list[float], label: int) -> float:
    """The change of a sample's cross-entropy, to more digits than float64's smallest number has zeros."""
    digits = Context(prec=360, Emin=-(10**8), Emax=10**8)

    def loss(z: list[float]) -> Decimal:
        terms = [digits.exp(digits.subtract(Decimal(each), Decimal(z[label]))) for each in z]
        total = Decimal(0)
        for term in terms:
            total = digits.add(total, term)
        return digits.ln(total)

    return float(digits.subtract(loss(moved), loss(logits)))


@pytest.mark.parametrize("step", [1e-9, 1e-3, 0.5, 3.0, 40.0, 1e3, 1e6])
@pytest.mark.parametrize("size", [1e-3, 1.0, 20.0, 50.0, 400.0, 1e4])
def test_the_change_of_a_loss_has_its_digits_whatever_its_size(size: float, step: float) -> None:
    """Of a loss that falls by 40 or rises by a million, and of one that changes by 1e-9 beside a loss of 1e-20."""
    draw = torch.Generator().manual_seed(7)
    logits = size * torch.randn(50, 3, generator=draw, dtype=torch.float64)
    moved = logits + step * torch.randn(50, 3, generator=draw, dtype=torch.float64)
    labels = torch.randint(3, (50,), generator=draw)
    found = loss_change(logits, moved, labels)
    rows = zip(logits.tolist(), moved.tolist(), labels.tolist(), strict=True)
    right = torch.tensor([exact_change(*row) for row in rows], dtype=torch.float64)
    spacing = 1e-15 * torch.maximum(logits.abs(), moved.abs()).amax(dim=1)  # of the logits themselves, in each term
    assert found.isfinite().all()
    allowed = 1e-300 + 1e-12 * right.abs() + spacing * right.abs().clamp(max=1)
    assert bool(((found - right).abs() <= allowed).all())


def test_a_single_sample_is_measured_without_an_error_of_its_correlation() -> None:
    found = measured(drawn_net(resmlp), batches(count=1, size=1))
    assert found.samples == 1 and found.bp.rho_error == (None,) * 3
    assert all(rho is not None and rho > 0.99 for rho in found.bp.rho)


def test_what_is_missing_in_float32_alone_says_why() -> None:
    net = drawn_net(resmlp)
    found = measured(net, credit=lambda _, c: [g.double() * 1e-200 for g in c.grads])
    assert found.rule.rho_float32 == (None,) * 3 and None not in found.rule.rho
    assert "h_1: the rule's credit is zero in float32: its ρ in float32 is missing" in found.remarks
    precise = measured(net.double(), [(x.double(), y) for x, y in batches()])
    assert precise.bp.rho_float32 == (None,) * 3
    assert "ρ in float32: not measured: the network computes in float64" in precise.remarks


def test_directions_are_the_same_in_every_process_and_in_passes_of_any_size() -> None:
    net, given = drawn_net(resmlp), batches()
    found = measured(net, given)
    torch.set_default_dtype(torch.float64)
    try:
        assert measured(net, given).random == found.random
    finally:
        torch.set_default_dtype(torch.float32)

    class ByName(nn.Module):
        """Its inputs are named, so that one pass takes one move."""

        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor, return_hidden: bool = False) -> Any:
            return self.net(x, return_hidden=return_hidden)

    named = measured(ByName(), [({"x": x}, y) for x, y in batches()])
    for one, other in zip(named.rule.rho, found.rule.rho, strict=True):
        assert one == pytest.approx(other, rel=1e-6)


def test_a_credit_is_asked_in_its_own_precision_and_cannot_change_what_it_is_shown() -> None:
    net = drawn_net(resmlp)

    def spoils(model: Any, capture: Capture) -> list[Tensor]:
        found = credit()(model, capture)
        product = [a @ torch.eye(a.shape[1]) for a in found]
        for given in (*capture.grads, *capture.hidden):
            given.zero_()
        return product

    alone = diagnose(net, batches(), functional=True, credit=credit())
    with torch.autocast("cpu", torch.bfloat16):
        found = diagnose(net, batches(), functional=True, credit=spoils)
    assert found.bp_grad_norms == alone.bp_grad_norms and found.residual_norms == alone.residual_norms
    assert found.functional is not None and alone.functional is not None
    assert found.functional.bp == alone.functional.bp
    assert found.functional.rule.nudge == pytest.approx(alone.functional.rule.nudge, rel=1e-5)


def test_a_move_has_the_batch_statistics_of_its_own_batch_alone() -> None:
    """BatchNorm without running statistics: what BP's gradient does is the same whatever else is measured."""
    net = nn.Sequential(
        nn.Linear(IN, WIDTH), nn.BatchNorm1d(WIDTH, track_running_stats=False), nn.Linear(WIDTH, CLASSES)
    )
    one = measured(net, credit=None, layers=["0", "1"])
    other = measured(net, credit=lambda _, c: [torch.ones_like(h) for h in c.hidden], layers=["0", "1"])
    assert one.bp.nudge == other.bp.nudge and None not in one.bp.nudge


def test_the_model_the_batches_and_the_random_state_are_left_alone_and_a_second_call_is_the_same() -> None:
    net, given = drawn_net(resmlp), batches()
    before = copy.deepcopy((net.state_dict(), given))
    torch.manual_seed(11)
    state, training = torch.get_rng_state(), net.training
    one, other = measured(net, given), measured(net, given)
    assert one == other and torch.equal(torch.get_rng_state(), state) and net.training is training
    assert all(torch.equal(v, before[0][k]) for k, v in net.state_dict().items())
    assert all(torch.equal(x, y) for pair, was in zip(given, before[1], strict=True) for x, y in zip(pair, was))  # noqa: B905
    assert not net._forward_hooks and all(p.grad is None for p in net.parameters())


def test_a_costly_network_is_measured_on_fewer_samples_and_says_on_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    from fa_tracking.protocol import moves

    net = drawn_net(resmlp)
    assert measured(net).samples == 8 * BATCH
    monkeypatch.setattr(moves, "MOST", 1.0)
    assert measured(net).samples == BATCH
    assert measured(net, batches(size=100, count=2)).samples == 32
    few = measured(net, batches(size=100, count=2))
    assert few.rule.rho[0] == pytest.approx(measured(net, batches(size=100, count=1)).rule.rho[0])
    assert few.bp.rho[0] is not None and few.bp.rho[0] > 0.99


def test_gamma_and_function_disagree_where_both_orders_are_beyond_chance() -> None:
    none = (None, None, None)
    effect = Effect((0.1, 0.4, 0.9), (0.02, 0.02, 0.02), none, (-3e-3, -2e-3, math.nan), (1e-4, 1e-4, 1e-4))
    found = Functional(
        9, effect, Effect.missing(3), Effect.missing(3), gamma=(0.6, 0.2, 0.21), gamma_error=(0.02, 0.02, 0.02)
    )
    assert [(d.higher, d.lower, d.measure) for d in found.disagreements] == [(0, 1, "ρ"), (0, 2, "ρ")]
    assert "disagreement: Γ ranks h_0 above h_1, ρ h_1 above h_0" in str(found)
    vague = replace(found, gamma_error=(0.3, 0.3, 0.3))
    assert vague.disagreements == []
    falls = replace(found, rule=replace(effect, nudge=(-2e-3, -3e-3, None)))
    assert [(d.higher, d.lower) for d in falls.disagreements if d.measure == "nudging"] == [(0, 1)]


def test_what_a_tag_has_no_room_for_is_named() -> None:
    wide = Effect(*[tuple(0.0123456789 * k for k in range(1, 41))] * 5)
    found = Functional(9, wide, wide, wide, wide.rho, (math.nan,) * 40)
    whole, short = in_short(found, 100_000), in_short(found, 3000)
    assert "cut" not in whole and whole["rule"]["nudge"][0] == 0.0123457 and whole["alignment_error"][0] == "NaN"
    assert short["cut"] == f"h_{short['layers']} … h_39" and 0 < short["layers"] < 40
    assert short["bp"]["perturbation"] == whole["bp"]["perturbation"][: short["layers"]]
    assert in_short(found, 40) == {"cut": "h_0 … h_39"}
