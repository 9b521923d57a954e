"""What diagnose measures, against an independent float64 computation in NumPy that shares no code with it."""

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fa_tracking import diagnose
from fa_tracking.protocol.knockout import FEW, knockout
from fa_tracking.protocol.norms import cosine, mean_pairwise_cosine, median, norms
from fa_tracking.trainers.models.resmlp import Model as ResMLP
from fa_tracking.trainers.models.small_cnn import Model as SmallCNN

SCALES = st.integers(-12, 12).map(lambda k: 10.0**k)


class Toy(nn.Module):
    """h_0 = x A, h_{l+1} = h_l + tanh(h_l W_l), logits = h_L H (of tokens the first): its gradient is written below."""

    def __init__(self, width: int, depth: int, scale: float = 1.0, tokens: int = 0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(width + depth)
        self.embed = nn.Parameter(scale * torch.randn(6, width, generator=draw, dtype=torch.float64))
        self.mix = nn.ParameterList(
            nn.Parameter(torch.randn(width, width, generator=draw, dtype=torch.float64)) for _ in range(depth)
        )
        self.head = nn.Parameter(torch.randn(width, 5, generator=draw, dtype=torch.float64))
        self.tokens = tokens

    def forward(self, x: Tensor, return_hidden: bool = False) -> Tensor | tuple[Tensor, list[Tensor]]:
        h = x @ self.embed
        if self.tokens:
            h = h[:, None, :].repeat(1, self.tokens, 1) * torch.arange(1, self.tokens + 1)[None, :, None]
        hidden = [h]
        for w in self.mix:
            hidden.append(hidden[-1] + torch.tanh(hidden[-1] @ w))
        last = hidden[-1][:, 0, :] if self.tokens else hidden[-1]
        return (last @ self.head, hidden) if return_hidden else last @ self.head


def by_hand(model: Toy, batches: list[tuple[Tensor, Tensor]]) -> dict[str, object]:
    """The quantities of the protocol, one sample at a time."""
    embed, head = model.embed.detach().numpy(), model.head.detach().numpy()
    mix = [w.detach().numpy() for w in model.mix]
    layers = len(mix) + 1
    h_norms, g_norms = [[] for _ in range(layers)], [[] for _ in range(layers)]
    gains, means = [], []
    for x, y in batches:
        batch = []
        for sample, label in zip(x.numpy(), y.numpy(), strict=True):
            hidden = [sample @ embed]
            for w in mix:
                hidden.append(hidden[-1] + np.tanh(hidden[-1] @ w))
            logits = hidden[-1] @ head
            p = np.exp(logits - logits.max())
            e = p / p.sum()
            e[label] = -np.delete(e, label).sum()  # not p - 1, which has no digits left near p = 1
            g = [head @ e]
            for w, h in zip(reversed(mix), reversed(hidden[:-1]), strict=True):
                g.insert(0, g[0] + w @ (g[0] * (1 - np.tanh(h @ w) ** 2)))
            for layer in range(layers):
                h_norms[layer].append(math.sqrt(sum(v * v for v in hidden[layer])))
                g_norms[layer].append(math.sqrt(sum(v * v for v in g[layer])) / 128)
            others = np.exp(logits - np.delete(logits, label).max())  # e is (1 − p_y) times this, whatever it is
            others[label] = 0
            direction = others / others.sum()
            direction[label] = -1
            gains.append(math.sqrt(sum(v * v for v in head @ direction)) / np.linalg.norm(direction) / 128)
            batch.append(g[len(mix) // 2])
        means.append(np.mean(batch, axis=0))
    means = [v for v in means if v.any()]  # a zero vector has no direction
    cosines = [
        means[i] @ means[j] / (np.linalg.norm(means[i]) * np.linalg.norm(means[j]))
        for i in range(len(means))
        for j in range(i)
    ]
    return {
        "residual_norms": [np.median(v) for v in h_norms],
        "bp_grad_norms": [np.median(v) for v in g_norms],
        "grad_gain": np.median(gains),
        "cross_batch_stability": np.mean(cosines) if len(means) >= 8 else None,
    }


def toy_batches(sizes: list[int]) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(len(sizes))
    return [
        (torch.randn(n, 6, generator=draw, dtype=torch.float64), torch.randint(0, 5, (n,), generator=draw))
        for n in sizes
    ]


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(2, 9),
    depth=st.integers(1, 5),
    sizes=st.lists(st.integers(1, 7), min_size=8, max_size=11),
    scale=st.sampled_from([1e-12, 1e-6, 1e-2, 1.0, 1e6, 1e12]),
    tokens=st.sampled_from([0, 3]),
)
def test_every_quantity_agrees_with_the_computation_by_hand(
    width: int, depth: int, sizes: list[int], scale: float, tokens: int
) -> None:
    model, batches = Toy(width, depth, scale, tokens), toy_batches(sizes)
    report, expected = diagnose(model, batches), by_hand(model, batches)
    assert report.residual_norms == pytest.approx(expected["residual_norms"], rel=1e-5)
    assert report.bp_grad_norms == pytest.approx(expected["bp_grad_norms"], rel=1e-5)
    assert report.grad_gain == pytest.approx(expected["grad_gain"], rel=1e-5)
    if scale <= 1:  # beyond, most samples are saturated and a mean direction hangs on digits that no one has
        assert report.cross_batch_stability == pytest.approx(expected["cross_batch_stability"], abs=1e-4)
    assert report.stability_layer == depth // 2


@settings(max_examples=60, deadline=None)
@given(
    a=st.lists(st.integers(-9, 9), min_size=2, max_size=6).filter(any),
    b=st.lists(st.integers(-9, 9), min_size=2, max_size=6).filter(any),
    a_scale=SCALES,
    b_scale=SCALES,
)
def test_the_cosine_does_not_depend_on_scale(a: list[int], b: list[int], a_scale: float, b_scale: float) -> None:
    n = min(len(a), len(b))
    u, v = np.array(a[:n], dtype=float), np.array(b[:n], dtype=float)
    if not (u.any() and v.any()):
        return
    expected = u @ v / (np.linalg.norm(u) * np.linalg.norm(v))
    seen = cosine(torch.tensor(u) * a_scale, torch.tensor(v) * b_scale).item()
    assert seen == pytest.approx(expected, abs=1e-12)


def test_a_tiny_vector_keeps_the_cosine_that_eps_would_take() -> None:
    a, b = torch.tensor([[3.0, 4.0]]), torch.tensor([[3e-10, 4e-10]])
    assert torch.nn.functional.cosine_similarity(a, b).item() < 0.1
    assert cosine(a, b).item() == pytest.approx(1.0, abs=1e-6)


def test_norms_go_along_the_last_axis_alone() -> None:
    assert norms(torch.tensor([[3.0, 4.0], [6.0, 8.0]])).tolist() == [5.0, 10.0]
    assert norms(torch.full((1, 4), 1e30)).item() == pytest.approx(2e30, rel=1e-6)


def test_the_median_is_the_middle_and_keeps_what_is_not_finite() -> None:
    assert median(torch.tensor([4.0, 1.0, 3.0, 2.0])) == 2.5
    assert median(torch.tensor([1.0, math.inf, math.inf])) == math.inf
    assert math.isnan(median(torch.tensor([1.0, math.nan, 2.0])))


def test_directions_that_do_not_exist_form_no_pair() -> None:
    x = torch.tensor([1.0, 0.0])
    assert mean_pairwise_cosine([x, torch.zeros(2), 2 * x]) == pytest.approx(1.0)
    assert mean_pairwise_cosine([x, torch.zeros(2)]) is None
    assert math.isnan(mean_pairwise_cosine([x, torch.full((2,), math.nan)]) or 0)


def test_b_does_not_depend_on_the_batch_size() -> None:
    model = Toy(8, 3)
    x, y = toy_batches([1280])[0]
    small = diagnose(model, list(zip(x.split(128), y.split(128), strict=True)))
    large = diagnose(model, [(x, y)])
    assert small.bp_grad_norms == pytest.approx(large.bp_grad_norms, rel=1e-12)
    assert small.grad_gain == pytest.approx(large.grad_gain, rel=1e-12)
    assert large.cross_batch_stability is None
    assert "1 batches, needs at least 8" in str(large)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_diverged_network_is_never_trustworthy(bad: float) -> None:
    model = Toy(4, 2)
    with torch.no_grad():
        model.mix[0][0, 0] = bad
        model.embed[0, 0] = bad
    assert "measurement is not finite" in diagnose(model, toy_batches([4] * 8)).verdict


class Hooked(nn.Module):
    """Blocks that return the residual branch, and no return_hidden."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.Dropout(0.5)) for _ in range(3))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for block in self.blocks:
            h = h + block(h)
        return self.head(self.norm(h))


class Explicit(Hooked):
    def forward(self, x: Tensor, return_hidden: bool = False) -> Tensor | tuple[Tensor, list[Tensor]]:  # type: ignore[override]
        hidden = [self.embed(x)]
        for block in self.blocks:
            hidden.append(hidden[-1] + block(hidden[-1]))
        logits = self.head(self.norm(hidden[-1]))
        return (logits, hidden) if return_hidden else logits


def float_batches() -> list[tuple[Tensor, Tensor]]:
    return [(x.float(), y) for x, y in toy_batches([16] * 10)]


@pytest.mark.parametrize("frozen", [False, True])
def test_hooks_and_return_hidden_show_the_same(frozen: bool) -> None:
    hooked, explicit = Hooked(), Explicit()
    explicit.load_state_dict(hooked.state_dict())
    for model in (hooked, explicit):
        model.requires_grad_(not frozen)
    assert diagnose(hooked, float_batches()) == diagnose(explicit, float_batches())


def test_the_model_is_left_as_it_was() -> None:
    model = Hooked()
    model.blocks[1].eval()
    model(torch.randn(4, 6)).sum().backward()
    modes = [m.training for m in model.modules()]
    grads = [p.grad.clone() for p in model.parameters()]  # type: ignore[union-attr]
    weights = [p.detach().clone() for p in model.parameters()]
    random_state = torch.get_rng_state()
    diagnose(model, float_batches())
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))  # type: ignore[arg-type]
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_what_cannot_be_measured_is_named() -> None:
    with pytest.raises(ValueError, match="shows no hidden states"):
        diagnose(nn.Linear(6, 5), float_batches())
    with pytest.raises(ValueError, match="no evaluation batch"):
        diagnose(Hooked(), [])
    with pytest.raises(ValueError, match=r"expected logits \(B, classes\) and labels \(B,\)"):
        diagnose(Hooked(), [(torch.randn(4, 6), torch.zeros(3, dtype=torch.int64))])


def test_the_knockout_is_the_accuracy_of_the_network_without_the_block() -> None:
    torch.manual_seed(0)
    model = ResMLP(input_shape=[6], classes=3, width=5, depth=3).double()
    for block in model.blocks:
        block.down.weight.data.mul_(100)
    batches = [(torch.randn(40, 6, dtype=torch.float64), torch.randint(0, 3, (40,))) for _ in range(2)]

    def accuracy(removed: set[int]) -> float:
        right = 0
        for x, y in batches:
            h = model.embed(x)
            for layer, block in enumerate(model.blocks):
                h = h if layer in removed else h + block(h)
            right += int((model.out_head(model.out_ln(h)).argmax(1) == y).sum())
        return right / 80

    whole = {
        "samples": 80,
        "whole": accuracy(set()),
        "without": [accuracy({layer}) for layer in range(3)],
        "without_all": accuracy({0, 1, 2}),
    }
    assert len({whole["whole"], *whole["without"], whole["without_all"]}) > 3
    assert knockout(model, batches).to_dict() == whole
    assert knockout(_Whole(model), batches).to_dict() == whole


class _Whole(nn.Module):
    """The same network with blocks that return h + f(h), seen through hooks."""

    def __init__(self, model: ResMLP) -> None:
        super().__init__()
        self.embed, self.norm, self.head = model.embed, model.out_ln, model.out_head
        self.blocks = nn.ModuleList(_Added(block) for block in model.blocks)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


class _Added(nn.Module):
    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, h: Tensor) -> Tensor:
        return h + self.branch(h)


class _Network(nn.Module):
    """An embedding, four blocks and a head; ``advance`` makes the next state of a state and what its block returned."""

    def __init__(self, advance: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(6, 5), nn.Linear(5, 3)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(5, 5), nn.Tanh()) for _ in range(4))
        self.advance = advance

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for block in self.blocks:
            h = self.advance(h, block(h))
        return self.head(h)


class _Aside(nn.Module):
    """A block that also leaves something with the network, by a way that no output shows."""

    def __init__(self, inner: nn.Module, left: list[Tensor]) -> None:
        super().__init__()
        self.inner, self.left = inner, left

    def forward(self, h: Tensor) -> Tensor:
        self.left.append(h)
        return self.inner(h) + len(self.left) % 7


def _refuse_fewer(_: nn.Module, args: tuple[Tensor]) -> None:
    if len(args[0]) != 50:
        raise ValueError("it takes batches of 50")


class _Keeping(nn.Module):
    """A part that keeps what it returned."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, h: Tensor) -> Tensor:
        self.kept = self.inner(h)
        return self.kept


class _Reading(nn.Module):
    """A head that reads what another part keeps."""

    def __init__(self, inner: nn.Module, other: _Keeping) -> None:
        super().__init__()
        self.inner, self.others = inner, [other]

    def forward(self, h: Tensor) -> Tensor:
        return self.inner(h + self.others[0].kept.mean(dim=0))


@pytest.mark.parametrize("kind", ["plain", "in place", "aside", "of one size", "embedding kept", "block kept", "blank"])
def test_what_runs_before_a_block_is_computed_again_where_it_must_be(kind: str) -> None:
    torch.manual_seed(0)
    model = _Network(Tensor.add_ if kind == "in place" else Tensor.add)
    left: list[Tensor] = []
    if kind == "aside":
        model.blocks = nn.ModuleList(_Aside(block, left) for block in model.blocks)
    if kind == "of one size":
        model.register_forward_pre_hook(_refuse_fewer)
    if kind == "embedding kept":
        model.embed = _Keeping(model.embed)
        model.head = _Reading(model.head, model.embed)
    if kind == "block kept":
        model.blocks[0] = _Keeping(model.blocks[0])
        model.head = _Reading(model.head, model.blocks[0])
    model.head.register_forward_pre_hook(lambda *_: left.clear())
    computed: list[int] = []
    for layer, block in enumerate(model.blocks):
        inner = block.inner if isinstance(block, _Aside | _Keeping) else block
        inner[0].register_forward_hook(lambda *_, layer=layer: computed.append(layer))
    batches = [(torch.randn(50, 6), torch.randint(0, 3, (50,))) for _ in range(3)]
    if kind == "blank":  # of samples whose state is zero a branch cannot be told from the next state
        model.embed.register_parameter("bias", None)
        batches[0][0][:FEW] = 0

    def without(layers: set[int]) -> float:
        hooks = [model.blocks[i].register_forward_hook(lambda _, args, out: torch.zeros_like(out)) for i in layers]
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)
        for hook in hooks:
            hook.remove()
        return right / 150

    known = (without(set()), tuple(without({i}) for i in range(4)), without({0, 1, 2, 3}))
    computed.clear()
    found = knockout(model, batches)
    assert (found.whole, found.without, found.without_all) == known
    assert (computed.count(0) == 3 + 4) == (kind != "aside")  # a time for each batch, and for what is seen beforehand
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_block_that_nothing_can_stand_in_for_is_named() -> None:
    model = SmallCNN(input_shape=[3, 32, 32], classes=3, width=4, depth=3)
    problem = knockout(model, [(torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))]).problem
    assert re.fullmatch(r"block \d has no branch to take out: it maps \(.*\) to \(.*\)", problem or "")
