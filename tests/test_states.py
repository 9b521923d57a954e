"""Which tensors are the hidden states, against a forward pass in float64 that lists them."""

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fa_tracking import DiagnosticReport, diagnose
from fa_tracking.protocol.knockout import knockout

Batches = list[tuple[Any, Tensor]]
States = Callable[[Any, Tensor], Sequence[Tensor]]
EXPLODED = 1e9


def vectors(width: int = 32, classes: int = 10) -> Batches:
    draw = torch.Generator().manual_seed(0)
    return [
        (torch.randn(128, width, generator=draw), torch.randint(classes, (128,), generator=draw)) for _ in range(10)
    ]


def right(model: nn.Module, batches: Batches, states: States) -> tuple[list[float], float]:
    """‖h_0‖ … ‖h_L‖ and ‖g_L‖ by a forward pass of one's own in float64, each state flattened per sample."""
    model = copy.deepcopy(model).double().eval()
    norms: list[list[Tensor]] = []
    slopes = []
    for x, y in batches:
        hidden = states(model, x.double())
        logits = model.read_out(hidden[-1])
        (g,) = torch.autograd.grad(nn.functional.cross_entropy(logits, y, reduction="sum"), hidden[-1])
        norms.append([h.detach().flatten(1).norm(dim=1) for h in hidden])
        slopes.append(g.flatten(1).norm(dim=1) / 128)
    medians = [torch.cat(layer).quantile(0.5).item() for layer in zip(*norms, strict=True)]
    return medians, torch.cat(slopes).quantile(0.5).item()


def growth(norms: Sequence[float]) -> float:
    return max(after / before for before, after in pairwise(norms))


class Block(nn.Module):
    def __init__(self, width: int = 64, scale: float = 1.0) -> None:
        super().__init__()
        self.ln, self.up = nn.LayerNorm(width), nn.Linear(width, 2 * width, bias=False)
        self.down, self.scale = nn.Linear(2 * width, width, bias=False), scale

    def branch(self, h: Tensor) -> Tensor:
        return self.scale * self.down(torch.tanh(self.up(self.ln(h))))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.branch(h)


class Other(Block):
    """A block of another class."""


class Branch(Block):
    def forward(self, h: Tensor) -> Tensor:
        return self.branch(h)


class Stage(nn.Module):
    """Blocks one behind the other, with a change of width before or after them."""

    def __init__(self, *blocks: nn.Module, before: nn.Module | None = None, after: nn.Module | None = None) -> None:
        super().__init__()
        self.before, self.inside, self.after = before or nn.Identity(), nn.ModuleList(blocks), after or nn.Identity()

    def forward(self, h: Tensor) -> Tensor:
        h = self.before(h)
        for block in self.inside:
            h = block(h)
        return self.after(h)


class Stack(nn.Module):
    """An embedding, ``parts`` one behind the other, a LayerNorm and a head, under ``names``."""

    def __init__(self, *parts: nn.Module, list_name: str = "parts", width: int = 64, last: int = 64) -> None:
        super().__init__()
        self.embed = nn.Linear(32, width)
        setattr(self, list_name, nn.ModuleList(parts))
        self.list_name = list_name
        self.last_ln, self.fc = nn.LayerNorm(last), nn.Linear(last, 10, bias=False)

    def first(self, x: Tensor) -> Tensor:
        return self.embed(x)

    def read_out(self, h: Tensor) -> Tensor:
        return self.fc(self.last_ln(h))

    def forward(self, x: Tensor) -> Any:
        h = self.first(x)
        for part in getattr(self, self.list_name):
            h = part(h)
        return self.read_out(h)


def through(*names: str) -> States:
    """The states before, between and after the blocks of these names."""

    def states(model: Any, x: Tensor) -> list[Tensor]:
        hidden = [model.first(x)]
        for name in names:
            hidden.append(model.get_submodule(name)(hidden[-1]))
        return hidden

    return states


def assert_right(model: nn.Module, states: States, batches: Batches | None = None) -> DiagnosticReport:
    batches = batches or vectors()
    report, (norms, deepest) = diagnose(model, batches), right(model, batches, states)
    assert report.residual_norms == pytest.approx(norms, rel=1e-3)
    assert report.bp_grad_norms[-1] == pytest.approx(deepest, rel=1e-3)
    assert report.max_per_block_growth == pytest.approx(growth(norms), rel=1e-3)
    assert len(report.states) == len(norms)
    assert report.to_dict()["states"] == list(report.states)
    return report


class NormFirst(Stack):
    """``norm`` stands behind the embedding, as in BERT and CLIP; the read-out has another."""

    def __init__(self) -> None:
        super().__init__(Block(), Block(), Block(scale=EXPLODED), list_name="blocks")
        self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, 10)

    def first(self, x: Tensor) -> Tensor:
        return self.norm(self.embed(x))

    def read_out(self, h: Tensor) -> Tensor:
        return self.head(self.last_ln(h))


def test_a_module_that_is_called_norm_is_not_therefore_the_read_out() -> None:
    torch.manual_seed(0)
    report = assert_right(NormFirst(), through("blocks.0", "blocks.1", "blocks.2"))
    assert report.flags == ("a", "b")
    assert report.states == ("input of blocks.0", "output of blocks.0", "output of blocks.1", "output of blocks.2")


class HeadAside(Stack):
    """``head`` is used before the last of ``blocks`` only."""

    def __init__(self) -> None:
        super().__init__(Block(), Block(), Block(scale=EXPLODED), list_name="blocks")
        self.head = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        h = self.blocks[1](self.blocks[0](self.first(x)))
        return self.read_out(self.blocks[2](h + 0.01 * self.head(h)))


def test_a_block_behind_what_is_called_head_is_read() -> None:
    torch.manual_seed(0)
    report = diagnose(HeadAside(), vectors())
    assert report.flags == ("a", "b") and report.max_per_block_growth > 1e6


class Returned(Stack):
    """Returns its states by ``return_hidden``, all but ``left_out`` of the last."""

    def __init__(self, *parts: nn.Module, left_out: int, as_normed: bool = False) -> None:
        super().__init__(*parts)
        self.left_out, self.as_normed = left_out, as_normed

    def forward(self, x: Tensor, return_hidden: bool = False) -> Any:
        hidden = [self.first(x)]
        for part in self.parts:
            hidden.append(part(hidden[-1]))
        shown = hidden[: len(hidden) - self.left_out]
        shown = [self.last_ln(h) for h in shown] if self.as_normed else shown
        return (self.read_out(hidden[-1]), shown) if return_hidden else self.read_out(hidden[-1])


@pytest.mark.parametrize("parts", [[Block] * 3, [Block, Block, Other, Other]])
def test_returned_states_that_leave_the_last_block_out_are_refused(parts: list[type[Block]]) -> None:
    torch.manual_seed(0)
    blocks = [kind() for kind in parts]
    diagnose(Returned(*blocks, left_out=0), vectors())
    for left_out in (1, 2):
        with pytest.raises(
            ValueError, match=r"not what its read-out reads: parts\.\d.* run after it; .*layers=\["
        ) as said:
            diagnose(Returned(*blocks, left_out=left_out), vectors())
        assert "\n" not in str(said.value)
    with pytest.raises(ValueError, match=r"do not (follow|lead).*layers=\["):
        diagnose(Returned(*blocks, left_out=0, as_normed=True), vectors())


def test_blocks_behind_the_last_named_layer_are_said() -> None:
    torch.manual_seed(0)
    model = Stack(Block(), Block(), Block())
    some = diagnose(model, vectors(), layers=["embed", "parts.0"])
    assert "not read: parts.1, parts.2, which run after the last state" in some.remarks
    every = diagnose(model, vectors(), layers=["embed", "parts.0", "parts.1", "parts.2"])
    assert not any("not read" in remark for remark in every.remarks)


@pytest.mark.parametrize("scale", [1.0, EXPLODED])
@pytest.mark.parametrize("kinds", [(Block, Other), (Other, Block), (Block, Branch)])
def test_all_stacks_on_the_path_to_the_logits_are_read_in_order(kinds: tuple[type[Block], ...], scale: float) -> None:
    torch.manual_seed(0)
    early, late = kinds
    parts = [early(), early(), late(), late(), late(scale=scale)]
    if late is Branch:
        parts[2:] = [Residual(part) for part in parts[2:]]
    report = assert_right(Stack(*parts), through(*(f"parts.{i}" for i in range(5))))
    assert ("a" in report.flags) == ("b" in report.flags) == (scale > 1)


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, h: Tensor) -> Tensor:
        return h + self.inner(h)


class Doubling(nn.Module):
    """Each block doubles the norm of the stream."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.ln, self.w = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        b = self.w(self.ln(h))
        return h + b * (3**0.5 * h.norm(dim=1, keepdim=True) / b.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("list_name", ["parts", "blocks"])
@pytest.mark.parametrize("sizes", [[6, 6], [1, 11], [3, 3, 6], [12]])
def test_a_function_grows_alike_whether_its_blocks_are_listed_flat_or_in_stages(
    sizes: list[int], list_name: str
) -> None:
    torch.manual_seed(0)
    blocks = [Doubling() for _ in range(12)]
    flat, left = Stack(*blocks, list_name=list_name), iter(blocks)
    staged = Stack(*(Stage(*(next(left) for _ in range(size))) for size in sizes), list_name=list_name)
    for model in (flat, staged):
        model.norm, model.head = flat.last_ln, flat.fc
        model.embed, model.read_out = flat.embed, lambda h: flat.head(flat.norm(h))
    expected, found = diagnose(flat, vectors()), diagnose(staged, vectors())
    assert torch.equal(flat(vectors()[0][0]), staged(vectors()[0][0]))
    assert found.residual_norms == expected.residual_norms and found.bp_grad_norms == expected.bp_grad_norms
    assert found.max_per_block_growth < 3 and "a" not in found.flags


def test_stages_that_change_the_width_are_opened_too() -> None:
    torch.manual_seed(0)
    first = Stage(Block(64), Block(64), after=nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 96)))
    second = Stage(Block(96), before=nn.Linear(96, 128))
    second.inside[0] = Block(128)
    model = Stack(first, second, last=128)
    report = diagnose(model, vectors())
    assert report.states[-1] == "output of parts.1.inside.0" and len(report.states) == 4


class EncoderDecoder(nn.Module):
    def __init__(self, width: int = 32, scale: float = 1.0) -> None:
        super().__init__()
        self.source, self.target = nn.Linear(6, width), nn.Linear(6, width)
        layer = {"d_model": width, "nhead": 4, "dim_feedforward": 64, "dropout": 0.0, "batch_first": True}
        self.encoder = nn.ModuleList(nn.TransformerEncoderLayer(**layer, norm_first=True) for _ in range(3))
        self.decoder = nn.ModuleList(nn.TransformerDecoderLayer(**layer, norm_first=True) for _ in range(2))
        self.last_ln, self.fc = nn.LayerNorm(width), nn.Linear(width, 10)
        self.decoder[1].linear2.weight.data.mul_(scale)

    def states(self, x: Tensor, z: Tensor) -> list[Tensor]:
        memory, hidden = self.source(x), [self.target(z)]
        for layer in self.encoder:
            memory = layer(memory)
        for layer in self.decoder:
            hidden.append(layer(hidden[-1], memory))
        return hidden

    def read_out(self, h: Tensor) -> Tensor:
        return self.fc(self.last_ln(h[:, 0]))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.read_out(self.states(x, z)[-1])


@pytest.mark.parametrize("scale", [1.0, 1e9])
def test_of_an_encoder_and_a_decoder_the_decoder_is_measured_and_the_encoder_named(scale: float) -> None:
    torch.manual_seed(0)
    model = EncoderDecoder(scale=scale)
    batches: Batches = [((torch.randn(128, 5, 6), torch.randn(128, 4, 6)), y) for _, y in vectors()]
    report = diagnose(model, batches)
    wide = copy.deepcopy(model).double()
    hidden = [wide.states(*(v.double() for v in xz)) for xz, _ in batches]
    norms = [torch.cat(layer)[:, 0].norm(dim=1).quantile(0.5).item() for layer in zip(*hidden, strict=True)]
    assert report.residual_norms == pytest.approx(norms, rel=1e-3)
    assert "not measured: encoder.0, encoder.1, encoder.2, which feed the blocks from aside" in report.remarks
    assert ("a" in report.flags) == (scale > 1)


class Beside(nn.Module):
    """Two streams side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Sequential(Block(32), Block(32)), nn.Sequential(Other(32), Other(32, EXPLODED))
        self.ln, self.fc = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.ln(self.one(x) + self.two(x)))


def test_streams_side_by_side_are_refused_in_one_line_that_names_layers() -> None:
    with pytest.raises(ValueError, match=r"run beside .*layers=\[") as said:
        diagnose(Beside(), vectors())
    assert "\n" not in str(said.value)


class Convolution(nn.Module):
    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        norm, conv = (nn.BatchNorm1d, nn.Conv1d) if dims == 1 else (nn.BatchNorm2d, nn.Conv2d)
        self.norm, self.conv = norm(channels), conv(channels, channels, 3, padding=1, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.conv(torch.tanh(self.norm(h)))


class ConvolutionNet(nn.Module):
    """A residual network of convolutions on (B, 1, length); ``reads`` makes logits of (B, C, length)."""

    def __init__(self, reads: Callable[[Tensor], Tensor], features: int, channels: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, channels, 5, padding=2)
        self.layers = nn.ModuleList(Convolution(channels, 1) for _ in range(3))
        self.reads, self.fc = reads, nn.Linear(features, 10)

    def first(self, x: Tensor) -> Tensor:
        return self.stem(x)

    def read_out(self, h: Tensor) -> Tensor:
        return self.fc(self.reads(h))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for layer in self.layers:
            h = layer(h)
        return self.read_out(h)


READS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "mean over positions": (lambda h: h.mean(2), 16),
    "maximum over positions": (lambda h: h.amax(dim=-1), 16),
    "flattened": (lambda h: h.flatten(1), 16 * 20),
    "first channel alone": (lambda h: h[:, 0], 20),
    "last position": (lambda h: h[..., -1], 16),
}


@pytest.mark.parametrize("read", READS)
def test_channels_of_one_dimensional_convolutions_are_flattened_and_not_taken_for_tokens(read: str) -> None:
    torch.manual_seed(0)
    model = ConvolutionNet(*READS[read])
    with torch.no_grad():  # what explodes cancels in a mean over the channels
        weight = model.layers[1].conv.weight
        weight[0] *= 1e4
        weight[1] = -weight[0]
    batches: Batches = [(torch.randn(128, 1, 20), y) for _, y in vectors()]
    report = assert_right(model, through("layers.0", "layers.1", "layers.2"), batches)
    assert "a" in report.flags and "convolution states flattened per sample" in report.remarks


class ViT(nn.Module):
    """A plain pre-LN ViT on 8 × 8 images; its ``n_class`` class tokens begin at zero."""

    def __init__(self, pool: str = "class", n_class: int = 1, width: int = 32, depth: int = 3, late: int = 0) -> None:
        super().__init__()
        self.patch, self.pool, self.n_class, self.late = nn.Conv2d(1, width, 2, 2), pool, n_class, late
        self.tokens = nn.Parameter(torch.zeros(1, n_class, width))
        layer = {"d_model": width, "nhead": 4, "dim_feedforward": 4 * width, "dropout": 0.0, "activation": "gelu"}
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(**layer, batch_first=True, norm_first=True) for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def with_class(self, h: Tensor) -> Tensor:
        return torch.cat([self.tokens.expand(len(h), -1, -1), h], 1)

    def first(self, x: Tensor) -> Tensor:
        h = self.patch(x).flatten(2).transpose(1, 2)
        return h if self.late or not self.n_class else self.with_class(h)

    def read_out(self, h: Tensor) -> Tensor:
        h = self.norm(h)
        if self.pool == "class":
            return sum(self.head(h[:, i]) for i in range(self.n_class)) / self.n_class
        return self.head(h[:, -1] if self.pool == "last" else h.mean(1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for number, block in enumerate(self.blocks):
            h = self.with_class(h) if self.late and number == self.late else h
            h = block(h)
        return self.read_out(h)


def images() -> Batches:
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(128, 1, 8, 8, generator=draw), torch.randint(10, (128,), generator=draw)) for _ in range(8)]


def token_norms(model: ViT, tokens: list[int] | None) -> list[float]:
    """Growth by block of some tokens, or of the whole stream."""
    wide, norms = copy.deepcopy(model).double().eval(), []
    for x, _ in images():
        h = wide.first(x.double())
        hidden = [h]
        for number, block in enumerate(wide.blocks):
            h = wide.with_class(h) if wide.late and number == wide.late else h
            h = block(h)
            hidden.append(h)
        norms.append([(h if tokens is None else h[:, tokens]).detach().flatten(1).norm(dim=1) for h in hidden])
    return [torch.cat(layer).quantile(0.5).item() for layer in zip(*norms, strict=True)]


@pytest.mark.parametrize(
    ("model", "tokens", "said"),
    [
        (ViT(), [0], "tokens: the class token, which alone the logits come from"),
        (ViT(n_class=2), [0, 1], "tokens: tokens 0 and 1, which alone the logits come from"),
        (ViT("last", n_class=0), [15], "tokens: token 15, which alone the logits come from"),
        (ViT("mean", n_class=0), None, "tokens: all of a sample's together, since the logits do not come from a class"),
        (
            ViT(late=2),
            None,
            "tokens: all of a sample's together: the logits come from the class token alone, which is not",
        ),
    ],
    ids=["class token", "distilled", "last token", "mean", "class token added late"],
)
def test_the_tokens_that_the_logits_come_from_are_read_and_said(
    model: ViT, tokens: list[int] | None, said: str
) -> None:
    report = diagnose(model, images())
    read, whole = token_norms(model, tokens), token_norms(model, None)
    before = max(read[0], 1e-30)
    assert report.residual_norms == pytest.approx(read, rel=1e-4)
    assert report.max_per_block_growth == pytest.approx(growth([before, *read[1:]]), rel=1e-4)
    assert report.stream_growth == (None if tokens is None else pytest.approx(growth(whole), rel=1e-4))
    assert any(remark.startswith(said) for remark in report.remarks)


def test_a_class_token_that_grows_alone_does_not_fire_and_one_that_grows_with_the_stream_does() -> None:
    torch.manual_seed(0)
    model = ViT()
    model.tokens.data.normal_(std=1e-3)
    report = diagnose(model, images())
    assert report.max_per_block_growth > 50 > (report.stream_growth or 0)
    assert "a" not in report.flags and "growth of the class token alone" in str(report)
    model.blocks[1].linear2.weight.data.mul_(1e6)
    exploded = diagnose(model, images())
    assert "a" in exploded.flags and "growth of the class token alone" not in str(exploded)


def test_what_explodes_in_two_tokens_with_opposite_signs_is_seen_where_the_mean_is_read() -> None:
    torch.manual_seed(0)
    model = ViT("mean", n_class=0)
    signs = torch.ones(16)
    signs[1::2] = -1

    def opposite(_module: nn.Module, _args: Any, h: Tensor) -> Tensor:
        return h + 1e4 * signs.to(h)[None, :, None] * h.detach().norm(dim=(1, 2), keepdim=True)

    model.blocks[1].register_forward_hook(opposite)
    assert "a" in diagnose(model, images()).flags


def test_a_healthy_vit_whose_class_token_begins_at_zero_is_not_said_to_have_exploded() -> None:
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    inputs, labels = (torch.tensor(x).float().reshape(-1, 1, 8, 8) / 16 - 0.3) / 0.38, torch.tensor(y)
    model = ViT()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(2):
        for index in torch.randperm(1400).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[index]), labels[index]).backward()
            optimizer.step()
    batches = [(inputs[i], labels[i]) for i in torch.arange(1400, 1797).split(40)]
    report = diagnose(model, batches)
    assert "a" not in report.flags and report.stream_growth is not None and report.stream_growth < 10


class Free(nn.Module):
    """A network whose way through its blocks is ``way``."""

    def __init__(self, way: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.embed, self.stack = nn.Linear(16, 16), nn.ModuleList(Block(16) for _ in range(3))
        self.ln, self.fc, self.way = nn.LayerNorm(16), nn.Linear(16, 5), way

    def first(self, x: Tensor) -> Tensor:
        return self.embed(x)

    def read_out(self, h: Tensor) -> Tensor:
        return self.fc(self.ln(h))

    def forward(self, x: Tensor) -> Tensor:
        return self.read_out(self.way(self, x))


def all_blocks(model: Free, x: Tensor) -> Tensor:
    h = model.first(x)
    for block in model.stack:
        h = block(h)
    return h


def early_exit(model: Free, x: Tensor) -> Tensor:
    if float(x.detach().sum()) < 0:
        return all_blocks(model, x)
    return model.stack[1](model.stack[0](model.first(x)))


def looped(model: Free, x: Tensor) -> Tensor:
    h = model.first(x)
    for _ in range(2 + (float(x.detach().sum()) > 0)):
        h = model.stack[0](h)
    return h


def by_sign() -> Batches:
    """The first batches have positive sums."""
    return sorted(vectors(16, 5), key=lambda batch: float(batch[0].sum()) < 0)


@pytest.mark.parametrize("way", [early_exit, looped])
@pytest.mark.parametrize("layers", [None, ["embed", "stack.0", "stack.1", "stack.2"]])
def test_a_depth_that_depends_on_the_data_is_refused_in_one_line(way: Any, layers: list[str] | None) -> None:
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=r"depth depends on the data: batch 1 runs .*layers=\[") as said:
        diagnose(Free(way), by_sign(), layers=layers)
    assert "\n" not in str(said.value)


def test_a_block_that_runs_twice_is_read_twice() -> None:
    torch.manual_seed(0)
    model = Free(lambda model, x: model.stack[0](model.stack[1](model.stack[0](model.first(x)))))
    report = assert_right(model, through("stack.0", "stack.1", "stack.0"), vectors(16, 5))
    assert report.states[-1] == "output of stack.0 (run 2)"


def shifted(model: Free, x: Tensor) -> Tensor:
    x.sub_(1.0)
    return all_blocks(model, x)


def test_a_forward_pass_that_writes_into_its_input_is_measured_and_the_batches_stay() -> None:
    torch.manual_seed(0)
    model, batches = Free(shifted), vectors(16, 5)
    before = [x.clone() for x, _ in batches]
    report = diagnose(model, batches)
    assert all(torch.equal(x, kept) for (x, _), kept in zip(batches, before, strict=True))
    model.way = all_blocks
    assert report.residual_norms == pytest.approx(diagnose(model, [(x - 1, y) for x, y in batches]).residual_norms)

    def refused(model: Free, x: Tensor) -> Tensor:
        x.mul_(2)
        raise RuntimeError("no")

    model.way = refused
    with pytest.raises(RuntimeError, match="no"):
        diagnose(model, batches)
    assert all(torch.equal(x, kept) for (x, _), kept in zip(batches, before, strict=True))


class Lists(nn.Module):
    """``blocks`` holds lists of blocks, as in timm's Twins; ``norm`` and ``head`` are the read-out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(32, 64)
        self.blocks = nn.ModuleList(nn.ModuleList([Block(), Block()]) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, 10)

    def first(self, x: Tensor) -> Tensor:
        return self.embed(x)

    def read_out(self, h: Tensor) -> Tensor:
        return self.head(self.norm(h))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for blocks in self.blocks:
            for block in blocks:
                h = block(h)
        return self.read_out(h)


def test_blocks_in_lists_are_measured() -> None:
    torch.manual_seed(0)
    assert_right(Lists(), through("blocks.0.0", "blocks.0.1", "blocks.1.0", "blocks.1.1"))


def test_blocks_that_return_the_branch_or_the_next_state_are_told_apart_by_the_graph() -> None:
    torch.manual_seed(0)
    model = NormFirst()
    model.blocks[2].scale = 1.0
    found = knockout(model, vectors())
    for block in model.blocks:
        block.down.weight.data.zero_()
    assert found.without_all == pytest.approx(knockout(model, vectors()).whole)


class Dense(nn.Module):
    """A block without a skip connection."""

    def __init__(self, width: int = 64, scale: float = 1.0) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(width, width), scale
        self.act = nn.Tanh()

    def forward(self, h: Tensor) -> Tensor:
        return self.scale * self.act(self.linear(h))


@pytest.mark.parametrize("order", ["plain last", "plain first", "single between"])
def test_blocks_without_a_skip_connection_count_beside_blocks_that_have_one(order: str) -> None:
    torch.manual_seed(0)
    plain = [Dense(), Dense(), Dense(scale=1e6)]
    parts = {
        "plain last": [Block(), Block(), *plain],
        "plain first": [*plain, Block(), Block()],
        "single between": [Block(), Dense(scale=1e6), Block(), Block()],
    }[order]
    report = assert_right(Stack(*parts), through(*(f"parts.{i}" for i in range(len(parts)))))
    assert "a" in report.flags


class Joined(Stack):
    """Blocks that the network joins with its stream in some other way than by +."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(Block(), Block(), Branch(), Branch(), Branch(scale=1e6))
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        h = self.parts[1](self.parts[0](self.first(x)))
        for part in self.parts[2:]:
            h = self.join(h, part(h))
        return self.read_out(h)


@pytest.mark.parametrize(
    "join",
    [
        lambda h, b: torch.addcmul(h, b, torch.ones_like(b)),
        lambda h, b: torch.lerp(h, b, 0.5),
        lambda h, b: torch.stack([h, b]).sum(0),
        lambda h, b: nn.functional.softplus(h + b),
        lambda h, b: 0.9 * h + b,
        lambda h, b: h.clone().add_(b),
    ],
    ids=["addcmul", "lerp", "stack", "softplus", "scaled", "in place"],
)
def test_however_a_branch_is_joined_an_explosion_behind_it_is_seen(join: Any) -> None:
    torch.manual_seed(0)
    report = diagnose(Joined(join), vectors())
    assert "a" in report.flags and report.reference == "checked"


def gained(model: Free, x: Tensor) -> Tensor:
    h = model.first(x)
    for gain in (1.0, 1.0, 1e6):
        h = gain * model.stack[0](h)
    return h


def test_the_last_state_is_what_the_read_out_takes() -> None:
    torch.manual_seed(0)
    report = diagnose(Free(gained), vectors(16, 5))
    assert report.flags[:2] == ("a", "b") and report.states[-1] == "input of ln"


class PostNorm(nn.Module):
    """Branches in one list, the normalisations behind the sums in another."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc = nn.Linear(32, 64), nn.Linear(64, 10)
        self.branches = nn.ModuleList(Branch() for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(64) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for branch, norm in zip(self.branches, self.norms, strict=True):
            h = norm(h + branch(h))
        return self.fc(h)


def test_states_behind_normalisations_are_all_of_one_kind() -> None:
    torch.manual_seed(0)
    report = diagnose(PostNorm(), vectors())
    assert report.residual_norms[1:] == pytest.approx([8.0] * 3, rel=1e-3) and report.states[-1] == "output of norms.2"


class Linears(nn.Module):
    """``blocks`` are linear layers, and ``norm`` runs before them."""

    def __init__(self, as_sequence: bool, left_out: int = 0) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(32, 64), nn.LayerNorm(64)
        layers = [nn.Linear(64, 64) for _ in range(3)]
        blocks = [nn.Sequential(layer, nn.Tanh()) for layer in layers] if as_sequence else layers
        self.blocks, self.left_out = nn.ModuleList(blocks), left_out
        self.fc_norm, self.head = nn.LayerNorm(64), nn.Linear(64, 10)
        layers[2].weight.data.mul_(1e6)

    def forward(self, x: Tensor, return_hidden: bool = False) -> Any:
        hidden = [self.norm(self.embed(x))]
        for block in self.blocks:
            hidden.append(hidden[-1] + 1e3 * block(hidden[-1]))
        logits = self.head(self.fc_norm(hidden[-1]))
        return (logits, hidden[: len(hidden) - self.left_out]) if return_hidden else logits


class Unshown(Linears):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


@pytest.mark.parametrize("as_sequence", [False, True])
def test_blocks_that_are_layers_or_sequences_are_read_to_the_last(as_sequence: bool) -> None:
    torch.manual_seed(0)
    if not as_sequence:
        assert "a" in diagnose(Unshown(as_sequence), vectors()).flags
    diagnose(Linears(as_sequence), vectors())
    with pytest.raises(ValueError, match=r"not what its read-out reads: blocks\.2 run after it"):
        diagnose(Linears(as_sequence, left_out=1), vectors())


class NormedLast(Stack):
    """Returns its states as Transformers' models do: the last one behind the last normalisation."""

    def forward(self, x: Tensor, return_hidden: bool = False) -> Any:
        hidden = [self.first(x)]
        for part in self.parts:
            hidden.append(part(hidden[-1]))
        normed = self.last_ln(hidden[-1])
        return (self.fc(normed), [*hidden[:-1], normed]) if return_hidden else self.fc(normed)


def test_a_returned_state_behind_the_last_normalisation_is_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=r"stands behind its last normalisation.*layers=\["):
        diagnose(NormedLast(Block(), Block(), Block(scale=1e6)), vectors())


class Aside(nn.Module):
    """Blocks that return something else before the next state; ``kept`` makes it reach the logits."""

    def __init__(self, kept: float) -> None:
        super().__init__()
        self.embed, self.ln, self.fc, self.kept = nn.Linear(32, 64), nn.LayerNorm(64), nn.Linear(64, 10), kept
        self.layers = nn.ModuleList(Telling(scale=scale) for scale in (1, 1, 1e6))

    def forward(self, x: Tensor) -> Tensor:
        h, told = self.embed(x), torch.zeros(())
        for layer in self.layers:
            also, h = layer(h)
            told = told + also
        return self.fc(self.ln(h)) + (self.kept * told if self.kept else 0)


class Telling(Block):
    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        out = super().forward(h)
        return out.mean(), out


def test_of_what_a_block_returns_the_state_is_read_wherever_it_stands() -> None:
    torch.manual_seed(0)
    report = diagnose(Aside(0), vectors())
    assert report.flags[:2] == ("a", "b") and len(report.states) == 4
    with pytest.raises(ValueError, match=r"run beside .*layers=\["):
        diagnose(Aside(0.1), vectors())


class Padded(ViT):
    """Reads each sample's last token before its padding, whose number the first pixel tells."""

    def read_out(self, h: Tensor) -> Tensor:
        return self.head(self.norm(h)[torch.arange(len(h)), self.lengths - 1])

    def forward(self, x: Tensor) -> Tensor:
        self.lengths = x[:, 0, 0, 0].detach().long().clamp(1, 16)
        return super().forward(x)


@pytest.mark.parametrize("is_full_first", [True, False])
def test_each_samples_own_token_is_read_whatever_the_first_batch_shows(is_full_first: bool) -> None:
    torch.manual_seed(0)
    model, given = Padded(n_class=0), images()
    for number, (x, _) in enumerate(given):
        x[:, 0, 0, 0] = 16 if is_full_first and number == 0 else torch.randint(2, 17, (128,)).float()
    report = diagnose(model, given)
    wide, norms, slopes = copy.deepcopy(model).double(), [], []
    for x, y in given:
        wide.lengths = x[:, 0, 0, 0].long()
        h = wide.first(x.double())
        rows = [h]
        for block in wide.blocks:
            rows.append(block(rows[-1]))
        own = torch.arange(128), wide.lengths - 1
        norms.append([h[own].detach().norm(dim=1) for h in rows])
        loss = nn.functional.cross_entropy(wide.read_out(rows[-1]), y, reduction="sum")
        slopes.append(torch.autograd.grad(loss, rows[-1])[0][own].norm(dim=1) / 128)
    expected = [torch.cat(layer).quantile(0.5).item() for layer in zip(*norms, strict=True)]
    assert report.residual_norms == pytest.approx(expected, rel=1e-4)
    assert report.bp_grad_norms[-1] == pytest.approx(torch.cat(slopes).quantile(0.5).item(), rel=1e-4)
    assert "b" not in report.flags


def test_a_list_of_several_logits_is_refused() -> None:
    class Exits(Stack):
        def forward(self, x: Tensor) -> Any:
            h, found = self.first(x), []
            for part in self.parts:
                h = part(h)
                found.append(self.read_out(h))
            return found

    with pytest.raises(ValueError, match="returns 3 outputs, several of them of the logits' shape"):
        diagnose(Exits(Block(), Block(), Block(scale=1e6)), vectors())


class OtherNames(Stack):
    """As minGPT names its parts: ``blocks``, ``ln_f``, ``head``; ``behind`` runs between blocks and read-out."""

    def __init__(self, *blocks: nn.Module, behind: nn.Module | None = None, functional: bool = False) -> None:
        super().__init__(list_name="unused")
        self.blocks = nn.Sequential(*blocks)
        self.ln_f, self.head, self.behind = nn.LayerNorm(64), nn.Linear(64, 10), behind
        self.functional = functional

    def read_out(self, h: Tensor) -> Tensor:
        return self.head(nn.functional.layer_norm(h, (64,)) if self.functional else self.ln_f(h))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = block(h)
        if isinstance(self.behind, nn.ModuleList):
            for layer in self.behind:
                h = h + 1e4 * torch.tanh(layer(h))
        elif self.behind is not None:
            h = self.behind(h)
        return self.read_out(h)


@pytest.mark.parametrize("functional", [False, True])
def test_whatever_the_last_normalisation_is_called_the_state_before_it_is_read(functional: bool) -> None:
    torch.manual_seed(0)
    model = OtherNames(Block(), Block(), Block(scale=1e6), functional=functional)
    report = assert_right(model, through("blocks.0", "blocks.1", "blocks.2"))
    assert report.flags[:2] == ("a", "b")


class Outside(OtherNames):
    """The skip connections are the network's."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = h + block(h)
        return self.read_out(h)


@pytest.mark.parametrize("functional", [False, True])
def test_a_last_state_that_no_module_takes_is_not_replaced_by_what_stands_behind_the_normalisation(
    functional: bool,
) -> None:
    torch.manual_seed(0)
    model = Outside(Branch(), Branch(), Branch(scale=1e6), functional=functional)
    if functional:
        with pytest.raises(ValueError, match=r"layers=\["):
            diagnose(model, vectors())
    else:
        assert diagnose(model, vectors()).flags[:2] == ("a", "b")


def test_layers_behind_the_blocks_are_read_refused_or_named() -> None:
    torch.manual_seed(0)
    late = OtherNames(Block(), Block(), behind=nn.ModuleList(nn.Linear(64, 64) for _ in range(2)))
    with pytest.raises(ValueError, match=r"behind\.0, behind\.1 run after them.*layers=\["):
        diagnose(late, vectors())
    single = OtherNames(Block(), Block(), behind=nn.Linear(64, 64))
    said = "taken for the read-out: behind, which run after the last state"
    assert said in diagnose(single, vectors()).remarks


def test_maps_that_the_read_out_takes_the_means_of_are_read_whole() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1)]
    report = diagnose(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 10)), images())
    assert report.states == ("input of 2", "output of 2")
