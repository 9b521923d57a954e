"""Impossible numbers are refused in one line at every door; what an exploding network really gives is carried."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from click.testing import CliRunner
from conftest import tiny
from mlflow import MlflowClient
from torch import nn

import fa_tracking
from fa_tracking import DiagnosticReport
from fa_tracking.cli import main
from fa_tracking.importers import import_logs
from fa_tracking.protocol.functional_report import Effect, Functional
from fa_tracking.protocol.knockout import Knockout
from fa_tracking.protocol.report import PartialReport
from fa_tracking.tracking.possible import refuse_impossible
from fa_tracking.trainers.tracked import train

REPORT = {
    "method_name": "dfa",
    "notes": "",
    "residual_norms": [1.0, 2.0, 3.0],
    "bp_grad_norms": [1e-3, 1e-3, 1e-3],
    "stability_layer": 1,
    "cross_batch_stability": 0.1,
    "headline_acc": 0.6,
    "frozen_baseline_acc": 0.3,
}
LAYERS = {"residual_norms": {0: 1.0, 2: 3.0}, "bp_grad_norms": {2: 1e-3}, "depth": 2}
LAYERS |= {k: REPORT[k] for k in ("method_name", "notes", "cross_batch_stability", "headline_acc")}
LAYERS |= {"frozen_baseline_acc": None}

IMPOSSIBLE = [
    ({"cross_batch_stability": -7}, "cross_batch_stability: a cosine is in [-1, 1], got -7"),
    ({"headline_acc": 61.0}, "headline_acc: an accuracy is a share in [0, 1], not a percentage, got 61.0"),
    ({"frozen_baseline_acc": -0.1}, "frozen_baseline_acc: an accuracy is a share"),
    ({"n_batches": -1}, "n_batches: Input should be greater than or equal to 0, got -1"),
    ({"n_batches": math.nan}, "n_batches: "),
    ({"n_batches": 1.5}, "n_batches: "),
    ({"grad_gain": -1e-3}, "grad_gain: a norm is not negative, got -0.001"),
    ({"stream_growth": -2.0}, "stream_growth: a norm is not negative"),
    ({"chance_error": -0.9}, "chance_error: a norm is not negative"),
    ({"thresholds": {"stability_drift_ceiling": 3}}, "thresholds.stability_drift_ceiling: "),
]
OF_LISTS = [
    ({"residual_norms": [1.0, -2.0, 3.0]}, "residual_norms.1: a norm is not negative, got -2.0"),
    ({"bp_grad_norms": [1.0, 1.0, -1e-9]}, "bp_grad_norms.2: a norm is not negative"),
    ({"bp_grad_norms": [1.0, 1.0]}, "unequal numbers of layers: 3 residual_norms, 2 bp_grad_norms"),
    ({"states": ["input of blocks.0"]}, "unequal numbers of layers: 3 residual_norms, 3 bp_grad_norms, 1 states"),
    ({"stability_layer": -1}, "stability_layer: "),
]
OF_LAYERS = [
    ({"residual_norms": {-1: 1.0}}, "a layer of residual_norms is not negative, got -1"),
    ({"bp_grad_norms": {-1: 1.0}}, "a layer of bp_grad_norms is not negative, got -1"),
    ({"bp_grad_norms": {0.5: 1.0}}, "a layer of bp_grad_norms is a whole number, not 0.5"),
    ({"residual_norms": {10**9: 1.0}}, "a layer of residual_norms is 9999 at the most, got 1000000000"),
    ({"residual_norms": {1: -1.0}}, "residual_norms.1: a norm is not negative"),
    ({"deepest_grad_norm": -1.0, "bp_grad_norms": {}}, "bp_grad_norms.2: a norm is not negative"),
    ({"depth": -1}, "depth is not negative, got -1"),
    ({"depth": 2.5}, "depth is a whole number, not 2.5"),
    ({"max_block_growth": -1.0}, "max_block_growth: a norm is not negative"),
]


def refused(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError) as found:
        make()
    assert str(found.value).startswith(says) and "\n" not in str(found.value)


@pytest.mark.parametrize(("changes", "says"), [*IMPOSSIBLE, *OF_LISTS])
def test_a_report_refuses_an_impossible_number_by_name(changes: dict[str, Any], says: str) -> None:
    refused(lambda: DiagnosticReport(**{**REPORT, **changes}), says)
    refused(lambda: DiagnosticReport.from_dict({**DiagnosticReport(**REPORT).to_dict(), **changes}), says)


def test_a_number_that_is_given_by_its_place_is_refused_by_its_name() -> None:
    refused(lambda: DiagnosticReport(*{**REPORT, "headline_acc": 61.0}.values()), "headline_acc: an accuracy")
    refused(lambda: DiagnosticReport(*range(99)), "DiagnosticReport takes 24 values, not 99")
    refused(lambda: DiagnosticReport("bp", ""), "residual_norms is missing")


@pytest.mark.parametrize(("changes", "says"), [*IMPOSSIBLE, *OF_LAYERS])
def test_partial_evidence_refuses_an_impossible_number_by_name(changes: dict[str, Any], says: str) -> None:
    refused(lambda: PartialReport.from_layers(**{**LAYERS, **changes}), says)


def test_functional_measures_and_knock_outs_refuse_impossible_numbers() -> None:
    none = Effect.missing(1)
    refused(lambda: Effect((2.0,), (0.1,), (0.5,), (0.1,), (0.1,)), "rho.0: a cosine is in [-1, 1], got 2.0")
    refused(lambda: Effect((0.5,), (0.1,), (0.5,), (0.1,), (0.1, 0.1)), "unequal numbers of layers")
    refused(lambda: Functional(8, none, none, none, (0.1,), (-0.1,)), "gamma_error.0: a norm is not negative")
    refused(lambda: Functional(8, none, none, none, (0.1, 0.1), (0.1, 0.1)), "unequal numbers of layers")
    refused(lambda: Functional(-8, none, none, none, (0.1,), (0.1,)), "samples: ")
    refused(lambda: Knockout(10, 0.5, (0.5, 50.0), 0.1), "without.1: an accuracy is a share")
    functional = Functional(8, none, none, none, (0.1,), (0.1,))
    refused(lambda: DiagnosticReport(**REPORT, functional=functional), "unequal numbers of layers")


@pytest.mark.parametrize("real", [math.nan, math.inf, -math.inf])
def test_a_number_of_an_exploded_network_is_carried_and_flagged(real: float) -> None:
    for name in ("cross_batch_stability", "headline_acc", "frozen_baseline_acc", "grad_gain", "stream_growth"):
        report = DiagnosticReport(**{**REPORT, name: real})
        assert "n" in report.flags and str(getattr(report, name)) == str(real)
    refuse_impossible({"alignment/l0": real, "residual_norm/h1": real, "accuracy/test": real})


@pytest.mark.parametrize("cosine", [1.0000001, -1.0000001, 1.0078125])
def test_a_cosine_beyond_1_by_rounding_passes(cosine: float) -> None:
    assert DiagnosticReport(**{**REPORT, "cross_batch_stability": cosine}).cross_batch_stability == cosine
    refuse_impossible({"alignment/l0": cosine})
    refused(lambda: refuse_impossible({"alignment/l0": 1.05}), "alignment/l0: a cosine is in [-1, 1], got 1.05")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    draw = torch.Generator().manual_seed(1)
    return [(torch.randn(16, 6, generator=draw), torch.randint(3, (16,), generator=draw)) for _ in range(10)]


def test_diagnose_refuses_an_accuracy_before_it_measures() -> None:
    refused(
        lambda: fa_tracking.diagnose(net(), [], headline_acc=61.0), "headline_acc: an accuracy is a share in [0, 1]"
    )
    refused(lambda: fa_tracking.diagnose(net(), [], frozen_baseline_acc=-1), "frozen_baseline_acc: an accuracy is")


@pytest.mark.parametrize(
    ("epoch", "given", "says"),
    [
        (-1, {}, "epoch is not negative, got -1"),
        (1.5, {}, "epoch is a whole number, not 1.5"),
        (math.nan, {}, "epoch is a whole number, not nan"),
        (1, {"accuracy": 61.0}, "accuracy/test: an accuracy is a share in [0, 1], not a percentage, got 61"),
        (1, {"metrics": {"alignment/l0": -7}}, "alignment/l0: a cosine is in [-1, 1], got -7"),
        (1, {"metrics": {"alignment_null/l0": 7}}, "alignment_null/l0: a cosine"),
        (1, {"metrics": {"alignment_null_sd/l0": -1}}, "alignment_null_sd/l0: a norm"),
        (1, {"metrics": {"perturbation_bp/l3": 7}}, "perturbation_bp/l3: a cosine"),
        (1, {"metrics": {"residual_norm/h-1": 7}}, "residual_norm/h-1 is of a negative layer: h_0 is the first"),
        (1, {"metrics": {"diagnostics/stability": -7}}, "diagnostics/stability: a cosine"),
        (1, {"metrics": {"diagnostics/grad_gain": "x"}}, "diagnostics/grad_gain is a number, not 'x'"),
    ],
)
def test_log_epoch_refuses_an_impossible_number_and_logs_nothing_of_it(
    epoch: Any, given: dict[str, Any], says: str, uri: str
) -> None:
    with fa_tracking.start_run("e", method="bp", seed=1, tracking_uri=uri) as run:
        refused(lambda: run.log_epoch(epoch, net(), batches(), **given), says)
        run.log_epoch(1, net(), batches(), accuracy=1.0000001, metrics={"mine": -7.0, "loss/train": math.nan})
    metrics = MlflowClient(uri).get_run(run.run_id).data.metrics
    assert metrics["mine"] == -7.0 and "residual_norm/h-1" not in metrics


def test_an_imported_log_with_an_impossible_cosine_is_one_line_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("epoch,test_acc,alignment/l1\n1,0.5,0.1\n2,0.5,-7\n")
    (tmp_path / "b.csv").write_text("epoch,test_acc,alignment/l1\n1,0.5,0.1\n2,0.5,nan\n")
    bad, good = import_logs("csv", [tmp_path], "mine", dry_run=True)
    assert bad.problem == "epoch 2: 'alignment/l1': alignment/l1: a cosine is in [-1, 1], got -7"
    assert good.state == "found"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epoch": [1, -2]}, "an epoch is not negative, got -2"),
        ({"epoch": [1.0, 1.5]}, "an epoch is a whole number, not 1.5"),
        ({"diagnostics/stability": [0.1, -7.0]}, r"diagnostics/stability: a cosine is in \[-1, 1\], got -7"),
        ({"accuracy/test": [31.0, 0.3]}, "accuracy/test: an accuracy is a share"),
        ({"residual_norm/h4": [-1.0, 4e8]}, "residual_norm/h4: a norm is not negative, got -1"),
    ],
)
def test_a_frame_of_impossible_numbers_is_refused_by_the_evaluator(
    changes: dict[str, Any], says: str, uri: str
) -> None:
    import pandas as pd

    rows = {"epoch": [1.0, 2.0], "residual_norm/h4": [90.0, math.inf], "accuracy/test": [0.2, math.nan]}
    mlflow.set_tracking_uri(uri)
    with mlflow.start_run(), pytest.raises(fa_tracking.errors.UsageError, match=says):
        mlflow.models.evaluate(
            data=pd.DataFrame({**rows, **changes}), model_type="feedback_alignment", evaluators="fa_protocol"
        )
    with mlflow.start_run():
        found = mlflow.models.evaluate(
            data=pd.DataFrame(rows), model_type="feedback_alignment", evaluators="fa_protocol"
        )
    assert "n" in found.artifacts["report.json"].content["flags"]


def test_an_old_run_of_impossible_numbers_is_one_line_of_its_audit_and_the_others_go_on(uri: str) -> None:
    client = MlflowClient(uri)
    experiment = client.create_experiment("old")
    for step, metrics in (
        (3, {"residual_norm/h1": 2.0, "diagnostics/stability": -7.0}),
        (-3, {"residual_norm/h1": 2.0}),
        (3, {"residual_norm/h1": -2.0}),
        (3, {"residual_norm/h1": 2.0, "accuracy/test": 61.0}),
        (3, {"residual_norm/h1": math.nan}),
    ):
        run_id = client.create_run(experiment).info.run_id
        for key, value in metrics.items():
            client.log_metric(run_id, key, value, step=step)
        client.set_terminated(run_id)
    done = CliRunner().invoke(main, ["audit", "--experiment", "old", "--tracking-uri", uri])
    assert done.exit_code == 1 and "Traceback" not in done.output
    said = sorted(line.partition(": ")[2] for line in done.stderr.splitlines() if "logged at epoch" in line)
    assert said == [
        "logged at epoch -3: the epoch is not negative, got -3",
        "logged at epoch 3: cross_batch_stability: a cosine is in [-1, 1], got -7.0",
        "logged at epoch 3: headline_acc: an accuracy is a share in [0, 1], not a percentage, got 61.0",
        "logged at epoch 3: residual_norms.1: a norm is not negative, got -2.0",
    ]
    verdicts = [run.data.tags.get("fa.verdict") for run in client.search_runs([experiment])]
    assert verdicts.count("needs walk-back: measurement is not finite") == 1 and verdicts.count(None) == 4


def test_an_impossible_cosine_beside_a_checkpoint_is_said_in_the_report_and_is_no_measurement(uri: str) -> None:
    run_id = train(tiny("dfa", epochs=1), "whole", uri)
    MlflowClient(uri).log_metric(run_id, "alignment/l0", -7.0, step=1)
    (audited,) = fa_tracking.audit("whole", uri).runs
    assert audited.problem is None
    folder = Path(MlflowClient(uri).download_artifacts(run_id, "audit"))
    text = (folder / "report.txt").read_text()
    said = "l0: not available: what was logged is impossible: alignment/l0: a cosine is in [-1, 1], got -7"
    assert said in text and json.loads((folder / "report.json").read_text())["flags"] == list(audited.report.flags)
