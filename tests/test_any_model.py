"""diagnose on models that are not ours, against a naive twin in float64, and without a trace left in them."""

import copy
import hashlib
import random
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torchvision import models as vision

from fa_tracking import diagnose

Batches = list[tuple[Any, Tensor]]


def images(size: int = 32, batch: int = 3) -> Batches:
    draw = torch.Generator().manual_seed(0)
    return [
        (torch.randn(batch, 3, size, size, generator=draw), torch.randint(0, 10, (batch,), generator=draw))
        for _ in range(8)
    ]


def vectors(batch: int = 5) -> Batches:
    draw = torch.Generator().manual_seed(1)
    return [(torch.randn(batch, 6, generator=draw), torch.randint(0, 4, (batch,), generator=draw)) for _ in range(8)]


class Block(nn.Module):
    """The next state, by an operation in place."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.norm, self.up = nn.BatchNorm1d(width), nn.Linear(width, width)
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        self.calls += 1
        out = self.up(torch.relu_(self.norm(h)))
        out += h
        return out


class PreActivated(Block):
    """Changes its input, the state, in place."""

    def forward(self, h: Tensor) -> Tensor:
        h = torch.relu_(h)
        return h + self.up(h)


class Branch(Block):
    """The residual branch."""

    def forward(self, h: Tensor) -> Tensor:
        return torch.tanh(self.up(self.norm(h)))


class Net(nn.Module):
    """A residual stack of ``block``; ``step`` says how the stream is carried on."""

    def __init__(self, block: type[nn.Module], step: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.stages = nn.ModuleList(block() for _ in range(3))
        self.drop, self.out_norm, self.out = nn.Dropout(0.5), nn.LayerNorm(8), nn.Linear(8, 4)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for stage in self.stages:
            h = self.step(stage, h)
        return self.out(self.drop(self.out_norm(h)))


def checkpointed(reentrant: bool) -> Net:
    return Net(Block, lambda b, h: torch.utils.checkpoint.checkpoint(b, h, use_reentrant=reentrant))


class Tokens(nn.Module):
    """Word indices and a scale per sample, a torch TransformerEncoder, tied embedding, the mean over tokens."""

    def __init__(self, batch_first: bool, pool: str = "mean") -> None:
        super().__init__()
        self.batch_first, self.pool = batch_first, pool
        self.words, self.out = nn.Embedding(11, 8), nn.Linear(8, 11)
        self.out.weight = self.words.weight
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, words: Tensor, scale: Tensor) -> Any:
        h = self.words(words) * scale[:, None, None]
        h = h if self.batch_first else h.transpose(0, 1)
        h = self.encoder(h)
        h = h if self.batch_first else h.transpose(0, 1)
        return SimpleNamespace(logits=self.out(h.mean(dim=1) if self.pool == "mean" else h[:, 0]))


def sentences(as_mapping: bool, batch: int = 5) -> Batches:
    draw = torch.Generator().manual_seed(2)
    batches: Batches = []
    for _ in range(8):
        words, labels = torch.randint(0, 11, (batch, 7), generator=draw), torch.randint(0, 11, (batch,), generator=draw)
        scale = 1 + torch.rand(batch, generator=draw)
        batches.append(({"words": words, "scale": scale} if as_mapping else (words, scale), labels))
    return batches


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(6, 8),
        nn.ReLU(inplace=True),
        nn.Linear(8, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Linear(8, 4),
    )


class Aliased(nn.Module):
    """Layers that are attributes and, under other names, a chain."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.net = nn.Sequential(self.fc1, nn.ReLU(), self.fc2, nn.ReLU(), self.fc3)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Masked(nn.Module):
    """Word indices, and a mask of floating-point numbers that is only compared."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(11, 8), nn.Linear(8, 11)
        self.stages = nn.ModuleList(PerToken() for _ in range(3))

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        h = self.words(words).masked_fill((mask == 0)[:, None, None], 0.0)
        for stage in self.stages:
            h = stage(h)
        return self.out(h.mean(dim=1))


class PerToken(Block):
    def forward(self, h: Tensor) -> Tensor:
        return h + torch.tanh(self.up(h))


def vit() -> nn.Module:
    """vit_b_16 of an eighth of its width.

    torchvision begins with a head of zeros, behind which every gradient is zero.
    """
    size = {"num_layers": 12, "num_heads": 12, "hidden_dim": 96, "mlp_dim": 384}
    model = vision.VisionTransformer(image_size=32, patch_size=16, num_classes=10, **size)
    nn.init.normal_(model.heads.head.weight)
    return model


def frozen(model: nn.Module) -> nn.Module:
    return model.requires_grad_(False)


RESNET = [("layer1.0", "in"), *((f"layer{i}.{j}", "out") for i in range(1, 5) for j in range(2))]
VIT = [("encoder.layers.encoder_layer_0", "in"), *((f"encoder.layers.encoder_layer_{i}", "out") for i in range(12))]
MOBILE = [("features.1", "in"), *((f"features.{i}", "out") for i in range(1, 12))]
STAGES = [("stages.0", "in"), *((f"stages.{i}", "out") for i in range(3))]
BRANCHES = [*((f"stages.{i}", "in") for i in range(3)), ("out_norm", "in")]
LAYERS = [("encoder.layers.0", "in"), ("encoder.layers.0", "out"), ("encoder.layers.1", "out")]
CHAIN_ALIASED = [("fc2", "in"), ("fc3", "in")]
CHAIN = [("3", "in"), ("4", "in")]

MODELS: dict[str, tuple[Callable[[], nn.Module], Batches, list[tuple[str, str]], str]] = {
    "resnet18": (lambda: vision.resnet18(num_classes=10), images(), RESNET, "flat"),
    "vit_b_16": (vit, images(batch=1), VIT, "class"),
    "mobilenet_v3": (lambda: vision.mobilenet_v3_small(num_classes=10), images(), MOBILE, "flat"),
    "resnet18 in bf16": (lambda: vision.resnet18(num_classes=10).bfloat16(), images(), RESNET, "flat"),
    "blocks in place": (lambda: Net(Block, lambda b, h: b(h)), vectors(), STAGES, "flat"),
    "state changed in place": (lambda: Net(PreActivated, lambda b, h: b(h)), vectors(), STAGES, "flat"),
    "branches": (lambda: Net(Branch, lambda b, h: h + b(h)), vectors(), BRANCHES, "flat"),
    "modules under two names": (Aliased, vectors(), CHAIN_ALIASED, "flat"),
    "an input that begins no graph": (Masked, sentences(False), STAGES, "flat"),
    "frozen": (lambda: frozen(Net(Branch, lambda b, h: h + b(h))), vectors(), BRANCHES, "flat"),
    "checkpointed": (lambda: checkpointed(False), vectors(), STAGES, "flat"),
    "sequential": (mlp, vectors(), CHAIN, "flat"),
    "two inputs, mean of tokens": (lambda: Tokens(True), sentences(False), LAYERS, "flat"),
    "two inputs, frozen": (lambda: frozen(Tokens(True)), sentences(True), LAYERS, "flat"),
    "mapping, tokens first, class token": (lambda: Tokens(False, "first"), sentences(True), LAYERS, "class"),
}


@pytest.fixture(params=MODELS, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Batches, list[tuple[str, str]], str]:
    torch.manual_seed(0)
    build, batches, places, tokens = MODELS[request.param]
    return build(), batches, places, tokens


def twin(model: nn.Module, batches: Batches, places: list[tuple[str, str]], tokens: str) -> dict[str, Any]:
    """The protocol in float64: for every layer and batch a forward and a backward pass of their own."""
    model = copy.deepcopy(model).double().eval().requires_grad_(True)

    def forward(inputs: Any) -> Tensor:
        wide = lambda v: v.double() if v.is_floating_point() else v  # noqa: E731
        if isinstance(inputs, dict):
            out = model(**{k: wide(v) for k, v in inputs.items()})
        else:
            out = model(*map(wide, inputs)) if isinstance(inputs, tuple) else model(wide(inputs))
        return getattr(out, "logits", out)

    def state(inputs: Any, name: str, side: str) -> tuple[Tensor, Tensor]:
        """Logits and the tensor at one place, which the rest of the network takes a copy of."""
        seen = []

        def keep(_: nn.Module, args: Any, out: Any = None) -> Any:
            seen.append(args[0] if side == "in" else out)
            return (seen[-1].clone(), *args[1:]) if side == "in" else seen[-1].clone()

        module = model.get_submodule(name)
        handle = module.register_forward_pre_hook(keep) if side == "in" else module.register_forward_hook(keep)
        logits = forward(inputs)
        handle.remove()
        return logits, seen[0]

    def vector(h: Tensor, n: int) -> np.ndarray:
        h = h.transpose(0, 1) if h.ndim == 3 and len(h) != n else h
        return (h[:, 0] if tokens == "class" else h).reshape(n, -1).detach().numpy()

    h_norms: list[list[float]] = [[] for _ in places]
    g_norms: list[list[float]] = [[] for _ in places]
    gains, means, middle = [], [], (len(places) - 1) // 2
    for inputs, labels in batches:
        n = len(labels)
        for layer, (name, side) in enumerate(places):
            logits, h = state(inputs, name, side)
            h_norms[layer] += [float(np.sqrt((row**2).sum())) for row in vector(h, n)]
            loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
            (g,) = torch.autograd.grad(loss, h)
            rows = vector(g, n)
            norms = [float(np.sqrt((row**2).sum())) / 128 for row in rows]
            g_norms[layer] += norms
            if layer == middle:
                means.append(rows.mean(axis=0))
            if layer == len(places) - 1:
                error = torch.softmax(logits, 1) - nn.functional.one_hot(labels, logits.shape[1])
                gains += [v / float(e) for v, e in zip(norms, error.detach().norm(dim=1), strict=True)]
    cosines = [float(a @ b / np.sqrt((a @ a) * (b @ b))) for i, a in enumerate(means) for b in means[:i]]
    return {
        "residual_norms": [np.median(v) for v in h_norms],
        "bp_grad_norms": [np.median(v) for v in g_norms],
        "grad_gain": np.median(gains),
        "cross_batch_stability": np.mean(cosines),
    }


@pytest.mark.sample(4)
def test_every_quantity_agrees_with_the_naive_twin(case: tuple[nn.Module, Batches, list[tuple[str, str]], str]) -> None:
    model, batches, places, tokens = case
    report, expected = diagnose(model, batches), twin(model, batches, places, tokens)
    assert report.residual_norms == pytest.approx(expected["residual_norms"], rel=1e-5)
    assert report.bp_grad_norms == pytest.approx(expected["bp_grad_norms"], rel=1e-5)
    assert report.grad_gain == pytest.approx(expected["grad_gain"], rel=1e-5)
    assert report.cross_batch_stability == pytest.approx(expected["cross_batch_stability"], abs=1e-4)


def snapshot(model: nn.Module) -> list[Any]:
    tensors = [*model.parameters(), *model.buffers()]
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        [hashlib.sha256(t.detach().reshape(-1).view(torch.uint8).numpy().tobytes()).digest() for t in tensors],
        [(id(t), t.dtype, t.requires_grad) for t in tensors],
        [None if p.grad is None else float(p.grad.double().sum()) for p in model.parameters()],
        [(m.training, *(list(getattr(m, name).items()) for name in hooks)) for m in model.modules()],
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # type: ignore[index]
    ]


@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_bit_for_bit_what_it_was(name: str) -> None:
    build, batches, _, _ = MODELS[name]
    model = build().train()
    next(iter(model.children())).eval()
    seen = []
    model.register_forward_hook(lambda *_: None)
    next(iter(model.children())).register_full_backward_hook(lambda *_: seen.append(1))
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.ones_like(p)
    before = snapshot(model)
    report = diagnose(model, batches)
    assert snapshot(model) == before
    assert not seen
    assert any("backward hooks were set aside" in remark for remark in report.remarks)


@contextmanager
def autocast() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16):
        yield


def reentrant(model: nn.Module) -> nn.Module:
    model.step = lambda b, h: torch.utils.checkpoint.checkpoint(b, h, use_reentrant=True)
    return model


@pytest.mark.parametrize(
    "around",
    [pytest.param(torch.compile, marks=pytest.mark.compile), nn.DataParallel, reentrant, nn.Module.train],
)
@pytest.mark.parametrize("inside", [nullcontext, autocast, torch.no_grad])
def test_what_stands_around_a_network_changes_no_number(
    around: Callable[[nn.Module], nn.Module], inside: Callable[[], AbstractContextManager[None]]
) -> None:
    torch.manual_seed(0)
    model = Net(Block, lambda b, h: b(h))
    expected = diagnose(copy.deepcopy(model), vectors())
    with inside():
        assert diagnose(around(model), vectors()) == expected


class Feedback(torch.autograd.Function):
    """A linear map whose backward pass goes through a matrix of its own: feedback alignment as it is often written."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] @ torch.ones(8, 8), None


class Aligned(Block):
    def forward(self, h: Tensor) -> Tensor:
        return h + Feedback.apply(h, self.up.weight)


def test_a_backward_pass_that_is_not_backpropagation_is_said() -> None:
    report = diagnose(Net(Aligned, lambda b, h: b(h)), vectors())
    assert report.verdict == "inconclusive: the reference gradient is not BP's"
    assert any("the backward pass runs the model's own Feedback" in remark for remark in report.remarks)
    assert report.bp_grad_norms == (None,) * 4 and report.grad_gain is report.cross_batch_stability is None
    plain = diagnose(Net(Block, lambda b, h: b(h)), vectors())
    assert plain.reference == "checked" and not any("own" in remark for remark in plain.remarks)


def test_what_a_reader_must_know_of_the_numbers_is_said() -> None:
    no_head = Tokens(True)
    no_head.out = nn.Linear(8, 11)
    nn.init.zeros_(no_head.out.weight)
    remarks = diagnose(no_head, sentences(True)).remarks
    assert "the gradient is exactly zero at every state: nothing flows back through the read-out" in remarks
    assert any(remark.endswith("zero everywhere, does not tell where the logits come from") for remark in remarks)
    assert "8 batches of 5 samples, the thresholds are for 10 of 128: (c) depends on the size" in remarks


def test_layers_are_taken_by_name_and_counted_when_they_run_twice() -> None:
    torch.manual_seed(0)
    model = Net(Block, lambda b, h: b(h))
    named = diagnose(model, vectors(), layers=["stem", "stages.0", "stages.1", "stages.2"])
    assert named.residual_norms == diagnose(model, vectors()).residual_norms
    in_order = "h_0 … h_3 = outputs of stem, stages.0, stages.1, stages.2"
    assert named.remarks[0] == in_order
    assert diagnose(model, vectors(), layers=["stages.2", "stages.0", "stages.1", "stem"]).remarks[0] == in_order
    model.stages[1] = model.stages[0]
    twice = diagnose(model, vectors(), layers=["stem", "stages.0", "stages.2"])
    assert len(twice.residual_norms) == 4
    assert twice.remarks[0] == "h_0 … h_3 = outputs of stem, stages.0, stages.0, stages.2"


def nested() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 8), nn.ReLU()))


def test_containers_in_a_container_are_blocks() -> None:
    chain = nn.Sequential(nn.Sequential(nn.Linear(6, 8), nn.Sequential(nn.Linear(8, 8))), nested(), nn.Linear(8, 4))
    for model, said in (
        (chain, "h_0 = input of 0, h_1 … h_2 = outputs of 0, 1"),
        (
            Net(nested, lambda b, h: b(h)),
            "h_0 = input of stages.0, h_1 … h_3 = outputs of stages.0, stages.1, stages.2",
        ),
        (Net(nested, lambda b, h: h + b(h)), "h_0 … h_3 = inputs of stages.0, stages.1, stages.2, out_norm"),
    ):
        assert said in diagnose(model, vectors()).remarks[0]


class Lost(Net):
    def forward(self, x: Tensor) -> Any:
        return {"scores": super().forward(x)}


class Parallel(Net):
    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        return self.out(sum(stage(h) for stage in self.stages))


class Towers(nn.Module):
    """Two chains side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Sequential(Block(6), Block(6)), nn.Sequential(Block(6), Block(6))
        self.out = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.left(x) + self.right(x))


def test_what_cannot_be_found_is_said_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"no module 'stage.1'; it has, among others, stages.1"):
        diagnose(Net(Block, lambda b, h: b(h)), vectors(), layers=["stage.1"])
    aside = [Parallel(block, lambda b, h: b(h)) for block in (Block, lambda: nn.Linear(8, 8), nested)]
    for apart in (*aside, Towers()):
        with pytest.raises(ValueError, match=r"shows no hidden states: .*layers=\["):
            diagnose(apart, vectors())
    with pytest.raises(ValueError, match=r"labels from 0 to 10 do not fit logits of 4 classes"):
        diagnose(mlp(), [(torch.ones(2, 6), torch.tensor([0, 10]))])
    with pytest.raises(ValueError, match=r"labels are class indices, integers; got torch.float32"):
        diagnose(mlp(), [(torch.ones(2, 6), torch.ones(2))])
    with pytest.raises(ValueError, match="layers is a list"):
        diagnose(mlp(), vectors(), layers="3")
    with pytest.raises(ValueError, match="not a percentage"):
        diagnose(mlp(), [], headline_acc=31.0)
    with pytest.raises(ValueError, match="layers names no module"):
        diagnose(Net(Block, lambda b, h: b(h)), vectors(), layers=[])
    with pytest.raises(ValueError, match="scripted model"):
        diagnose(torch.jit.script(nn.Sequential(nn.Linear(6, 4))), vectors())
    with pytest.raises(ValueError, match=r"shows no hidden states: .*layers=\["):
        diagnose(Net(Block, torch.no_grad()(lambda b, h: b(h))), vectors())
    with pytest.raises(ValueError, match="holds no logits"):
        diagnose(Lost(Block, lambda b, h: b(h)), vectors())
    with pytest.raises(ValueError, match="must be a pair"):
        diagnose(mlp(), [torch.ones(2, 6)])


def test_as_many_tokens_as_samples_are_told_apart_by_what_a_sample_comes_from() -> None:
    torch.manual_seed(0)
    by_sequence, by_batch = Tokens(False), Tokens(True)
    by_batch.load_state_dict(by_sequence.state_dict())
    for batch in (7, 5):
        found, expected = (diagnose(model, sentences(True, batch=batch)) for model in (by_sequence, by_batch))
        assert found.residual_norms == pytest.approx(expected.residual_norms, rel=1e-5)
        assert found.bp_grad_norms == pytest.approx(expected.bp_grad_norms, rel=1e-5)


def test_the_page_on_any_model_does_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parent.parent / "docs/how-to/any-model.md").read_text()
    for snippet in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(snippet, {})
    shown = capsys.readouterr().out
    assert "h_0 = input of layer1.0, h_1 … h_8 = outputs of layer1.0, layer1.1, " in shown
    assert "h_0 … h_4 = outputs of maxpool, layer1, layer2, layer3, layer4" in shown
