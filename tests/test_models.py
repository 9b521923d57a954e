"""The networks: the published study's shapes and initial weights, states by hand, and each on the embedded data."""

import math
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny
from torch import Tensor, nn

from fa_tracking import audit, catalogue
from fa_tracking.errors import UsageError
from fa_tracking.protocol.batches import Normalisation
from fa_tracking.trainers import data, models
from fa_tracking.trainers.learner import build, learner_of
from fa_tracking.trainers.loop import train_epoch
from fa_tracking.trainers.model import BlockModel
from fa_tracking.trainers.tracked import train

EVERY = catalogue.names(models)
IMAGES = [name for name in EVERY if catalogue.load(models, name).Model.images]
DRAW = torch.Generator().manual_seed(0)
PHOTOS = torch.randn(40, 3, 32, 32, generator=DRAW)


def network(name: str, shape: tuple[int, ...] = (3, 32, 32), seed: int = 1, **size: object) -> BlockModel:
    """As ``fa-track train`` would build it."""
    split = data.Split(torch.zeros(2, *shape), torch.tensor([0, 9]))
    dataset = data.Dataset("given", split, split, Normalisation((0.0,), (1.0,)), 10)
    size = {"depth": depth_of(name, 4), **size}
    return build(tiny("bp", architecture=name, dataset="given", seed=seed, **size), dataset)[0]


def depth_of(name: str, depth: int) -> int:
    return 3 if name.startswith("small_cnn") else depth


def states(model: BlockModel, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    with torch.no_grad():
        logits, hidden = model.eval()(x, return_hidden=True)
    return logits, list(hidden)


def is_torchs_own(weight: Tensor) -> bool:
    """Whether it looks like ``nn.Linear``'s draw, uniform within ±1/√fan_in."""
    bound = weight.shape[1] ** -0.5
    within = weight.abs().max() <= bound and weight.abs().max() > 0.99 * bound
    return bool(within) and weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


@pytest.mark.parametrize("name", ["resmlp", "resmlp_no_ln"])
def test_resmlp_has_the_studys_shapes_and_initial_weights(name: str) -> None:
    model = network(name, width=256)
    assert model.embed[1].weight.shape == (256, 3072) and is_torchs_own(model.embed[1].weight)  # type: ignore[index]
    assert len(model.blocks) == 4 and model.out_head.weight.shape == (10, 256)
    for block in model.blocks:
        assert block.up.weight.shape == block.down.weight.shape == (256, 256)  # no expansion
        assert is_torchs_own(block.up.weight) and isinstance(block.act, nn.GELU)
        assert block.down.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert abs(block.down.weight.mean().item()) < 2e-4 and not block.down.bias.any()
    assert hasattr(model, "out_ln") == (name == "resmlp")


@pytest.mark.parametrize("name", ["resmlp", "resmlp_no_ln"])
def test_resmlp_is_its_equation(name: str) -> None:
    model = network(name, width=16, expansion=3).double()
    logits, hidden = states(model, PHOTOS.double())
    h = PHOTOS.double().flatten(1) @ model.embed[1].weight.mT + model.embed[1].bias  # type: ignore[index]
    torch.testing.assert_close(hidden[0], h)
    for block, found in zip(model.blocks, hidden[1:], strict=True):
        assert block.up.weight.shape == (48, 16)
        z = F.layer_norm(h, (16,)) @ block.up.weight.mT + block.up.bias
        h = h + (z * (1 + torch.erf(z / math.sqrt(2))) / 2) @ block.down.weight.mT
        torch.testing.assert_close(found, h)
    read = F.layer_norm(h, (16,)) if name == "resmlp" else h
    torch.testing.assert_close(logits, read @ model.out_head.weight.mT + model.out_head.bias)


def test_without_the_terminal_norm_the_weights_of_a_seed_are_the_same() -> None:
    whole, bare = network("resmlp").state_dict(), network("resmlp_no_ln").state_dict()
    assert whole.keys() - bare.keys() == {"out_ln.weight", "out_ln.bias"}
    assert all(torch.equal(value, whole[name]) for name, value in bare.items())


@pytest.mark.matrix
@pytest.mark.parametrize("seed", [42, 123, 456])
def test_on_cifar10_the_stream_starts_as_published(seed: int, cifar10: str) -> None:
    photos = data.load("cifar10", cifar10)
    _, hidden = states(network("resmlp", width=256, seed=seed), photos.normalisation(photos.test.inputs[:1024]))
    norms = [h.norm(dim=1).mean().item() for h in hidden]
    assert norms[0] == pytest.approx(8.7, rel=0.02) and min(norms) > 8.6 and max(norms) < 9.1
    for before, after, norm in zip(hidden, hidden[1:], norms, strict=False):
        assert (after - before).norm(dim=1).mean().item() / norm == pytest.approx(0.096, abs=0.007)


def test_student_net_has_one_matrix_a_block_without_bias_and_no_terminal_norm() -> None:
    model = network("student_net", width=128)
    assert len(model.blocks) == 4 and not hasattr(model, "out_ln")
    assert is_torchs_own(model.embed[1].weight)  # type: ignore[index]
    for block in model.blocks:
        assert {name: tuple(p.shape) for name, p in block.named_parameters() if "ln." not in name} == {
            "linear.weight": (128, 128)
        }
        assert block.linear.weight.std().item() == pytest.approx(0.01, rel=0.03)


@pytest.mark.parametrize(
    ("alpha", "phi"),
    [
        (0.0, lambda z: z),
        (0.25, lambda z: 0.75 * z + 0.25 * torch.tanh(z)),
        (0.5, lambda z: (z + torch.tanh(z)) / 2),
        (1.0, torch.tanh),
    ],
)
def test_student_nets_activation_is_linear_at_alpha_0_and_tanh_at_1(alpha: float, phi: object) -> None:
    block = network("student_net", width=16, alpha=alpha).double().blocks[0]
    h = 5 * torch.randn(30, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = block(h)
    torch.testing.assert_close(found, phi(F.layer_norm(h, (16,))) @ block.linear.weight.mT)  # type: ignore[operator]
    normed = F.layer_norm(h, (16,))
    is_linear = torch.allclose(block.act(2 * normed), 2 * block.act(normed))
    assert is_linear == (alpha == 0)


def test_small_cnn_has_the_layers_that_the_study_lists() -> None:
    model = network("small_cnn", width=32)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert list(shapes.values()) == [
        *((32, 3, 3, 3), (32,)),
        *((64, 32, 3, 3), (64,)),
        *((128, 64, 3, 3), (128,)),
        *((256, 8192), (256,)),
        *((10, 256), (10,)),
    ]
    _, hidden = states(model, PHOTOS[:2])
    assert [tuple(h.shape[1:]) for h in hidden] == [(32, 32, 32), (64, 16, 16), (128, 8, 8), (256,)]
    assert all(h.min() == 0 and h.max() > 0 for h in hidden)  # after the activation


@pytest.mark.parametrize("name", ["small_cnn", "small_cnn_bn"])
def test_small_cnns_states_are_those_listed(name: str) -> None:
    model = network(name, width=4)
    first, second, third = (m for m in model.modules() if isinstance(m, nn.Conv2d))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == (3 if name == "small_cnn_bn" else 0)
    for place, norm in enumerate(norms):  # as after some training
        norm.running_mean.fill_(0.1 * place)
        norm.running_var.fill_(0.5)
        nn.init.uniform_(norm.bias)
    _, hidden = states(model, PHOTOS[:5])

    def convolved(h: Tensor, layer: nn.Conv2d, place: int) -> Tensor:
        assert (layer.bias is None) == bool(norms)
        h = F.conv2d(h, layer.weight, layer.bias, padding=1)
        if norms:
            n = norms[place]
            h = F.batch_norm(h, n.running_mean, n.running_var, n.weight, n.bias)
        return h.relu()

    expected = [convolved(PHOTOS[:5], first, 0)]
    expected.append(F.max_pool2d(convolved(expected[-1], second, 1), 2))
    expected.append(F.max_pool2d(convolved(expected[-1], third, 2), 2))
    linear = model.blocks[2][1]  # type: ignore[index]
    expected.append((expected[-1].flatten(1) @ linear.weight.mT + linear.bias).relu())
    for found, wanted in zip(hidden, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_vit_mini_reads_its_class_token_through_a_terminal_norm() -> None:
    model = network("vit_mini", width=128)
    logits, hidden = states(model, PHOTOS[:3])
    assert [tuple(h.shape) for h in hidden] == [(3, 1 + 8 * 8, 128)] * 5 and model.blocks[0].up.weight.shape[0] == 512
    torch.testing.assert_close(logits, model.out_head(F.layer_norm(hidden[-1][:, 0], (128,))))
    assert network("vit_mini", width=128, expansion=2).blocks[0].up.weight.shape[0] == 256


def test_the_resnet_has_batchnorm_and_no_layernorm() -> None:
    kinds = {type(m) for m in network("preact_resnet").modules()}
    assert nn.BatchNorm2d in kinds and nn.LayerNorm not in kinds


def test_networks_that_stay_as_they_were_keep_the_parameters_that_checkpoints_name() -> None:
    resnet, vit = (dict(network(name).named_parameters()) for name in ("preact_resnet", "vit_mini"))
    assert {"embed.weight", "embed.bias", "blocks.0.branch.2.weight", "out_head.4.weight"} < resnet.keys()
    assert {"embed.class_token", "embed.positions", "embed.patches.weight", "blocks.0.qkv.weight"} < vit.keys()


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("dataset", data.built_in())
def test_a_row_is_read_as_the_image_that_it_stands_for(name: str, dataset: str) -> None:
    given = data.load(dataset)
    rows = given.normalisation(given.test.inputs[:6])
    model, _ = build(tiny("bp", architecture=name, dataset=dataset, depth=depth_of(name, 2)), given)
    assert rows.ndim == 2 and model.config["input_shape"] == list(data.load(dataset).image_shape)
    pictures = torch.stack([row.reshape(data.load(dataset).image_shape) for row in rows])
    assert torch.equal(states(model, rows)[0], states(model, pictures)[0])


def test_the_digits_of_a_pair_stand_one_above_the_other() -> None:
    pair, digits = data.load("digit_pairs"), data.load("digits")
    assert pair.image_shape == (1, 16, 8) and digits.image_shape == (1, 8, 8)
    image = pair.test.inputs[0].reshape(pair.image_shape)
    for half in (image[:, :8], image[:, 8:]):
        assert (digits.test.inputs.reshape(-1, *digits.image_shape) == half).flatten(1).all(1).any()


def test_a_data_set_of_another_name_has_the_shape_that_it_is_stored_in() -> None:
    split = data.Split(torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]))
    assert data.Dataset("photos", split, split, Normalisation((0.0,), (1.0,)), 2).image_shape == (3, 4, 4)


@pytest.mark.parametrize("dataset", data.built_in())
@pytest.mark.parametrize("name", EVERY)
def test_every_network_trains_on_the_embedded_data(name: str, dataset: str) -> None:
    given = data.load(dataset)
    few = data.Dataset(
        dataset,
        data.Split(given.train.inputs[:512], given.train.labels[:512]),
        given.test,
        given.normalisation,
        given.classes,
    )
    for method in ("bp", "dfa"):
        learner = learner_of(tiny(method, architecture=name, dataset=dataset, depth=depth_of(name, 2)), few)
        before = {key: p.detach().clone() for key, p in learner.model.named_parameters()}
        assert math.isfinite(train_epoch(learner, few, 1).loss)
        assert all(p.isfinite().all() and not torch.equal(p, before[n]) for n, p in learner.model.named_parameters())


@pytest.fixture(scope="module")
def audited(workspace: Path) -> dict[str, object]:
    """One epoch and an audit of each network, on the embedded data in turn; with FA_TRACK_EVERY on each of them."""
    uri, every = f"sqlite:///{workspace / 'mlflow.db'}", data.built_in()
    for place, name in enumerate(EVERY):
        for dataset in every if os.environ.get("FA_TRACK_EVERY") else [every[place % 3]]:
            size = {"depth": depth_of(name, 2), "width": 8, "batch_size": 512, "epochs": 1}
            train(tiny("dfa", architecture=name, dataset=dataset, **size), "networks", uri)
    return {run.params["architecture"]: run for run in audit("networks", uri).runs}


@pytest.mark.matrix
@pytest.mark.parametrize("name", EVERY)
def test_every_network_is_audited_from_its_checkpoint_on_the_embedded_data(
    name: str, audited: dict[str, object]
) -> None:
    run = audited[name]
    assert run.problem is None and run.epoch == 1  # type: ignore[attr-defined]
    assert math.isfinite(run.report.max_per_block_growth)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "shape", "size", "says"),
    [
        ("small_cnn", (3, 32, 32), {"depth": 4}, "its depth is 3, not 4"),
        ("small_cnn_bn", (1, 3, 8), {}, "at least 4 × 4 pixels, not 3 × 8"),
        ("small_cnn", (128,), {}, r"it takes images \(C, H, W\), not inputs of shape \(128,\)"),
        ("preact_resnet", (64,), {}, r"it takes images \(C, H, W\), not inputs of shape \(64,\)"),
        ("vit_mini", (64,), {}, r"it takes images \(C, H, W\), not inputs of shape \(64,\)"),
        ("vit_mini", (1, 8, 6), {}, "multiples of 4, not 8 × 6"),
        ("vit_mini", (1, 8, 8), {"width": 100}, "a width of 100 cannot be divided among 3 heads"),
        ("resmlp", (8,), {"alpha": 0.5}, "resmlp takes no alpha"),
        ("student_net", (8,), {"expansion": 2}, "student_net takes no expansion"),
        ("small_cnn", (3, 32, 32), {"expansion": 2}, "small_cnn takes no expansion"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    name: str, shape: tuple[int, ...], size: dict[str, object], says: str
) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        network(name, shape, **size)
    assert "\n" not in str(refused.value)
