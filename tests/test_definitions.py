"""A checkpoint of a definition that is gone: refused in a line that names its reader, by whatever would build it."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import tiny
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from safetensors.torch import save_file
from torch import nn

import fa_tracking
from fa_tracking.auditor.differ import differences
from fa_tracking.cli import main
from fa_tracking.errors import CheckpointError, OtherDefinitionError
from fa_tracking.tracking import checkpoint, definition, factories, names
from fa_tracking.trainers.definitions import FIRST, REVISED
from fa_tracking.trainers.models import resmlp, vit_mini
from fa_tracking.trainers.tracked import train

SHAPE = {"input_shape": [1, 8, 8], "classes": 10, "width": 16, "depth": 2}
GONE = "checkpoint epoch_0002 holds definition 1 of trainers:resmlp, which FA-Track 0.1 reads; here it is definition 2"
VERDICT = {names.TAG_VERDICT: "trustworthy", names.TAG_FLAGS: "", names.TAG_MEASURED: "{}"}


class OldBlock(nn.Module):
    """Of ResMLP in version 0.1: four hidden units for each of its d, ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.act = nn.ReLU()
        self.down = nn.Linear(4 * width, width)


class OldResMLP(nn.Module):
    """ResMLP as version 0.1 saved it: the names and shapes of its tensors."""

    def __init__(self, width: int = 16, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Flatten(), nn.Linear(64, width))
        self.blocks = nn.ModuleList(OldBlock(width) for _ in range(depth))
        self.out_ln = nn.LayerNorm(width)
        self.out_head = nn.Linear(width, 10)


def saved_by_the_first_version(folder: Path) -> Path:
    """A checkpoint of ``OldResMLP`` in a folder, its config.json as version 0.1 wrote it."""
    folder.mkdir(parents=True)
    save_file(OldResMLP().state_dict(), folder / "model.safetensors")
    save_file({"B0": torch.ones(10, 16)}, folder / "feedback.safetensors")
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}
    config = {"factory": "trainers:resmlp", "model": SHAPE, "epoch": 2, "dataset": None, "fa_version": "0.1.0"}
    (folder / "config.json").write_text(json.dumps({**config, "sha256": digests}))
    return folder


@pytest.fixture
def old(uri: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A finished and audited run of version 0.1, in an experiment of the test's name."""
    client = MlflowClient(uri)
    run_id = str(client.create_run(client.create_experiment(request.node.name), run_name="old").info.run_id)
    params = {"method": "bp", "seed": 1, "frozen_blocks": False, "architecture": "resmlp", "dataset": "digits", **SHAPE}
    norms = {names.residual_norm(0): 1.0, names.residual_norm(1): 90.0, names.ACCURACY_TEST: 0.5}
    client.log_batch(
        run_id,
        [Metric(key, value, 1, 2) for key, value in norms.items()],
        [Param(key, str(value)) for key, value in params.items() if key not in ("input_shape", "classes")],
        [RunTag(key, value) for key, value in VERDICT.items()],
    )
    client.log_artifacts(run_id, str(saved_by_the_first_version(tmp_path / "epoch_0002")), names.checkpoint(2))
    client.set_terminated(run_id)
    return run_id


def test_an_audit_refuses_a_gone_definition_keeps_its_verdict_and_goes_on(
    old: str, uri: str, request: pytest.FixtureRequest
) -> None:
    new = train(tiny("bp"), request.node.name, uri)
    found = fa_tracking.audit(request.node.name, uri, pictures=False)
    assert [(a.run_id, a.problem, a.withdrawn) for a in found.problems] == [(old, GONE, False)]
    tags = {run: MlflowClient(uri).get_run(run).data.tags for run in (old, new)}
    assert VERDICT.items() <= tags[old].items()
    assert tags[new][names.TAG_EVIDENCE] == "full"
    assert differences(fa_tracking.audit(None, uri, write=False)).changes == ()


def test_the_command_line_says_it_in_one_line(old: str, uri: str, request: pytest.FixtureRequest) -> None:
    done = CliRunner().invoke(main, ["audit", "--experiment", request.node.name, "--no-pictures"])
    assert done.exit_code == 1
    assert done.stderr.splitlines()[0] == f"{old} (old): {GONE}"
    replayed = CliRunner().invoke(main, ["replay", "--experiment", request.node.name])
    assert replayed.exit_code == 0 and "old" in replayed.stdout  # what was logged needs no network
    resumed = CliRunner().invoke(main, ["resume", old])
    assert resumed.exit_code == 2 and len(resumed.stderr.splitlines()) == 1


def test_weights_that_would_fit_are_refused_all_the_same(tmp_path: Path) -> None:
    model = resmlp.Model(**SHAPE)
    checkpoint.write(tmp_path, model, {}, 2, "trainers:resmlp", SHAPE, None)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    assert (config["definition"], config["fa_version"]) == (REVISED["resmlp"], version("fa-track"))
    built = checkpoint.build_model(checkpoint.read(tmp_path)).state_dict()
    assert all(torch.equal(built[key], value) for key, value in model.state_dict().items())
    for said in ({"definition": FIRST}, {}, {"definition": 3}):
        file.write_text(json.dumps({k: v for k, v in config.items() if k != "definition"} | said))
        with pytest.raises(OtherDefinitionError, match=f"holds definition {said.get('definition', FIRST)} of"):
            checkpoint.build_model(checkpoint.read(tmp_path))
    for said in (0, "two", 10**30):
        file.write_text(json.dumps(config | {"definition": said}))
        with pytest.raises(CheckpointError, match=r"config\.json is broken: definition"):
            checkpoint.read(tmp_path)


def test_a_definition_is_held_before_anything_is_built_or_read(tmp_path: Path) -> None:
    folder = saved_by_the_first_version(tmp_path / "epoch_0002")
    whole = checkpoint.read(folder)
    (folder / "model.safetensors").write_bytes(b"no tensors")
    absurd = whole.config.model_copy(update={"model": SHAPE | {"depth": 10**9}})
    with pytest.raises(OtherDefinitionError, match=GONE):
        checkpoint.build_model(checkpoint.Checkpoint(folder, absurd))


def test_a_checkpoint_of_a_network_that_never_changed_is_read_on(tmp_path: Path) -> None:
    shape = {"input_shape": [1, 8, 8], "classes": 10, "width": 16, "depth": 1}
    checkpoint.write(tmp_path, vit_mini.Model(**shape), {}, 1, "trainers:vit_mini", shape, None)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    assert config.pop("definition") == FIRST
    file.write_text(json.dumps(config | {"fa_version": "0.1.0"}))
    assert isinstance(checkpoint.build_model(checkpoint.read(tmp_path)), vit_mini.Model)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Installs ``mynet.py`` with this content, as pip would: an entry point of somebody else's models."""
    site = tmp_path / "site"
    info = site / "mynet-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mynet\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[fa_tracking.models]\nmynet = mynet:build\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(
        sys, "dont_write_bytecode", True
    )  # of two sources of one second and size, Python reads the first

    def install(source: str) -> None:
        (site / "mynet.py").write_text(source)
        sys.modules.pop("mynet", None)
        factories.entry_points_of.cache_clear()

    yield install
    sys.modules.pop("mynet", None)
    factories.entry_points_of.cache_clear()


NET = "from torch import nn\nclass Net(nn.Linear):\n    {}\ndef build(width):\n    return Net(width, 2)\n"


def test_other_packages_number_their_definitions_too(package: Callable[[str], None], tmp_path: Path) -> None:
    """By an attribute of the network or of what builds it; without one it is the first."""
    folder = tmp_path / "epoch_0001"
    folder.mkdir()
    package(NET.format("definition = 4"))
    import mynet

    checkpoint.write(folder, mynet.build(3), {}, 1, "mynet", {"width": 3}, None)
    assert json.loads((folder / "config.json").read_text())["definition"] == 4
    assert checkpoint.build_model(checkpoint.read(folder)).in_features == 3
    for source in (NET.format("definition = 5"), NET.format("definition = 4") + "build.definition = 5\n"):
        package(source)
        with pytest.raises(OtherDefinitionError, match=r"holds definition 4 of mynet, .* here it is definition 5"):
            checkpoint.build_model(checkpoint.read(folder))
    package(NET.format("definition = 'the best'"))
    with pytest.raises(OtherDefinitionError, match="here it is definition 1"):
        checkpoint.build_model(checkpoint.read(folder))


@pytest.mark.parametrize("said", [None, "2", 2.0, object()])
def test_what_is_no_number_is_no_definition(said: object) -> None:
    network = nn.Linear(1, 1)
    network.definition = said
    assert definition.of(network) == FIRST and not definition.says(network)
