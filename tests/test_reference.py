"""Whether the reference gradient is BP's: a backward pass that is another one is found, set aside or said."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from torch import Tensor, nn

import fa_tracking
from fa_tracking import DiagnosticReport, PartialReport, diagnose
from fa_tracking.auditor.run import audit
from fa_tracking.protocol.alignment import alignment
from fa_tracking.protocol.probe import capture_all

NOT_BP = "inconclusive: the reference gradient is not BP's"
WIDTH = 24


def batches() -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(32, 12, generator=draw), torch.randint(5, (32,), generator=draw)) for _ in range(8)]


class FeedbackLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, feedback: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, feedback)
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, _, feedback = ctx.saved_tensors
        return grads[0] @ feedback, grads[0].T @ x, None


class ConstantFeedback(torch.autograd.Function):
    """Its matrix is made in the backward pass, in float32 whatever the weights are in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, feedback: Tensor) -> Tensor:
        ctx.save_for_backward(feedback)
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0] @ torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(3)), None, None


class CorrectLinear(torch.autograd.Function):
    """A custom function whose backward pass is right."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, feedback: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return grads[0] @ weight, grads[0].T @ x, None


class Block(nn.Module):
    """A pre-LN block whose product ``kind`` computes."""

    def __init__(self, product: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.ln, self.linear, self.product = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH, bias=False), product
        self.feedback: Tensor
        self.register_buffer("feedback", torch.randn(WIDTH, WIDTH) / WIDTH**0.5)

    def forward(self, h: Tensor) -> Tensor:
        return h + torch.tanh(self.product(self, self.ln(h)))


class Net(nn.Module):
    def __init__(self, product: Callable[[Any, Tensor], Tensor], scale: float = 1.0, depth: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Linear(12, WIDTH)
        self.blocks = nn.ModuleList(Block(product) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for block in self.blocks:
            h = self.scale * block(h)
        return self.head(self.norm(h))


def plain(block: Any, h: Tensor) -> Tensor:
    return block.linear(h)


def by_function(function: Any) -> Callable[[Any, Tensor], Tensor]:
    return lambda block, h: function.apply(h, block.linear.weight, block.feedback)


def straight_through(block: Any, h: Tensor) -> Tensor:
    with torch.no_grad():
        exact = block.linear(h.sign())
    other = h @ block.feedback
    return other + (exact - other.data)


def data_cut(block: Any, h: Tensor) -> Tensor:
    return block.linear(h.data)


def without_graph(block: Any, h: Tensor) -> Tensor:
    with torch.no_grad():
        return block.linear(h)


def reversed_gradient(block: Any, h: Tensor) -> Tensor:
    out = block.linear(h)
    return 2 * out.data - out


def detached(block: Any, h: Tensor) -> Tensor:
    return block.linear(h.detach())


def tensor_hook(block: Any, h: Tensor) -> Tensor:
    out = block.linear(h * 1.0)
    out.register_hook(lambda g: g @ block.feedback)
    return out


@pytest.mark.parametrize(
    "product",
    [
        by_function(FeedbackLinear),
        by_function(ConstantFeedback),
        data_cut,
        without_graph,
        reversed_gradient,
        straight_through,
    ],
    ids=["function", "constant in the backward pass", "data", "no_grad", "reversed", "straight through"],
)
def test_whatever_makes_the_backward_pass_another_one_b_and_c_are_not_measured(product: Any) -> None:
    report = diagnose(Net(product), batches())
    assert (report.verdict, report.flags, report.reference) == (NOT_BP, (), "not BP's")
    assert report.kinds | {"d": ""} == {"a": "exact", "b": "not measured", "c": "not measured", "d": ""}
    assert set(report.bp_grad_norms) == {None} and report.grad_gain is report.cross_batch_stability is None
    assert any(remark.startswith("the reference gradient is not BP's: along a random") for remark in report.remarks)
    again = DiagnosticReport.from_dict(report.to_dict())
    assert (again, again.verdict) == (report, NOT_BP)


def test_an_explosion_a_small_margin_and_nan_fire_all_the_same() -> None:
    product = by_function(FeedbackLinear)
    exploded = diagnose(Net(product, scale=1e3), batches(), headline_acc=0.30, frozen_baseline_acc=0.35)
    assert exploded.flags == ("a", "d")
    assert exploded.verdict == (
        "needs walk-back: residual stream exploded; deep blocks fail to beat frozen-random baseline"
    )
    diverged = Net(product)
    diverged.embed.weight.data[0, 0] = torch.nan
    assert diagnose(diverged, batches()).flags == ("n",)


@pytest.mark.parametrize("product", [detached, tensor_hook])
def test_what_can_be_set_aside_is_and_the_numbers_are_those_of_backpropagation(product: Any) -> None:
    expected, report = diagnose(Net(plain), batches()), diagnose(Net(product), batches())
    assert report.reference == expected.reference == "checked"
    assert report.bp_grad_norms == pytest.approx(expected.bp_grad_norms, rel=1e-6)
    assert report.cross_batch_stability == pytest.approx(expected.cross_batch_stability, abs=1e-6)
    assert any("detach() in the forward pass was set aside" in r for r in report.remarks) == (product is detached)


class Local(Net):
    """Each block sees its input detached, as local rules train: no gradient reaches the states."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for block in self.blocks:
            h = block(h.detach())
        return self.head(self.norm(h.detach()))


def test_a_network_that_cuts_its_graph_between_blocks_is_measured_as_if_it_did_not() -> None:
    expected, report = diagnose(Net(plain), batches()), diagnose(Local(plain), batches())
    assert report.bp_grad_norms == pytest.approx(expected.bp_grad_norms, rel=1e-6)
    assert report.residual_norms == pytest.approx(expected.residual_norms, rel=1e-6)


@contextmanager
def global_hook() -> Iterator[None]:
    handle = nn.modules.module.register_module_full_backward_hook(
        lambda module, given, _: tuple(g * 0.5 for g in given)
    )
    try:
        yield
    finally:
        handle.remove()


def test_a_hook_on_all_modules_is_found() -> None:
    with global_hook():
        assert diagnose(Net(plain), batches()).reference == "not BP's"
    assert diagnose(Net(plain), batches()).reference == "checked"


def relu(block: Any, h: Tensor) -> Tensor:
    return torch.relu(block.linear(torch.relu(h)))


def in_float32(block: Any, h: Tensor) -> Tensor:
    return nn.functional.linear(h.float(), block.linear.weight.float()).to(h.dtype)


def dropped(block: Any, h: Tensor) -> Tensor:
    return nn.functional.dropout(block.linear(h), 0.5, training=True)


class SkipFirst(Net):
    """Its skip connection is computed before the block runs."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        gate = torch.sigmoid(h.mean(1, keepdim=True))
        for block in self.blocks:
            h = 0.9 * h + gate * torch.tanh(block(h))
        return self.head(self.norm(h))


class Queries(Net):
    """h_0 is a learned vector, the same memory for every sample."""

    def __init__(self, product: Any) -> None:
        super().__init__(product)
        self.query = nn.Parameter(torch.randn(1, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        h = self.query.expand(len(x), -1)
        for block in self.blocks:
            h = block(h) + self.embed(x)
        return self.head(self.norm(h))


class Drifting(Net):
    """It keeps a running mean that moves in evaluation mode too, and subtracts it."""

    def __init__(self, product: Any) -> None:
        super().__init__(product)
        self.mean = torch.zeros(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(0)
        h = h - self.mean
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


class Noisy(Net):
    def forward(self, x: Tensor) -> Tensor:
        noise = torch.from_numpy(np.random.default_rng().normal(0, 1e-3, x.shape))
        return super().forward(x + noise.to(x))


@pytest.mark.parametrize("kind", [SkipFirst, Queries, Drifting, Noisy])
def test_a_healthy_network_of_an_unusual_form_is_never_said_to_have_another_gradient(kind: type[Net]) -> None:
    for _ in range(3):
        report = diagnose(kind(plain), batches(), layers=["blocks.0", "blocks.1", "blocks.2"])
        assert report.reference in ("checked", "not checked") and report.bp_grad_norms[-1] is not None
    assert kind in (Noisy, Drifting) or report.reference == "checked"


@pytest.mark.parametrize("kind", [SkipFirst, Queries])
def test_feedback_in_a_network_of_an_unusual_form_is_found(kind: type[Net]) -> None:
    report = diagnose(kind(by_function(FeedbackLinear)), batches(), layers=["blocks.0", "blocks.1", "blocks.2"])
    assert report.reference == "not BP's"


@pytest.mark.parametrize("seed", range(12))
def test_feedback_in_a_weak_branch_is_found_on_every_draw(seed: int) -> None:
    def product(block: Any, h: Tensor) -> Tensor:
        return 0.3 * FeedbackLinear.apply(h, block.linear.weight, block.feedback)

    net = Net(product)
    torch.manual_seed(seed)
    for tensor in [*net.parameters(), *net.buffers()]:
        tensor.data.normal_(std=0.2)
    assert diagnose(net, batches()).reference == "not BP's"


class Branch(Block):
    def forward(self, h: Tensor) -> Tensor:
        return self.linear(torch.tanh(self.ln(h)))


class Published(nn.Module):
    """DFA as it is often published: each block's branch sees its input detached."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.layers = nn.Linear(12, WIDTH), nn.ModuleList(Branch(plain) for _ in range(3))
        self.ln, self.fc, self.scale = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5), scale

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for layer in self.layers:
            h = h + self.scale * layer(h.detach())
        self.logged = float(h.detach().norm())
        return self.fc(self.ln(h))


def test_an_exploded_dfa_network_keeps_its_verdict() -> None:
    report = diagnose(Published(1e9), batches())
    assert report.reference == "checked" and {"a", "b"} <= set(report.flags)
    assert any("detach() in the forward pass was set aside" in remark for remark in report.remarks)
    assert len(report.states) == 4


class Logging(Net):
    """It writes its states down as arrays, which cannot be done with the gradient flowing through them."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
            self.array = h.detach().cpu().numpy()
        return self.head(self.norm(h))


def test_what_is_captured_has_no_graph(recwarn: pytest.WarningsRecorder) -> None:
    for product in (plain, detached, by_function(FeedbackLinear)):
        for capture in capture_all(Net(product), batches()):
            assert not any(t.requires_grad for t in [*capture.hidden, *capture.grads, capture.logits, capture.gain])
    assert not [w for w in recwarn if "requires_grad" in str(w.message)]


def test_arrays_made_in_the_forward_pass_do_not_stand_in_the_way() -> None:
    assert diagnose(Logging(by_function(FeedbackLinear)), batches()).verdict == NOT_BP
    assert diagnose(Logging(plain), batches()).reference == "checked"


def _zero_head() -> nn.Module:
    net = Net(plain)
    nn.init.zeros_(net.head.weight)
    return net


HEALTHY: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: Net(plain),
    "kinks": lambda: Net(relu),
    "a right function": lambda: Net(by_function(CorrectLinear)),
    "exploded": lambda: Net(plain, scale=1e3),
    "exploded without bound": lambda: Net(plain, scale=1e12),
    "vanishing": lambda: Net(plain, scale=1e-12),
    "float32 within": lambda: Net(in_float32),
    "half precision": lambda: Net(plain).half(),
    "float64": lambda: Net(plain).double(),
    "random in evaluation": lambda: Net(dropped),
    "deep": lambda: Net(plain, depth=60),
    "zero head": _zero_head,
    "frozen": lambda: Net(plain).requires_grad_(False),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_backward_pass_that_is_backpropagation_is_never_said_to_be_another(name: str) -> None:
    report = diagnose(HEALTHY[name](), [(x.double() if name == "float64" else x, y) for x, y in batches()])
    is_lost = name == "vanishing"  # behind the rounding of what it is a difference of
    assert report.reference == ("not checked" if is_lost else "checked")
    assert report.bp_grad_norms[0] is not None


class Float32Only(Net):
    """It cannot run in float64: it makes its own tensors."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x @ torch.eye(12))


def test_where_float64_is_impossible_the_report_says_not_checked_and_never_another_one() -> None:
    for product in (plain, by_function(FeedbackLinear)):
        report = diagnose(Float32Only(product), batches())
        assert report.reference == "not checked"
        assert report.bp_grad_norms[-1] is not None
        assert any(remark.startswith("the reference gradient is not checked: ") for remark in report.remarks)


def test_a_model_of_plain_layers_with_the_same_weights_is_the_cure() -> None:
    model, reference = Net(by_function(FeedbackLinear)), Net(plain)
    reference.load_state_dict(model.state_dict())
    report = diagnose(model, batches(), reference=reference)
    assert report.bp_grad_norms == diagnose(reference, batches()).bp_grad_norms
    assert report.verdict != NOT_BP and any("measured on reference=Net" in remark for remark in report.remarks)
    reference.head.weight.data.mul_(1.1)
    with pytest.raises(ValueError, match="reference= computes other logits than Net"):
        diagnose(model, batches(), reference=reference)


def test_there_is_no_gamma_against_a_gradient_that_is_not_backpropagations() -> None:
    model = Net(by_function(FeedbackLinear))
    captures = capture_all(model, batches())
    credit = lambda _, capture: [torch.ones_like(h) for h in capture.hidden]  # noqa: E731
    found = alignment(model, captures, credit, [credit], floor=0.0)
    assert set(found.gamma) == set(found.null_mean) == {None} and found.missing == 4
    reference = alignment(model, capture_all(Net(plain), batches()), credit, [credit], floor=0.0)
    assert None not in reference.gamma


def test_a_run_and_its_audit_say_it_too(tmp_path: Any) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    params = {"architecture": "net", "width": WIDTH, "depth": 3, "dataset": "none", "epochs": 1, "batch_size": 32}
    model = Net(by_function(FeedbackLinear))
    with fa_tracking.start_run("e", method="fa", seed=1, frozen_blocks=False, tracking_uri=uri, **params) as run:
        report = run.log_epoch(1, model, batches(), accuracy=0.5)
    assert report.verdict == NOT_BP
    logged = MlflowClient(uri).get_run(run.run_id)
    assert logged.data.tags["fa.reference_gradient"] == "not BP's"
    assert not [key for key in logged.data.metrics if key.startswith("grad_norm") or "stability" in key]
    assert logged.data.metrics["residual_norm/h3"] == pytest.approx(report.residual_norms[-1])
    (audited,) = audit("e", uri).runs
    assert isinstance(audited.report, PartialReport) and audited.report.verdict == NOT_BP
    assert MlflowClient(uri).get_run(run.run_id).data.tags["fa.verdict"] == NOT_BP


def test_the_check_leaves_the_model_as_it_was() -> None:
    model = Net(by_function(FeedbackLinear))
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    diagnose(model, batches())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.dtype == torch.float32 and p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
