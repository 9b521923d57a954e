"""The recipe of a run: rate, labels, clipping, and how a local credit is normalised and placed."""

import copy
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import tiny
from torch import nn

from fa_tracking import catalogue
from fa_tracking.errors import UsageError
from fa_tracking.protocol.outputs import output_error
from fa_tracking.trainers import data, methods
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.learner import Learner, learner_of
from fa_tracking.trainers.loop import train_epoch
from fa_tracking.trainers.method import LocalRule, unit_rms
from fa_tracking.trainers.recipe import clip, clipped_parts, rate
from fa_tracking.trainers.stacked.stack import Stack

DIGITS = data.load("digits")
X, Y = DIGITS.normalisation(DIGITS.train.inputs[:20]), DIGITS.train.labels[:20]


def learner(method: str, **changes: object) -> Learner:
    return learner_of(tiny(method, **changes), DIGITS)


def gradients(learner: Learner, penalty: float = 0.0) -> dict[str, torch.Tensor]:
    learner.optimizer.zero_grad()
    learner.rule.backward(learner.model, X.to(next(learner.model.parameters()).dtype), Y, penalty)
    return {name: p.grad.clone() for name, p in learner.model.named_parameters() if p.grad is not None}


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


LOCAL = [n for n in catalogue.names(methods) if issubclass(catalogue.load(methods, n).Method, LocalRule)]


@pytest.mark.parametrize("shape", [(6, 256), (6, 4, 5, 5)])
@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e6, 1e12])
def test_a_normalised_credit_has_rms_1_in_each_sample_at_any_scale(scale: float, shape: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(0)
    spread = torch.logspace(-3, 3, 6).reshape(6, *[1] * (len(shape) - 1))  # samples differ in scale
    credit = torch.randn(shape, generator=draw) * spread * scale
    found = unit_rms(credit)
    rms = found.double().flatten(1).square().mean(1).sqrt()
    assert rms.numpy() == pytest.approx(np.ones(6), rel=1e-6)
    cosine = F.cosine_similarity(found.double().flatten(1), (credit.double() / scale).flatten(1), eps=0)
    assert cosine.numpy() == pytest.approx(np.ones(6), rel=1e-6)


def test_the_studys_normalisation_leaves_a_credit_far_below_1e_minus_6_small() -> None:
    credit = torch.ones(3, 8) * torch.tensor([[1e-9], [1e-6], [1.0]])
    found = unit_rms(credit, 1e-6)[:, 0].tolist()
    assert found == pytest.approx([1e-9 / (1e-9 + 1e-6), 0.5, 1 / (1 + 1e-6)], rel=1e-6)
    rule = learner("dfa", credit_normalisation="rms_eps").rule
    of_the_mean = rule.normalised([credit / 3])[0]  # a of each sample's own loss, without the 1/B of the mean
    assert (of_the_mean * 3)[:, 0].tolist() == pytest.approx(found, rel=1e-6)


def test_a_credit_of_zero_stays_zero_and_one_that_is_not_finite_is_not_hidden() -> None:
    found = unit_rms(torch.tensor([[0.0, 0.0], [3.0, 4.0], [math.nan, 1.0]]))
    assert not found[0].any() and found[1].tolist() == pytest.approx([0.6 * 2**0.5, 0.8 * 2**0.5])
    assert found[2].isnan().any()


@pytest.mark.parametrize("method", LOCAL)
def test_normalised_blocks_see_a_credit_of_rms_1_per_sample_whatever_its_scale(method: str) -> None:
    given = learner(method, credit_normalisation="rms", credit_index="input")
    sent = given.rule.signals(given.model, X, Y).sent[1 : 1 + len(given.model.blocks)]
    for _, error in sent:  # of the mean loss: a/B
        rms = (error * len(Y)).double().square().mean(1).sqrt()
        assert rms.numpy() == pytest.approx(np.ones(len(Y)), rel=1e-5)


def old_dfa(learner: Learner, feedback: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """DFA as version 0.1 wrote it: block l by the credit at its output, a_{l+1} = (e/B) B_{l+1}; sent at once."""
    model = learner.model
    model.zero_grad()
    outputs = [model.embed(X)]
    hidden = [outputs[0].detach()]
    for block in model.blocks:
        outputs.append(block(hidden[-1]))
        hidden.append(hidden[-1] + outputs[-1].detach())
    logits = model.readout(hidden[-1])
    error = output_error(logits.detach(), Y) / len(Y)
    torch.autograd.backward([*outputs, logits], [*(error @ B for B in feedback), error])
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_dfa_at_the_output_without_normalisation_is_the_old_one_to_the_last_bit() -> None:
    given = learner("dfa", expansion=4, depth=3, credit_index="output")
    for block in given.model.blocks:
        block.act = nn.ReLU()
    feedback = list(given.rule.buffers())
    assert len(feedback) == 4 and given.model.blocks[0].up.weight.shape == (4 * 16, 16)
    assert same_bits(gradients(given), old_dfa(given, feedback))


def test_at_the_input_block_l_and_the_embedding_read_the_credits_of_the_states_below() -> None:
    at_output, at_input = learner("dfa", depth=3), learner("dfa", depth=3, credit_index="input")
    feedback = [B.clone() for B in at_input.rule.buffers()]
    assert len(feedback) == 3
    assert all(torch.equal(a, b) for a, b in zip(feedback, at_output.rule.buffers(), strict=False))
    assert same_bits(gradients(at_input), old_dfa(at_input, [feedback[0], *feedback]))
    assert not same_bits(gradients(at_input), gradients(at_output))


def test_a_network_without_a_stream_has_its_credit_at_the_output_alone() -> None:
    with pytest.raises(UsageError, match="credit_index=input needs a residual network"):
        learner("dfa", architecture="mlp", credit_index="input")


@pytest.mark.parametrize("method", ["bp", "fa", "ep"])
@pytest.mark.parametrize("given", [{"credit_normalisation": "rms"}, {"credit_index": "input"}])
def test_a_rule_without_a_local_credit_refuses_what_it_would_ignore(method: str, given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=f"{method} takes no credit_"):
        learner(method, **given)


def test_block_fa_with_the_true_jacobians_is_bp_on_a_linear_network() -> None:
    fa, bp = (learner(method, depth=4) for method in ("fa_block", "bp"))
    for given in (fa, bp):
        given.model.double()
        draw = torch.Generator().manual_seed(1)
        given.model.blocks = nn.ModuleList(nn.Linear(16, 16).double() for _ in range(4))
        for block in given.model.blocks:
            nn.init.normal_(block.weight, std=0.3, generator=draw)
            nn.init.zeros_(block.bias)
    fa.rule.double()
    for layer, block in enumerate(fa.model.blocks[1:]):
        fa.rule.get_buffer(f"B{layer}").copy_(
            (torch.eye(16) + block.weight.detach()).mT
        )  # a B_lᵀ = a ∂h_{l+2}/∂h_{l+1}
    found, expected = gradients(fa), gradients(bp)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-10, atol=1e-13, msg=name)
    fa.rule.B1.mul_(1.5)
    assert not torch.allclose(gradients(fa)["blocks.0.weight"], expected["blocks.0.weight"])


class Slopes(nn.Module):
    """A value whose slope at h_l is a given vector for each sample."""

    def __init__(self, slopes: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.slopes = slopes

    def forward(self, h: torch.Tensor, layer: int, error: torch.Tensor) -> torch.Tensor:
        own = self.slopes[layer].repeat(len(h) // len(self.slopes[layer]), 1)  # V̄ sees several draws of each sample
        return (h * own).sum(1, keepdim=True)


def test_a_value_network_whose_slope_is_bps_gradient_gives_bps_update() -> None:
    cb, bp = learner("credit_bridge", depth=3), learner("bp", depth=3)
    x = X.clone()
    logits, hidden = bp.model(x, return_hidden=True)
    own = torch.autograd.grad(F.cross_entropy(logits, Y, reduction="sum"), list(hidden))
    cb.rule.is_dfa.fill_(False)
    cb.rule.bridge = Slopes(own)
    cb.rule.average = Slopes(own)
    found, expected = gradients(cb), gradients(bp)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-7, msg=name)


def test_the_credit_bridge_is_driven_by_dfa_for_a_fifth_of_the_epochs() -> None:
    cb, dfa = learner("credit_bridge"), learner("dfa")
    phases = []
    for epoch in range(1, 11):
        cb.rule.begin_epoch(epoch, 10)
        found, expected = gradients(cb), gradients(dfa)
        phases.append(all(torch.allclose(found[name], expected[name], rtol=1e-4) for name in expected))
    assert phases == [True, True] + [False] * 8


def test_the_null_of_the_credit_bridge_is_in_the_phase_of_the_rule_it_stands_beside() -> None:
    cb = learner("credit_bridge")
    null = cb.rule.fresh(cb.model, -1)
    for epoch, is_dfa in ((1, True), (10, False)):
        cb.rule.begin_epoch(epoch, 10)
        assert bool(null.is_dfa) == is_dfa


def test_the_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    config = RunConfig("bp", epochs=10, lr=0.2, lr_schedule="cosine", lr_warmup=2)
    expected = [0.2 / 3, 0.4 / 3, *(0.1 * (1 + np.cos(np.pi * k / 8)) for k in range(8))]
    assert [rate(config, epoch) for epoch in range(1, 11)] == pytest.approx(expected)
    constant = RunConfig("bp", epochs=10, lr=0.2)
    assert {rate(constant, epoch) for epoch in range(1, 11)} == {0.2}


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_torchs_own_cosine_agrees_with_the_schedule(schedule: str) -> None:
    config = RunConfig("bp", epochs=7, lr=0.3, lr_schedule=schedule)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
    for epoch in range(1, 8):
        wanted = optimizer.param_groups[0]["lr"] if schedule == "cosine" else 0.3
        assert rate(config, epoch) == pytest.approx(wanted, rel=1e-12)
        optimizer.step()
        theirs.step()


def test_each_epoch_trains_at_the_rate_of_the_schedule() -> None:
    given = learner("bp", epochs=4, lr=0.1, lr_schedule="cosine", optimizer="sgd", weight_decay=0.0)
    rates = []
    for epoch in range(1, 5):
        train_epoch(given, DIGITS, epoch)
        rates.append(given.optimizer.param_groups[0]["lr"])
    assert rates == [rate(given.config, epoch) for epoch in range(1, 5)] and len(set(rates)) == 4


@pytest.mark.parametrize("norm", [1e-3, 0.5])
def test_the_embedding_and_each_block_are_clipped_by_themselves_and_the_read_out_is_not(norm: float) -> None:
    given = learner("bp", depth=3)
    before = gradients(given, penalty=10.0)
    clip(clipped_parts(given.model), norm)
    groups = {"embed.": ["embed."], **{f"blocks.{i}.": [f"blocks.{i}."] for i in range(3)}}
    for prefix in groups:
        names = [name for name in before if name.startswith(prefix)]
        total = math.sqrt(sum(before[name].double().square().sum().item() for name in names))
        scale = min(1.0, norm / (total + 1e-6))
        for name in names:
            found = dict(given.model.named_parameters())[name].grad
            torch.testing.assert_close(found, before[name] * scale, rtol=1e-5, atol=0, msg=name)
    for name in before:
        if name.startswith("out_"):
            assert torch.equal(dict(given.model.named_parameters())[name].grad, before[name])


@pytest.mark.parametrize("learners", [0, 2])
@pytest.mark.parametrize("scale", [1e-30, 1e17, 1e19, 1e30, 1e36])
def test_a_gradient_whose_square_float32_cannot_hold_is_clipped_and_not_wiped_out(scale: float, learners: int) -> None:
    draw = torch.Generator().manual_seed(0)
    given = nn.Parameter(torch.zeros(max(1, learners), 40, 30))
    given.grad = scale * torch.randn(given.shape, generator=draw)
    given.grad[-1] = 1.0 if learners else given.grad[-1]  # another learner's, of an ordinary size
    before = given.grad.double().flatten(1)
    clip([[given]], 1.0, learners)
    lengths = before.norm(dim=1, keepdim=True)
    expected = before * (1 / (lengths + 1e-6)).clamp(max=1.0)
    torch.testing.assert_close(given.grad.double().flatten(1), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clipping_does_not_hide_a_gradient_that_is_not_finite(bad: float) -> None:
    given = nn.Parameter(torch.zeros(4))
    given.grad = torch.tensor([1.0, bad, 2.0, 3.0])
    clip([[given]], 1.0)
    assert given.grad.isnan().any()


def test_clipping_at_infinity_or_far_above_every_norm_gives_the_bits_of_no_clipping() -> None:
    trained = []
    for norm in (math.inf, 1e30):
        given = learner("dfa", clip_norm=norm, penalty=0.1)
        train_epoch(given, DIGITS, 1)
        trained.append({k: v.clone() for k, v in given.model.state_dict().items()})
    assert same_bits(*trained)
    tight = learner("dfa", clip_norm=1e-3, penalty=0.1, optimizer="sgd", lr=0.1)
    loose = learner("dfa", penalty=0.1, optimizer="sgd", lr=0.1)
    for given in (tight, loose):
        train_epoch(given, DIGITS, 1)
    assert not same_bits(tight.model.state_dict(), loose.model.state_dict())


def test_kolen_pollacks_feedback_takes_the_clipped_gradient_of_its_weight() -> None:
    given = learner("kolen_pollack", clip_norm=1e-3, optimizer="sgd", lr=0.1)
    train_epoch(given, DIGITS, 1)
    for follower, leader in given.rule.followers(given.model):
        assert torch.equal(follower.grad, leader.grad)


@pytest.mark.parametrize(
    "method", [n for n in catalogue.names(methods) if catalogue.load(methods, n).Method.can_stack()]
)
def test_a_stack_clips_and_schedules_each_learner_as_it_would_alone(method: str) -> None:
    recipe = {"clip_norm": 0.05, "lr_schedule": "cosine", "epochs": 4, "optimizer": "sgd", "momentum": 0.9, "lr": 0.1}
    if method in LOCAL:
        recipe |= {"credit_normalisation": "rms_eps", "credit_index": "input"}
    try:
        alone, stacked = ([learner(method, seed=s, **recipe) for s in (1, 2)] for _ in range(2))
    except UsageError as refused:
        pytest.skip(str(refused))
    for each in (*alone, *stacked):
        each.model.double(), each.rule.double()
    x, y = X.double().expand(2, -1, -1), Y.expand(2, -1)
    together = Stack(stacked)
    for epoch in (1, 2, 3):
        for each in (*alone, *stacked):
            for group in each.optimizer.param_groups:
                group["lr"] = rate(each.config, epoch)
        together.set_rates()
        together.train_step(x, y, 0.1, 0.05)
        for each in alone:
            each.optimizer.zero_grad()
            each.rule.backward(each.model, X.double(), Y, 0.1)
            clip(clipped_parts(each.model), 0.05)
            each.rule.follow(each.model)
            each.optimizer.step()
    for mine, theirs in zip(alone, stacked, strict=True):
        for name, value in mine.model.state_dict().items():
            torch.testing.assert_close(theirs.model.state_dict()[name], value, rtol=1e-8, atol=1e-9, msg=name)


def test_random_labels_are_drawn_anew_for_each_batch_and_the_same_for_a_run_that_goes_on() -> None:
    def seen(epoch: int, seed: int = 1) -> list[torch.Tensor]:
        given, found = learner("bp", labels="random", batch_size=100, seed=seed), []
        backward = given.rule.backward
        given.rule.backward = lambda model, x, y, penalty: found.append(y.clone()) or backward(model, x, y, penalty)
        train_epoch(given, DIGITS, epoch)
        return found

    first, again, second, other = seen(1), seen(1), seen(2), seen(1, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for others in (second, other):
        assert not any(torch.equal(a, b) for a, b in zip(first, others, strict=True))
    assert not torch.equal(first[0], first[1])
    counts = torch.cat([*first, *second]).bincount(minlength=10).double()
    expected = counts.sum() / 10
    assert ((counts - expected).square() / expected).sum() < 27.9  # χ² of 9 degrees of freedom, p = 0.001


@pytest.mark.parametrize("method", ["bp", "dfa", "fa_block"])
def test_random_labels_without_a_rate_change_nothing(method: str) -> None:
    given = learner(method, labels="random", lr=0.0)
    before = copy.deepcopy(given.model.state_dict())
    train_epoch(given, DIGITS, 1)
    assert same_bits(before, given.model.state_dict())


def test_random_labels_leave_the_order_of_the_data_and_the_test_labels_alone() -> None:
    orders = []
    for labels in ("true", "random"):
        given = learner("bp", labels=labels)
        train_epoch(given, DIGITS, 1)
        orders.append(given.order.get_state())
    assert torch.equal(*orders)
    given = learner("bp", labels="random", epochs=6, lr=0.01)
    for epoch in range(1, 7):
        met = train_epoch(given, DIGITS, epoch)
    assert met.accuracy < 0.2  # against the labels that it was given


def test_a_rule_without_blocks_trains_no_part_of_them() -> None:
    with pytest.raises(UsageError, match="shallow has no blocks, and takes no trainable_blocks"):
        learner("shallow", depth=3, trainable_blocks=2)
