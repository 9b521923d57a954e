"""Learning rules and the loop: gradients against the formula written out, frozen blocks, determinism."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny
from mlflow import MlflowClient
from torch import nn

from fa_tracking import catalogue, diagnose
from fa_tracking.errors import UsageError
from fa_tracking.protocol.alignment import alignment
from fa_tracking.protocol.batches import Normalisation
from fa_tracking.protocol.probe import capture
from fa_tracking.trainers import data, methods, models
from fa_tracking.trainers.layers import normed_linear
from fa_tracking.trainers.learner import build
from fa_tracking.trainers.loop import evaluate, evaluation_inputs
from fa_tracking.trainers.method import LearningRule
from fa_tracking.trainers.model import BlockModel
from fa_tracking.trainers.running import NULL_SEEDS
from fa_tracking.trainers.tracked import train

X = torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 10, (32,), generator=torch.Generator().manual_seed(1))


NO_STREAM = ("mlp", "small_cnn", "small_cnn_bn")
NOT_CLAIMED = {"shallow": (*NO_STREAM, "vit_mini"), "ep_credit": (*NO_STREAM, "vit_mini"), "fa_block": ("vit_mini",)}


def built(method: str, architecture: str, frozen: bool = False) -> tuple[BlockModel, LearningRule]:
    """A small model and its rule; skips where the method does not claim the architecture."""
    images = data.Split(X.byte(), Y)
    dataset = data.Dataset("images", images, images, Normalisation((0.0,), (1.0,)), 10)
    depth = 3 if architecture.startswith("small_cnn") else 2
    try:
        return build(tiny(method, architecture=architecture, depth=depth, frozen_blocks=frozen), dataset)
    except UsageError as refused:
        assert architecture in NOT_CLAIMED.get(method, ())
        pytest.skip(str(refused))


METHODS, MODELS = catalogue.names(methods), catalogue.names(models)


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_finite_gradients_on_every_model(method: str, architecture: str) -> None:
    model, rule = built(method, architecture)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([*model.parameters(), *rule.parameters()], lr=1e4)  # large: some gradients are tiny
    loss, logits = rule.backward(model, X, Y)  # no penalty, which would move the blocks by itself
    assert loss.isfinite() and logits.shape == (32, 10)
    for name, p in (*model.named_parameters(), *rule.named_parameters()):
        if not p.requires_grad:  # Credit Bridge's average
            continue
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.any() or name.endswith("qkv.bias"), name  # a key's bias cancels in the softmax
    alone = [p.grad.clone() for p in model.blocks.parameters() if p.grad is not None]
    optimizer.step()
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    model.load_state_dict({**model.state_dict(), **before})
    optimizer.zero_grad()
    rule.backward(model, X, Y, penalty=1e-2)
    penalised = [p.grad for p in model.blocks.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in penalised)
    assert not alone or not any(torch.equal(g, h) for g, h in zip(alone[-1:], penalised[-1:], strict=True))


@pytest.mark.parametrize("architecture", ["small_cnn_bn", "preact_resnet"])
@pytest.mark.parametrize("method", METHODS)
def test_batchnorm_counts_every_batch_once_and_only_states_of_the_network(method: str, architecture: str) -> None:
    (model, rule), (plain, bp) = built(method, architecture), built("bp", architecture)
    before = dict(model.named_buffers())
    if len(model.blocks) < len(plain.blocks):
        pytest.skip("shallow has no blocks to compare")
    rule.backward(model, X, Y, penalty=1e-2)
    bp.backward(plain, X, Y, penalty=1e-2)
    assert before
    for name, buffer in plain.named_buffers():
        assert torch.allclose(dict(model.named_buffers())[name], buffer, rtol=1e-5), name


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_a_local_credit_has_the_shape_of_the_states_and_can_be_measured(method: str, architecture: str) -> None:
    model, rule = built(method, architecture)
    captures = [capture(model, X[:8], Y[:8]), capture(model, X[8:20], Y[8:20])]
    if not rule.has_credit:
        with pytest.raises(NotImplementedError):
            rule.credit(model, captures[0])
        return
    null = [rule.fresh(model, seed).credit for seed in range(2)] if rule.has_null else []
    found = alignment(model, captures, rule.credit, null, 0.0, rule.null_batches)
    assert found.missing == 0
    has_credit = [a is not None for a in rule.credit(model, captures[0])]
    assert any(has_credit) and (all(has_credit) or method == "fa_block")  # whose credit is the gradient at the ends
    assert [g is not None and -1 <= g <= 1 for g in found.gamma] == has_credit
    assert [m is not None for m in found.null_mean] == [rule.has_null and has for has in has_credit]


@pytest.mark.parametrize("architecture", ["small_cnn_bn", "preact_resnet"])
@pytest.mark.parametrize("method", METHODS)
def test_a_measured_credit_is_that_of_evaluation_mode_in_whichever_mode_the_model_is(
    method: str, architecture: str
) -> None:
    model, rule = built(method, architecture)
    rule.backward(model, X, Y)  # the running statistics are no longer those of any batch
    if not rule.has_credit:
        return
    if method == "credit_bridge":
        rule.begin_epoch(2, 2)  # past DFA's epochs
    found = capture(model, X[:8], Y[:8])
    credits = []
    for training in (False, True):  # a checkpoint's model is built in training mode
        model.train(training)
        credits.append([a for a in rule.credit(model, found) if a is not None])
        assert model.training is training
    for one, other in zip(*credits, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_frozen_blocks_get_no_gradient_on_any_model(method: str, architecture: str) -> None:
    model, rule = built(method, architecture, frozen=True)
    rule.backward(model, X, Y, penalty=1e-2)
    assert all(p.grad is None for p in model.blocks.parameters())
    learns = not architecture.startswith("small_cnn")  # the study counts its first convolution among the blocks
    assert all((p.grad is not None) is learns for p in model.embed.parameters())


def normal_below(z: np.ndarray) -> np.ndarray:
    """Φ(z), the share of a standard normal below z."""
    return (1 + np.vectorize(math.erf)(z / math.sqrt(2))) / 2


def gelu(z: np.ndarray) -> np.ndarray:
    return z * normal_below(z)


def gelu_slope(z: np.ndarray) -> np.ndarray:
    return normal_below(z) + z * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def direct_by_hand(
    model, B: list[np.ndarray], x: np.ndarray, y: np.ndarray, penalty: float, target: bool = False
) -> dict[str, np.ndarray]:
    """DFA on ResMLP in NumPy: every product written out, float64."""
    w = {k: v.detach().double().numpy() for k, v in model.named_parameters()}
    batch, depth = len(y), len(model.blocks)

    def layer_norm(h: np.ndarray) -> np.ndarray:
        return (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)

    h = [x @ w["embed.1.weight"].T + w["embed.1.bias"]]
    kept = []
    for i in range(depth):
        p = f"blocks.{i}."
        hat = layer_norm(h[-1])
        z = (hat * w[p + "ln.weight"] + w[p + "ln.bias"]) @ w[p + "up.weight"].T + w[p + "up.bias"]
        f = gelu(z) @ w[p + "down.weight"].T + w[p + "down.bias"]
        kept.append((hat, z, f))
        h.append(h[-1] + f)
    hat = layer_norm(h[-1])
    out = hat * w["out_ln.weight"] + w["out_ln.bias"]
    logits = out @ w["out_head.weight"].T + w["out_head.bias"]
    p = np.exp(logits - logits.max(1, keepdims=True))
    e = p / p.sum(1, keepdims=True) - np.eye(logits.shape[1])[y]
    sent = -np.eye(logits.shape[1])[y] if target else e  # DRTP sends the target, DFA the error
    d_out = e @ w["out_head.weight"] / batch
    grads = {
        "out_head.weight": e.T @ out / batch,
        "out_head.bias": e.mean(0),
        "out_ln.weight": (d_out * hat).sum(0),
        "out_ln.bias": d_out.sum(0),
        "embed.1.weight": (sent @ B[0] / batch).T @ x,
        "embed.1.bias": (sent @ B[0] / batch).sum(0),
    }
    for i, (hat, z, f) in enumerate(kept):
        q = f"blocks.{i}."
        a = (sent @ B[i + 1] + 2 * penalty * f) / batch
        dz = (a @ w[q + "down.weight"]) * gelu_slope(z)
        d_norm = dz @ w[q + "up.weight"]
        normed = hat * w[q + "ln.weight"] + w[q + "ln.bias"]
        grads |= {
            q + "down.weight": a.T @ gelu(z),
            q + "down.bias": a.sum(0),
            q + "up.weight": dz.T @ normed,
            q + "up.bias": dz.sum(0),
            q + "ln.weight": (d_norm * hat).sum(0),
            q + "ln.bias": d_norm.sum(0),
        }
    return grads


@pytest.mark.parametrize("penalty", [0.0, 0.3])
@pytest.mark.parametrize("method", ["dfa", "drtp"])
def test_a_direct_rule_is_its_formula(method: str, penalty: float) -> None:
    dataset = data.load("digits")
    model, rule = build(tiny(method, depth=3), dataset)
    x, y = dataset.normalisation(dataset.train.inputs[:20]), dataset.train.labels[:20]
    rule.backward(model, x, y, penalty)
    feedback = [B.double().numpy() for B in rule.buffers()]
    expected = direct_by_hand(model, feedback, x.double().numpy(), y.numpy(), penalty, method == "drtp")
    assert expected.keys() == dict(model.named_parameters()).keys()
    for name, p in model.named_parameters():
        assert p.grad is not None
        np.testing.assert_allclose(p.grad.numpy(), expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_feedback_has_the_stated_spread_and_belongs_to_the_seed() -> None:
    dataset = data.load("digits")
    model, rule = build(tiny("dfa", width=256), dataset)
    assert rule.B0.std().item() == pytest.approx(10**-0.5, rel=0.05)
    assert torch.equal(rule.B0, rule.fresh(model, 42).B0)
    assert not torch.equal(rule.B0, rule.fresh(model, 0).B0)


@pytest.mark.parametrize("seed", [0, 3, 9])
def test_the_null_never_holds_the_training_feedback(seed: int) -> None:
    model, rule = build(tiny("dfa", seed=seed), data.load("digits"))
    assert not any(torch.equal(rule.B0, rule.fresh(model, draw).B0) for draw in NULL_SEEDS)
    assert len(NULL_SEEDS) == 10


@pytest.mark.sample(4)
@pytest.mark.parametrize("method", METHODS)
def test_frozen_blocks_do_not_move_by_one_bit(method: str, workspace: Path, uri: str) -> None:
    from safetensors.torch import load_file

    config = tiny(method, frozen_blocks=True, penalty=0.1)
    before, _ = build(config, data.load("digits"))
    run_id = train(config, "frozen", uri)
    folder = MlflowClient(uri).download_artifacts(run_id, "checkpoints/epoch_0002")
    after = load_file(Path(folder) / "model.safetensors")
    for name, value in before.state_dict().items():
        assert torch.equal(value, after[name]) == name.startswith("blocks."), name


@pytest.mark.sample(4)
@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_metrics_to_the_last_bit(method: str, workspace: Path, uri: str) -> None:
    client = MlflowClient(uri)
    runs = [client.get_run(train(tiny(method), "same", uri)).data.metrics for _ in range(2)]
    first, second = ({k: v for k, v in m.items() if not k.startswith("time/")} for m in runs)
    assert first == second


def test_the_accuracy_of_a_diverged_network_is_not_a_number() -> None:
    dataset = data.load("digits")
    model, _ = build(tiny("bp"), dataset)
    assert 0 <= evaluate(model, dataset) <= 1
    with torch.no_grad():
        model.out_head.weight.fill_(math.nan)
    assert math.isnan(evaluate(model, dataset))


@pytest.mark.parametrize("name", ["digits", "digit_pairs"])
@pytest.mark.parametrize("seed", [42, 123, 456])
def test_a_random_initialisation_is_trustworthy(name: str, seed: int) -> None:
    dataset = data.load(name)
    model, _ = build(tiny("bp", dataset=name, seed=seed, width=64, depth=4), dataset)
    report = diagnose(model, evaluation_inputs(dataset), evaluate(model, dataset))
    assert report.residual_norms[-1] == pytest.approx(report.residual_norms[0], rel=0.05)
    assert report.verdict == "trustworthy"


def test_a_learned_network_beats_its_frozen_control_only_with_nonlinear_blocks(workspace: Path, uri: str) -> None:
    client = MlflowClient(uri)
    changes = {"dataset": "digit_pairs", "width": 32, "epochs": 4, "lr": 3e-3}
    runs = {frozen: train(tiny("bp", frozen_blocks=frozen, **changes), "pairs", uri) for frozen in (False, True)}
    accuracy = {frozen: client.get_run(run_id).data.metrics["accuracy/test"] for frozen, run_id in runs.items()}
    assert accuracy[False] > accuracy[True] + 0.2


@pytest.mark.parametrize("shape", [(16, 8), (4, 3, 8)])
def test_the_short_backward_pass_after_a_layernorm_is_autograds(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm, linear = nn.LayerNorm(8).double(), nn.Linear(8, 5).double()
    for p in norm.parameters():
        nn.init.normal_(p)
    h, error = torch.randn(shape, dtype=torch.float64), torch.randn((*shape[:-1], 5), dtype=torch.float64)
    parameters = [*norm.parameters(), *linear.parameters()]
    expected = torch.autograd.grad(linear(norm(h)), parameters, error)
    short = normed_linear(h, norm, linear)
    assert type(short.grad_fn).__name__ == "_NormedLinearBackward"
    for found, wanted in zip(torch.autograd.grad(short, parameters, error), expected, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-12)
