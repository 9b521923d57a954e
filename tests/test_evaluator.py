"""Models and evaluations in MLflow: its evaluator, and models logged with mlflow.pytorch.log_model, on a real store."""

import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from conftest import Cli
from mlflow import MlflowClient
from safetensors.torch import save_file
from torch import Tensor, nn

import fa_tracking
from fa_tracking import diagnose
from fa_tracking.auditor.evidence import exported_model as exported
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.protocol.batches import evaluation_batches
from fa_tracking.trainers.data import load
from fa_tracking.trainers.models import resmlp

N, CLASSES = 640, 3
EXAMPLE = np.zeros((2, 1, 4, 3), np.float32)


class Net(nn.Module):
    """Images (B, 1, 4, 3) into four residual blocks; what it multiplies their sum by makes it healthy or not."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8)) for _ in range(4))
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, CLASSES)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x.flatten(1))
        for block in self.blocks:
            h = h + self.scale * block(h)
        return self.head(self.drop(h))


class Opens:
    """Pickled, it opens a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(N, 1, 4, 3, generator=draw), torch.randint(0, CLASSES, (N,), generator=draw)


@pytest.fixture(scope="module")
def file(data: tuple[Tensor, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "test.safetensors"
    save_file({"inputs": data[0], "labels": data[1]}, path)
    return path


@pytest.fixture(scope="module")
def exported_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "net"
    mlflow.pytorch.save_model(net(), folder, input_example=EXAMPLE, pip_requirements=["torch"])
    return folder / "data/model.pt2"


@pytest.fixture(scope="module")
def pickled(workspace: Path) -> str:
    """The address of a logged model."""
    _, model_id = log(net(), "pickled once", f"sqlite:///{workspace / 'mlflow.db'}", serialization_format="pickle")
    return f"models:/{model_id}"


def net(scale: float = 1.0) -> Net:
    torch.manual_seed(0)
    return Net(scale).eval()


def log(model: nn.Module, experiment: str, uri: str, name: str = "model", **how: object) -> tuple[str, str]:
    """A finished run with a logged model: the ids of both."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment)
    how = how or {"input_example": EXAMPLE}
    with mlflow.start_run() as run:
        mlflow.log_params({"method": "dfa", "seed": 1})
        made = mlflow.pytorch.log_model(model, name=name, pip_requirements=["torch"], **how)
    return run.info.run_id, made.model_id


def expected(
    model: nn.Module, data: tuple[Tensor, Tensor], accuracy: float | None = None
) -> fa_tracking.DiagnosticReport:
    batches = [(data[0][i], data[1][i]) for i in evaluation_batches(N)]
    return diagnose(model, batches, headline_acc=accuracy)


def share_right(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    return (model(data[0]).argmax(1) == data[1]).double().mean().item()


@pytest.mark.parametrize("how", [{}, {"serialization_format": "pickle"}])
def test_mlflow_evaluates_a_logged_model_by_the_protocol(
    how: dict, data: tuple[Tensor, Tensor], uri: str, tmp_path: Path
) -> None:
    model = net(scale=1e4)
    _, model_id = log(model, "evaluated", uri, **how)
    with mlflow.start_run() as run:
        result = mlflow.models.evaluate(
            model=f"models:/{model_id}",
            data=data[0].flatten(1).numpy(),
            targets=data[1].numpy(),
            model_type="feedback_alignment",
            evaluators="fa_protocol",
            evaluator_config={"input_shape": [1, 4, 3], "frozen_baseline_acc": 0.3, "method_name": "DFA"},
        )
    whole = expected(model, data, share_right(model, data))
    assert whole.residual_stream_exploded
    assert result.metrics["diagnostics/max_block_growth"] == pytest.approx(whole.max_per_block_growth)
    assert result.metrics["accuracy/test"] == pytest.approx(share_right(model, data))
    client = MlflowClient(uri)
    for name, value in result.metrics.items():
        assert [m.value for m in client.get_metric_history(run.info.run_id, name)] == [value], name
    tags = client.get_run(run.info.run_id).data.tags
    result.save(tmp_path)
    report = json.loads((tmp_path / "artifacts/report.json").read_text())
    assert tags["fa.verdict"] == report["verdict"] and "residual stream exploded" in report["verdict"]
    assert (report["method_name"], report["frozen_baseline_acc"]) == ("DFA", 0.3)
    assert f"accuracy of all {N} samples given" in report["notes"]
    assert "VERDICT: needs walk-back" in result.artifacts["report.txt"].content
    assert len(tags["fa.checkpoint_sha256"]) == 64


def test_the_evaluator_takes_frames_batches_and_files(
    data: tuple[Tensor, Tensor], file: Path, pickled: str, uri: str
) -> None:
    import pandas as pd

    mlflow.set_tracking_uri(uri)
    frame = pd.DataFrame(data[0].flatten(1).numpy()).assign(label=data[1].numpy())
    batches = [(data[0][i], data[1][i]) for i in evaluation_batches(N)]
    whole = expected(net(), data)
    for config in ({"input_shape": (1, 4, 3)}, {"eval_batches": batches}, {"eval_data": file}):
        with mlflow.start_run():
            result = evaluate(pickled, frame, {**config, "headline_acc": 0.5})
        assert result.metrics["diagnostics/stability"] == pytest.approx(whole.cross_batch_stability)
        assert result.metrics["accuracy/test"] == 0.5


def evaluate(model: object, frame: object, config: dict) -> "mlflow.models.EvaluationResult":
    return mlflow.models.evaluate(
        model=model,
        data=frame,
        targets="label",
        model_type="feedback_alignment",
        evaluators="fa_protocol",
        evaluator_config=config,
    )


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"nope": 1}, "evaluator_config: nope: .*there are: input_shape, eval_data"),
        ({"headline_acc": 50}, "headline_acc: .*a share in"),
        ({"thresholds": {"g_norm_floor": "x"}}, "thresholds.g_norm_floor"),
        ({"input_shape": [5]}, "input_shape .* does not fit the data"),
        ({"eval_data": "nowhere.npz"}, "nowhere.npz cannot be read"),
        ({}, "logged with mlflow.pytorch.log_model, not a _PythonModelPyfuncWrapper"),
    ],
)
def test_what_the_evaluator_cannot_use_is_named_in_one_line(
    config: dict, says: str, data: tuple[Tensor, Tensor], pickled: str, uri: str
) -> None:
    import pandas as pd

    mlflow.set_tracking_uri(uri)
    frame = pd.DataFrame(data[0].flatten(1).numpy()).assign(label=data[1].numpy())
    loaded: object = lambda frame: frame  # noqa: E731
    if config:
        loaded = mlflow.pyfunc.load_model(pickled)
    with mlflow.start_run(), pytest.raises(UsageError, match=says) as error:
        evaluate(loaded, frame, config)
    assert "\n" not in str(error.value)


def test_a_frame_of_logged_diagnostics_gives_a_partial_verdict(workspace: Path, uri: str) -> None:
    import pandas as pd

    mlflow.set_tracking_uri(uri)
    rows = {"epoch": [1, 2], "residual_norm/h4": [90.0, 4e8], "grad_norm/g2": [1e-3, 4e-9], "accuracy/test": [0.2, 0.3]}
    config = {"depth": 4, "h0_norm": 8.7, "frozen_baseline_acc": 0.349, "method_name": "DFA"}
    with mlflow.start_run() as run:
        result = frame_verdict(pd.DataFrame(rows), config)
    report = result.artifacts["report.json"].content
    assert (report["evidence"], report["flags"]) == ("partial", ["a", "b", "d"])
    assert report["max_per_block_growth"] == pytest.approx((4e8 / 8.7) ** (1 / 4))
    client = MlflowClient(uri)
    assert client.get_run(run.info.run_id).data.tags["fa.evidence"] == "partial"
    history = client.get_metric_history(run.info.run_id, "residual_norm/h4")
    assert [(m.step, m.value) for m in history] == [(1, 90.0), (2, 4e8)]
    with mlflow.start_run():
        assert "trustworthy" not in str(
            frame_verdict(pd.DataFrame({**rows, "residual_norm/h4": 9.0}), config).artifacts
        )
    for wrong, given, says in (
        (pd.DataFrame({"epoch": [1], "test_acc": [0.1]}), config, "it has: epoch, test_acc"),
        (pd.DataFrame({**rows, "epoch": [1, 1]}), config, "2 rows and 1 epochs"),
        (pd.DataFrame(rows), {"layers": ["x"]}, "without a model there is no use of layers"),
    ):
        with mlflow.start_run(), pytest.raises(UsageError, match=says):
            frame_verdict(wrong, given)


def frame_verdict(frame: object, config: dict) -> "mlflow.models.EvaluationResult":
    return mlflow.models.evaluate(
        data=frame, model_type="feedback_alignment", evaluators="fa_protocol", evaluator_config=config
    )


@pytest.mark.parametrize(("how", "trusted"), [({}, False), ({"serialization_format": "pickle"}, True)])
def test_the_audit_measures_a_logged_model(
    how: dict, trusted: bool, data: tuple[Tensor, Tensor], file: Path, uri: str
) -> None:
    model, experiment = net(), f"logged {trusted}"
    run_id, _ = log(model, experiment, uri, **how)
    (audited,) = fa_tracking.audit(experiment, uri, eval_data=file, trust_pickles=trusted).runs
    assert audited.problem is None and audited.report is not None
    whole = expected(model, data, share_right(model, data))
    assert audited.report.residual_norms == pytest.approx(whole.residual_norms)
    assert audited.report.bp_grad_norms == pytest.approx(whole.bp_grad_norms, rel=1e-5)
    assert audited.report.headline_acc == pytest.approx(share_right(model, data))
    assert f"no accuracy/test logged: accuracy of {N} samples" in audited.report.notes
    assert audited.knockout is not None and len(audited.knockout.without) == 4
    tags = MlflowClient(uri).get_run(run_id).data.tags
    assert tags["fa.verdict"] == whole.verdict and len(tags["fa.checkpoint_sha256"]) == 64


def test_the_headline_of_a_model_logged_without_a_step_is_of_the_last_epoch(file: Path, uri: str) -> None:
    run_id, _ = log(net(), "steps", uri)
    for step, value in enumerate((0.1, 0.2, 0.3)):
        MlflowClient(uri).log_metric(run_id, "accuracy/test", value, step=step)
    (audited,) = fa_tracking.audit("steps", uri, eval_data=file).runs
    assert audited.report is not None and (audited.epoch, audited.report.headline_acc) == (2, 0.3)


def test_a_run_of_mlflow_2_keeps_its_model_among_its_artifacts(
    data: tuple[Tensor, Tensor], file: Path, uri: str, tmp_path: Path
) -> None:
    model = net()
    mlflow.pytorch.save_model(model, tmp_path / "net", input_example=EXAMPLE, pip_requirements=["torch"])
    client = MlflowClient(uri)
    run_id = client.create_run(client.create_experiment("old")).info.run_id
    client.log_artifacts(run_id, str(tmp_path / "net"), "net")
    history = [{"artifact_path": "net", "flavors": {"pytorch": {}}}, {"artifact_path": "x", "flavors": {"sklearn": {}}}]
    client.set_tag(run_id, "mlflow.log-model.history", json.dumps(history))
    client.set_terminated(run_id)
    (audited,) = fa_tracking.audit("old", uri, eval_data=file).runs
    assert audited.report is not None
    assert audited.report.residual_norms == pytest.approx(expected(model, data).residual_norms)


def test_the_data_that_a_run_records_is_measured_on(uri: str) -> None:
    digits = load("digits")
    norm = digits.normalisation
    source = fa_tracking.DataSource(
        name="digits", loader="trainers", test_sha256=digits.test.digest, mean=norm.mean, std=norm.std
    )
    torch.manual_seed(0)
    model = resmlp.Model(digits.input_shape, digits.classes, width=8, depth=2).eval()
    inputs = norm(digits.test.inputs)
    mlflow.set_tracking_uri(uri)
    with fa_tracking.start_run(experiment="recorded", tracking_uri=uri, method="bp", seed=1) as run:
        run.log_data(source)
        mlflow.pytorch.log_model(model, name="net", input_example=inputs[:2].numpy(), pip_requirements=["torch"])
    (audited,) = fa_tracking.audit("recorded", uri).runs
    batches = [(inputs[i], digits.test.labels[i]) for i in evaluation_batches(len(inputs))]
    assert audited.report is not None, audited.problem
    assert audited.report.residual_norms == pytest.approx(diagnose(model, batches).residual_norms)


def test_a_pickle_is_not_loaded_unless_trusted(file: Path, uri: str, tmp_path: Path, cli: Cli) -> None:
    model, proof = net(), tmp_path / "loaded"
    model.trap = Opens(proof)  # type: ignore[assignment]
    log(model, "pickled", uri, serialization_format="pickle")
    proof.unlink(missing_ok=True)
    log(net(), "pickled", uri)
    done = cli("audit", "--experiment", "pickled", "--eval-data", str(file))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"the logged model 'model' is pickled, .*give --trust-pickles", done.stderr)
    assert done.stdout.count("epoch") == 1 and len(done.stdout.splitlines()) > 2  # the other run is measured
    assert not proof.exists()
    fa_tracking.audit("pickled", uri, eval_data=file, trust_pickles=True)
    assert proof.exists()


@pytest.mark.parametrize("where", ["expr_str", "target", "sample_inputs"])
def test_an_exported_model_that_would_run_code_is_not_loaded(where: str, exported_file: Path, tmp_path: Path) -> None:
    proof, crafted = tmp_path / "ran", tmp_path / "crafted.pt2"
    code = f"__import__('pathlib').Path('{proof}').touch()"
    with zipfile.ZipFile(exported_file) as whole, zipfile.ZipFile(crafted, "w") as made:
        for record in whole.infolist():
            content = whole.read(record)
            if record.filename.endswith("models/model.json") and where != "sample_inputs":
                changed = re.sub(rf'"{where}": "[^"]*"', f'"{where}": "{code}"', content.decode(), count=1)
                assert changed != content.decode()
                content = changed.encode()
            if "sample_inputs" in record.filename and where == "sample_inputs":
                torch.save(Opens(proof), tmp_path / "x.pt")
                content = (tmp_path / "x.pt").read_bytes()
            made.writestr(record.filename, content)
    with pytest.raises(FATrackError, match="give --trust-pickles"):
        exported.load(crafted, trusted=False)
    assert not proof.exists()


def test_an_exported_transformer_shows_the_states_of_its_model(tmp_path: Path) -> None:
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    model = VisionTransformer(16, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=3).eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.1)
    shapes = [{0: torch.export.Dim.AUTO}]
    torch.export.save(
        torch.export.export(model, (torch.zeros(2, 3, 16, 16),), dynamic_shapes=shapes), tmp_path / "v.pt2"
    )
    batches = [(torch.randn(6, 3, 16, 16), torch.randint(0, 3, (6,))) for _ in range(8)]
    whole, of_graph = diagnose(model, batches), diagnose(exported.load(tmp_path / "v.pt2", trusted=False), batches)
    assert of_graph.residual_norms == pytest.approx(whole.residual_norms)
    assert of_graph.bp_grad_norms == pytest.approx(whole.bp_grad_norms, rel=1e-5)
    assert of_graph.cross_batch_stability == pytest.approx(whole.cross_batch_stability, abs=1e-5)
    assert len(whole.residual_norms) == 3


def test_what_stands_in_the_way_of_one_run_is_said_and_the_others_go_on(file: Path, uri: str, tmp_path: Path) -> None:
    training, damaged, plain = net().train(), net(), net()
    log(training, "mixed", uri)
    _, damaged_model = log(damaged, "mixed", uri)
    log(plain, "mixed", uri)
    empty = MlflowClient(uri).create_run(MlflowClient(uri).get_experiment_by_name("mixed").experiment_id).info.run_id
    MlflowClient(uri).set_terminated(empty)
    location = Path(MlflowClient(uri).get_logged_model(damaged_model).artifact_location.removeprefix("file://"))
    (location / "data/model.pt2").write_bytes(b"no archive")
    result = fa_tracking.audit("mixed", uri, eval_data=file)
    problems = [a.problem or "" for a in result.runs]
    assert "exported in training mode" in problems[0] and "model.eval()" in problems[0]
    assert "model.pt2 is damaged" in problems[1]
    assert problems[2] == ""
    assert "mlflow.pytorch.log_model" in problems[3]
    assert ["--eval-data FILE" in (a.problem or "") for a in fa_tracking.audit("mixed", uri).runs[2:3]] == [True]


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"inputs": torch.zeros(20, 3)}, "holds no labels; it holds: inputs"),
        ({"inputs": torch.zeros(20, 3), "labels": torch.zeros(19, dtype=torch.long)}, "do not fit"),
        ({"inputs": torch.zeros(20, 3), "labels": torch.zeros(20)}, "class indices"),
        ({"inputs": torch.zeros(20, 3), "labels": torch.full((20,), -1)}, "class indices from 0; got -1"),
    ],
)
@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_evaluation_data_that_makes_no_sense_is_refused(tensors: dict, says: str, kind: str, tmp_path: Path) -> None:
    from fa_tracking.auditor.evidence import eval_data

    path = tmp_path / f"data.{kind}"
    if kind == "npz":
        np.savez(path, **{k: v.numpy() for k, v in tensors.items()})
    else:
        save_file(tensors, path)
    with pytest.raises(UsageError, match=says):
        eval_data.read(path)


def test_evaluation_data_is_never_unpickled(tmp_path: Path) -> None:
    from fa_tracking.auditor.evidence import eval_data

    proof = tmp_path / "ran"
    np.savez(tmp_path / "x.npz", inputs=np.array([Opens(proof)] * 20, dtype=object), labels=np.zeros(20, int))
    with pytest.raises(UsageError, match="cannot be read"):
        eval_data.read(tmp_path / "x.npz")
    assert not proof.exists()
    (tmp_path / "y.pkl").write_bytes(os.urandom(9))
    with pytest.raises(UsageError, match="safetensors or"):
        eval_data.read(tmp_path / "y.pkl")


def test_layers_of_a_logged_model_are_those_that_are_named(data: tuple[Tensor, Tensor], file: Path, uri: str) -> None:
    log(net(), "named", uri)
    (audited,) = fa_tracking.audit("named", uri, eval_data=file, layers=["embed", "blocks.1"]).runs
    assert audited.report is not None, audited.problem
    assert len(audited.report.residual_norms) == 2
    (wrong,) = fa_tracking.audit("named", uri, eval_data=file, layers=["nope"]).runs
    assert wrong.problem is not None and "no module 'nope'" in wrong.problem and "\n" not in wrong.problem
