"""Training under Lightning and Hugging Face, tracked by a callback: what stands in the store, and nothing disturbed."""

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import fa_tracking
from fa_tracking.errors import UsageError
from fa_tracking.tracking.abort import Abort

CLASSES = 4


class Net(nn.Module):
    """Draws random numbers in training and has statistics that a careless measurement would move."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, 16), nn.Dropout(0.5)) for _ in range(2)
        )
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        h = self.embed(x)
        for block in self.blocks:
            h = h + block(h)
        logits = self.head(h)
        return logits if labels is None else (nn.functional.cross_entropy(logits, labels), logits)


def samples(n: int = 160) -> TensorDataset:
    draw = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(n, 8, generator=draw), torch.randint(0, CLASSES, (n,), generator=draw))


def eval_loader() -> DataLoader[Any]:
    """Ten batches whose reading draws from the global random state."""
    return DataLoader(samples(), batch_size=16, shuffle=True)


def steps(uri: str, run_id: str, key: str) -> dict[int, float]:
    return {m.step: m.value for m in MlflowClient(uri).get_metric_history(run_id, key)}


def checkpoints(uri: str, run_id: str) -> list[str]:
    return [Path(a.path).name for a in MlflowClient(uri).list_artifacts(run_id, "checkpoints")]


def status(uri: str, run_id: str) -> str:
    return str(MlflowClient(uri).get_run(run_id).info.status)


def same_to_the_last_bit(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.fixture(autouse=True)
def no_run_is_left_active() -> Iterator[None]:
    yield
    assert mlflow.active_run() is None


# --- start_run --------------------------------------------------------------------------------------------------------


def test_a_loop_can_log_into_a_run_that_another_opened(workspace: Path, uri: str) -> None:
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("theirs")
    with mlflow.start_run() as theirs:
        mlflow.log_params({"lr": 0.1, "seed": 1})
        own = {"method": "mine", "seed": 1}
        with pytest.raises(UsageError, match=f"run_id='{theirs.info.run_id}'"), fa_tracking.start_run(**own):
            pass
        for wrong, says in (
            ({"lr": 0.2}, "lr=0.1, not 0.2"),
            ({"experiment": "ours"}, "stands in the experiment 'theirs'"),
        ):
            with (
                pytest.raises(UsageError, match=says),
                fa_tracking.start_run(run_id=theirs.info.run_id, **own, **wrong),
            ):
                pass
        with fa_tracking.start_run(run_id=theirs.info.run_id, **own, note="new", tags={"a": "b"}) as run:
            run.log_epoch(0, Net(), list(eval_loader()), accuracy=0.25)
        assert status(uri, run.run_id) == "RUNNING"
    assert run.run_id == theirs.info.run_id
    data = MlflowClient(uri).get_run(run.run_id).data
    assert (data.params["note"], data.params["lr"], data.tags["a"]) == ("new", "0.1", "b")
    assert steps(uri, run.run_id, "accuracy/test") == {0: 0.25}
    assert status(uri, run.run_id) == "FINISHED"
    with (
        pytest.raises(ZeroDivisionError),
        mlflow.start_run() as theirs,
        fa_tracking.start_run(run_id=theirs.info.run_id, **own),
    ):
        _ = 1 / 0
    assert status(uri, theirs.info.run_id) == "FAILED"


# --- Lightning --------------------------------------------------------------------------------------------------------


def lightning_fit(
    callback: Any = None, fails: type[BaseException] | None = None, lr: float = 0.01, **options: Any
) -> Any:
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            if fails and self.current_epoch == 1:
                raise fails("on purpose")
            return self.net(*batch)[0]

        def validation_step(self, batch: list[Tensor], index: int) -> None:
            accuracy = (self.net(batch[0]).argmax(1) == batch[1]).float().mean()
            self.log("val_acc", accuracy, batch_size=len(batch[1]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr)

    pl.seed_everything(3, verbose=False)
    module = Module()
    trainer = pl.Trainer(
        **{"max_epochs": 2, "logger": False, **options},
        callbacks=[callback] if callback else [],
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(samples(), 32, shuffle=True), DataLoader(samples(), 64))
    return module


def lightning_callback(uri: str, **options: Any) -> Any:
    pytest.importorskip("lightning", reason="the extra fa-track[lightning] is not installed")
    from fa_tracking.integrations.lightning import FATrackCallback

    given = {"tracking_uri": uri, "method": "bp", "seed": 3, "model": "net", "accuracy_metric": "val_acc"}
    return FATrackCallback(**{"eval_batches": eval_loader(), **given, **options})


def test_lightning_is_tracked_and_trains_the_same_to_the_last_bit(workspace: Path, uri: str) -> None:
    callback = lightning_callback(uri, experiment="lightning", epochs=2)
    tracked, state = lightning_fit(callback), torch.get_rng_state()
    plain = lightning_fit()
    assert same_to_the_last_bit(tracked, plain)
    assert torch.equal(state, torch.get_rng_state())
    assert status(uri, callback.run_id) == "FINISHED"
    assert list(steps(uri, callback.run_id, "residual_norm/h2")) == [0, 1, 2]
    accuracy = steps(uri, callback.run_id, "accuracy/test")
    plain.eval()
    x, y = samples().tensors
    assert accuracy[2] == pytest.approx((plain.net(x).argmax(1) == y).float().mean().item())
    assert list(accuracy) == [1, 2]
    assert checkpoints(uri, callback.run_id) == ["epoch_0002"]
    (audited,) = fa_tracking.audit("lightning", uri).runs
    assert audited.report is not None and "saved without factory=" in audited.report.notes


def test_lightning_logs_into_its_own_loggers_run_and_a_broken_training_is_failed(workspace: Path, uri: str) -> None:
    callback = lightning_callback(uri)
    from lightning.pytorch.loggers import MLFlowLogger

    logger = MLFlowLogger("both", tracking_uri=uri)
    with pytest.warns(UserWarning, match="no evaluation gave val_acc for the final weights"):
        lightning_fit(callback, logger=logger, max_epochs=3, check_val_every_n_epoch=2)
    assert callback.run_id == logger.run_id
    assert status(uri, callback.run_id) == "FINISHED"
    assert list(steps(uri, callback.run_id, "accuracy/test")) == [2]  # never that of an earlier epoch's weights
    assert steps(uri, callback.run_id, "val_acc")
    for error, raised, left in ((ValueError, ValueError, "FAILED"), (KeyboardInterrupt, SystemExit, "KILLED")):
        for options in ({"logger": MLFlowLogger("both", tracking_uri=uri)}, {}):
            with pytest.raises(raised):
                lightning_fit(callback, error, **options)
            assert status(uri, callback.run_id) == ("FAILED" if options else left)  # its logger says FAILED of both
    with pytest.raises(UsageError, match="'nonsense' is not among the metrics of evaluation: val_acc"):
        lightning_fit(lightning_callback(uri, accuracy_metric="nonsense"))


def test_lightning_stops_where_a_flag_holds(workspace: Path, uri: str) -> None:
    callback = lightning_callback(uri, abort=Abort("n", patience=2), checkpoint_every=2)
    lightning_fit(callback, lr=1e30, max_epochs=9)
    tags = MlflowClient(uri).get_run(callback.run_id).data.tags
    assert (tags["fa.aborted_at"], tags["fa.aborted_for"]) == ("2", "n")
    assert checkpoints(uri, callback.run_id) == ["epoch_0000", "epoch_0002"]
    assert status(uri, callback.run_id) == "FINISHED"


# --- Hugging Face -----------------------------------------------------------------------------------------------------


def hugging_face_train(folder: Path, callback: Any = None, **options: Any) -> Net:
    from transformers import Trainer, TrainingArguments, set_seed

    set_seed(3)
    model = Net()
    given = {"num_train_epochs": 2, "per_device_train_batch_size": 32, "eval_strategy": "epoch", "save_strategy": "no"}
    quiet = {"report_to": "none", "use_cpu": True, "disable_tqdm": True}
    trainer = Trainer(
        model,
        TrainingArguments(**{"output_dir": str(folder), "seed": 3, **given, **quiet, **options}),
        train_dataset=samples(),
        eval_dataset=samples(),
        data_collator=lambda rows: {
            "x": torch.stack([x for x, _ in rows]),
            "labels": torch.stack([y for _, y in rows]),
        },
        compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
        callbacks=[callback] if callback else [],
    )
    trainer.train()
    return model


def hugging_face_callback(uri: str, **options: Any) -> Any:
    pytest.importorskip("transformers", reason="the extra fa-track[transformers] is not installed")
    from fa_tracking.integrations.transformers import FATrackCallback

    given = {"tracking_uri": uri, "method": "bp", "seed": 3, "accuracy_metric": "eval_accuracy"}
    return FATrackCallback(**{"eval_batches": eval_loader(), **given, **options})


def accuracy_of(model: nn.Module) -> float:
    x, y = samples().tensors
    with torch.no_grad():
        return (model.eval()(x).argmax(1) == y).float().mean().item()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_hugging_face_is_tracked_and_trains_the_same_to_the_last_bit(
    precision: str, workspace: Path, uri: str, tmp_path: Path
) -> None:
    callback = hugging_face_callback(uri, experiment="hugging face")
    options = {"bf16": True} if precision == "bf16" else {}
    tracked, state = hugging_face_train(tmp_path, callback, **options), torch.get_rng_state()
    assert same_to_the_last_bit(tracked, hugging_face_train(tmp_path, **options))
    assert torch.equal(state, torch.get_rng_state())
    assert status(uri, callback.run_id) == "FINISHED"
    assert checkpoints(uri, callback.run_id) == ["epoch_0002"]
    assert list(steps(uri, callback.run_id, "accuracy/test")) == [1, 2]
    logged = steps(uri, callback.run_id, "residual_norm/h2")
    assert list(logged) == [0, 1, 2]
    final = Net()
    final.load_state_dict(tracked.state_dict())
    measured = fa_tracking.diagnose(final, list(eval_loader())).residual_norms[2]
    assert logged[2] == pytest.approx(measured, rel=1e-5)  # in full precision, whatever training computes in


def test_hugging_face_logs_into_the_run_of_its_own_mlflow_callback(workspace: Path, uri: str, tmp_path: Path) -> None:
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("joined")
    callback = hugging_face_callback(uri)
    hugging_face_train(tmp_path, callback, report_to="mlflow", logging_steps=1)
    (run,) = mlflow.search_runs(experiment_names=["joined"], output_format="list")
    assert run.info.run_id == callback.run_id
    assert run.info.status == "FINISHED"
    assert {"accuracy/test", "eval_accuracy", "grad_norm/g2", "loss"} <= run.data.metrics.keys()
    assert run.data.params["seed"] == "3"
    with pytest.raises(UsageError, match="already has seed=3, not 4: a param of a run cannot change"):
        hugging_face_train(tmp_path, hugging_face_callback(uri, seed=4), report_to="mlflow")
    mlflow.end_run("FAILED")


def test_hugging_face_saves_the_best_model_under_the_epoch_that_it_is_of(
    workspace: Path, uri: str, tmp_path: Path
) -> None:
    callback = hugging_face_callback(uri)
    best = {"load_best_model_at_end": True, "metric_for_best_model": "accuracy", "save_strategy": "epoch"}
    model = hugging_face_train(tmp_path, callback, num_train_epochs=4, learning_rate=0.5, **best)
    accuracy = steps(uri, callback.run_id, "accuracy/test")
    (saved,) = checkpoints(uri, callback.run_id)
    assert accuracy[int(saved.removeprefix("epoch_"))] == max(accuracy.values()) == pytest.approx(accuracy_of(model))
    assert max(accuracy.values()) > accuracy[4], "the best model is the last one: choose another seed"


def test_hugging_face_stops_where_a_flag_holds_and_names_a_metric_that_is_not_there(
    workspace: Path, uri: str, tmp_path: Path
) -> None:
    callback = hugging_face_callback(uri, abort=Abort("n"))
    hugging_face_train(tmp_path, callback, num_train_epochs=9, learning_rate=1e38, max_grad_norm=0)
    assert MlflowClient(uri).get_run(callback.run_id).data.tags["fa.aborted_at"] == "1"
    callback = hugging_face_callback(uri, accuracy_metric="accuracy")
    with pytest.raises(UsageError, match="'accuracy' is not among the metrics of evaluation: epoch, eval_accuracy"):
        hugging_face_train(tmp_path, callback)
    assert status(uri, callback.run_id) == "FAILED"
    with pytest.warns(UserWarning, match="no evaluation gave eval_accuracy"):
        hugging_face_train(tmp_path, callback := hugging_face_callback(uri), eval_strategy="no")
    assert status(uri, callback.run_id) == "FINISHED"
    assert steps(uri, callback.run_id, "accuracy/test") == {}


def test_a_hugging_face_training_that_breaks_off_leaves_a_failed_run(workspace: Path, uri: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra fa-track[transformers] is not installed")
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_integrations as t, pathlib
class Breaks(t.Net):
    calls = 0
    def forward(self, x, labels=None):
        Breaks.calls += labels is not None
        if Breaks.calls > 7:
            raise KeyboardInterrupt
        return super().forward(x, labels)
t.Net = Breaks
t.mlflow.set_tracking_uri({uri!r})
t.mlflow.set_experiment(sys.argv[1])
t.hugging_face_train(pathlib.Path({str(tmp_path)!r}), t.hugging_face_callback({uri!r}), report_to=sys.argv[1])
"""
    client = MlflowClient(uri)
    made = {report_to: client.create_experiment(report_to) for report_to in ("none", "mlflow")}  # their callback's name
    command = [sys.executable, "-c", program]
    piped = partial(subprocess.Popen, stderr=subprocess.PIPE, text=True)
    started = [piped([*command, report_to]) for report_to in made]
    for process, experiment in zip(started, made.values(), strict=True):
        assert process.communicate()[1].endswith("KeyboardInterrupt\n")
        (run,) = client.search_runs([experiment])
        assert run.info.status == "FAILED"
        assert "residual_norm/h0" in run.data.metrics


# --- without the extras -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("framework", "extra"), [("lightning", "lightning"), ("transformers", "transformers")])
def test_without_the_extra_one_line_names_it(framework: str, extra: str) -> None:
    program = f"import sys; sys.modules[{framework!r}] = None; import fa_tracking.integrations.{framework}"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"pip install 'fa-track[{extra}]'")
    assert done.stderr.count("Traceback") == 1


# --- the document -----------------------------------------------------------------------------------------------------


def test_every_loop_of_the_document_is_tracked(workspace: Path, uri: str) -> None:
    for extra in ("lightning", "transformers"):
        pytest.importorskip(extra, reason=f"the extra fa-track[{extra}] is not installed")
    text = (Path(__file__).parent.parent / "docs/how-to/any-loop.md").read_text()
    setup, *loops = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(loops) == 3
    mlflow.set_tracking_uri(uri)
    for loop in loops:
        names: dict[str, Any] = {}
        exec(setup + loop, names)
        run_id = names["tracked" if "tracked" in names else "run"].run_id
        assert list(steps(uri, run_id, "accuracy/test")) == [1, 2, 3]
        assert list(steps(uri, run_id, "grad_norm/g4")) == [0, 1, 2, 3]
        assert checkpoints(uri, run_id) == ["epoch_0003"]
