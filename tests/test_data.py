"""Data sets: what is embedded, what is read from a folder, and the real CIFAR-10 where it is at hand."""

import hashlib
import io
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR100

from fa_tracking import catalogue, diagnose
from fa_tracking.cli import _checks
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.protocol.batches import Normalisation, evaluation_batches
from fa_tracking.trainers import data, datasets
from fa_tracking.trainers.augmentation import crop_flip, crop_flip_mean, shifted_and_mirrored
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.learner import build, learner_of
from fa_tracking.trainers.loop import evaluation_inputs, train_epoch
from fa_tracking.trainers.tracked import train


def test_digits_are_those_that_scikit_learn_gives() -> None:
    images, labels = load_digits(return_X_y=True)
    digits = data.load("digits")
    for split, which in ((digits.test, slice(0, None, 5)), (digits.train, np.arange(len(labels)) % 5 != 0)):
        assert np.array_equal(split.inputs, images[which]) and np.array_equal(split.labels, labels[which])


def test_digit_pairs_are_labelled_by_their_sum_and_share_no_digit_between_splits() -> None:
    digits, pairs = data.load("digits"), data.load("digit_pairs")
    for split, single in ((pairs.train, digits.train), (pairs.test, digits.test)):
        known = {tuple(image.tolist()): int(label) for image, label in zip(single.inputs, single.labels, strict=True)}
        for pair, label in zip(split.inputs[:200], split.labels[:200], strict=True):
            assert (known[tuple(pair[:64].tolist())] + known[tuple(pair[64:].tolist())]) % 10 == label
    train = {tuple(image.tolist()) for image in digits.train.inputs}
    assert not any(tuple(image.tolist()) in train for image in digits.test.inputs)


def test_the_teachers_classes_are_of_one_size_so_that_no_untrained_network_is_flagged() -> None:
    teacher = data.load("teacher")
    for split in (teacher.train, teacher.test):
        share = split.labels.bincount(minlength=10) / len(split.labels)
        assert share.min() > 0.08 and share.max() < 0.12
    assert not torch.equal(teacher.train.inputs[:4000], teacher.test.inputs)
    for architecture in ("student_net", "resmlp"):
        model, _ = build(RunConfig("bp", architecture=architecture, width=128, dataset="teacher", seed=2), teacher)
        assert diagnose(model, evaluation_inputs(teacher)).verdict == "trustworthy"


STRIPES = """
import torch
from fa_tracking.trainers.data import Split

IMAGE = (1, 4, 4)


def read(part):
    labels = torch.arange(64) % 2
    rows = torch.eye(2)[labels].repeat(1, 8) + (0.1 if part == "test" else 0.0)
    return Split(rows, labels)
"""
STRIPES_IN_A_FILE = """
import torch
from fa_tracking.trainers.data import Split

FILES = "striped"


def read(part, folder, download):
    return Split(*torch.load(folder / FILES / f"{part}.pt"))
"""


def test_a_new_data_set_is_one_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stripes.py").write_text(STRIPES)
    monkeypatch.delenv("FA_TRACK_DATA", raising=False)
    (tmp_path / "stripes_in_a_file.py").write_text(STRIPES_IN_A_FILE)
    monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(tmp_path)])
    stripes = data.load("stripes")
    assert (stripes.input_shape, stripes.image_shape, stripes.classes) == ((16,), (1, 4, 4), 2)
    for architecture in ("mlp", "vit_mini"):  # of rows, and of images
        learner = learner_of(RunConfig("bp", architecture=architecture, width=32, depth=1, dataset="stripes"), stripes)
        assert train_epoch(learner, stripes, 1).loss > 0
    assert torch.equal(data.test_split("stripes").inputs, stripes.test.inputs)
    with pytest.raises(UsageError, match=r"no data set named 'stripe' .*'stripes'"):
        data.check("stripe")
    with pytest.raises(UsageError, match="'stripes_in_a_file' needs --data-dir"):
        data.check("stripes_in_a_file")
    (tmp_path / "striped").mkdir()
    for part in ("train", "test"):
        torch.save(tuple(vars(getattr(stripes, part)).values()), tmp_path / "striped" / f"{part}.pt")
    read = data.load("stripes_in_a_file", str(tmp_path))
    assert read.test.digest == stripes.test.digest and read.image_shape == (16,)
    (checked,) = _checks.data(str(tmp_path))
    assert "in_a_file (striped)" in checked.found and "digits, stripes, teacher" in checked.found


def test_the_data_sets_and_where_they_come_from() -> None:
    names = data.built_in(), [*data.from_files()]
    assert names == (["digit_pairs", "digits", "teacher"], ["cifar10", "cifar100", "fashion_mnist", "mnist"])
    assert sorted([*names[0], *names[1]]) == catalogue.names(datasets)
    for name, files in data.from_files().items():  # as torchvision lays them out
        kind = getattr(torchvision.datasets, {"fashion_mnist": "FashionMNIST"}.get(name, name.upper()))
        assert files == getattr(kind, "base_folder", f"{kind.__name__}/raw")


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_images(folder: Path, image: str = "img", label: str = "label") -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)
    for split in ("train", "test"):
        rows = [{"bytes": png(p), "path": None} for p in pixels]
        pq.write_table(pa.table({image: rows, label: list(range(10)) * 3}), folder / f"{split}.parquet")
    return pixels


@pytest.mark.parametrize("nested", [False, True])
def test_a_folder_in_the_hugging_face_layout_is_read(tmp_path: Path, nested: bool) -> None:
    folder = tmp_path / "birds" if nested else tmp_path
    folder.mkdir(exist_ok=True)
    pixels = write_images(folder, "image", "labels")
    dataset = data.load("birds", str(tmp_path))
    assert dataset.input_shape == (3, 4, 4)
    assert np.array_equal(dataset.train.inputs.numpy(), pixels.transpose(0, 3, 1, 2))
    normal = dataset.normalisation(dataset.train.inputs).double()
    assert normal.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert normal.std((0, 2, 3), unbiased=False).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


@pytest.mark.parametrize("first", ["fine_label", "coarse_label"])
def test_cifar100_in_the_hugging_face_layout_has_its_fine_labels(tmp_path: Path, first: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    labels = {"fine_label": list(range(100)), "coarse_label": [fine % 20 for fine in range(100)]}
    columns = {"img": [{"bytes": png(p), "path": None} for p in pixels], first: labels[first], **labels}
    for split in ("train", "test"):
        pq.write_table(pa.table(columns), tmp_path / f"{split}.parquet")
    dataset = data.load("cifar100", str(tmp_path))
    assert (dataset.classes, dataset.input_shape) == (100, (3, 32, 32))
    assert dataset.train.labels.tolist() == labels["fine_label"]
    assert np.array_equal(dataset.test.inputs.numpy(), pixels.transpose(0, 3, 1, 2))


def test_cifar100_in_torchvisions_layout_has_its_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, draw = tmp_path / CIFAR100.base_folder, np.random.default_rng(0)
    folder.mkdir()
    rows = {part: draw.integers(0, 256, (100, 3072), dtype=np.uint8) for part in ("train", "test")}
    files = {
        part: {"data": pixels, "fine_labels": list(range(100)), "coarse_labels": [fine % 20 for fine in range(100)]}
        for part, pixels in rows.items()
    } | {"meta": {"fine_label_names": [f"class {fine}" for fine in range(100)]}}
    for name, content in files.items():
        (folder / name).write_bytes(pickle.dumps(content))
    with pytest.raises(UsageError, match="does not hold cifar100"):  # torchvision knows the checksums of its files
        data.load("cifar100", str(tmp_path))
    sums = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in files}
    monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": sums["meta"]})
    dataset = data.load("cifar100", str(tmp_path))
    assert dataset.classes == 100 and dataset.train.labels.tolist() == list(range(100))
    for split, part in ((dataset.train, "train"), (dataset.test, "test")):
        assert np.array_equal(split.inputs.numpy(), rows[part].reshape(-1, 3, 32, 32))


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FA_TRACK_DATA", raising=False)
    with pytest.raises(UsageError, match="needs --data-dir"):
        data.load("cifar10")
    with pytest.raises(UsageError, match="does not exist"):
        data.load("cifar10", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"holds no train\.parquet"):
        data.load("birds", str(tmp_path))
    with pytest.raises(UsageError, match="does not hold fashion_mnist"):
        data.load("fashion_mnist", str(tmp_path))
    (tmp_path / "train.parquet").write_bytes(b"no parquet")
    (tmp_path / "test.parquet").write_bytes(b"no parquet")
    with pytest.raises(FATrackError, match=r"train\.parquet cannot be read"):
        data.load("cats", str(tmp_path))


def test_evaluation_batches_are_disjoint_fixed_and_smaller_where_data_is_short() -> None:
    batches = evaluation_batches(2000)
    assert [len(b) for b in batches] == [128] * 10
    assert len(torch.cat(batches).unique()) == 1280
    assert all(torch.equal(a, b) for a, b in zip(batches, evaluation_batches(2000), strict=True))
    assert [len(b) for b in evaluation_batches(360)] == [36] * 10
    with pytest.raises(ValueError, match="9 samples"):
        evaluation_batches(9)


def test_a_constant_input_is_not_divided_by_zero() -> None:
    assert Normalisation.of(torch.full((5, 2), 3.0)) == Normalisation((3.0, 3.0), (1.0, 1.0))


@pytest.mark.matrix
def test_cifar10_is_what_its_reader_says(cifar10: str) -> None:
    dataset = data.load("cifar10", cifar10)
    assert (len(dataset.train.labels), len(dataset.test.labels), dataset.classes) == (50_000, 10_000, 10)
    assert dataset.normalisation.mean == pytest.approx((125.27, 122.93, 113.86), abs=0.01)
    assert dataset.train.labels.bincount().tolist() == [5000] * 10


def test_the_border_is_black_before_normalisation_or_the_mean_colour_after_it() -> None:
    images = torch.full((500, 3, 32, 32), 200, dtype=torch.uint8)
    normalise = data.Normalisation(mean=(125.0, 120.0, 110.0), std=(60.0, 50.0, 40.0))
    black, mean = (f(images, normalise, torch.Generator().manual_seed(1)) for f in (crop_flip, crop_flip_mean))
    inside = [75 / 60, 80 / 50, 90 / 40]
    for channel, border in enumerate([-125 / 60, -120 / 50, -110 / 40]):
        assert black[:, channel].unique().tolist() == pytest.approx([border, inside[channel]])
        assert mean[:, channel].unique().tolist() == pytest.approx([0, inside[channel]])
    assert torch.equal(black == black.amax((0, 2, 3), keepdim=True), mean == mean.amax((0, 2, 3), keepdim=True))


def test_the_augmentation_shifts_by_at_most_four_pixels_and_mirrors_half(tmp_path: Path) -> None:
    images = torch.arange(1, 32 * 32 + 1, dtype=torch.int32).reshape(1, 1, 32, 32).repeat(200, 3, 1, 1)
    seen = shifted_and_mirrored(images, torch.Generator().manual_seed(0))
    shifts, mirrored = set(), 0
    for image in seen:
        assert torch.equal(image[0], image[1])
        step = int(image[0, 16, 16] - image[0, 16, 15])
        assert step in (1, -1)
        mirrored += step == -1
        straight = image[0] if step == 1 else image[0].flip(1)
        row, column = divmod(int(straight[16, 16]) - 1, 32)
        shifts.add((row - 16, column - 16))
        assert ((straight == 0) | (straight == images[0, 0].roll((16 - row, 16 - column), (0, 1)))).all()
    assert 70 <= mirrored <= 130
    assert {d for pair in shifts for d in pair} == set(range(-4, 5))
    with pytest.raises(UsageError, match="crop_flip_mean does not fit digits"):
        train(RunConfig("bp", dataset="digits", augmentation="crop_flip_mean"), "none", f"sqlite:///{tmp_path}/m.db")
