"""Labels, outputs and batches as people have them: measured alike, said, or refused in one line."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from torch import Tensor, nn

import fa_tracking
from fa_tracking import DiagnosticReport, diagnose
from fa_tracking.errors import UsageError
from fa_tracking.protocol.batches import are_sorted, evaluation_batches
from fa_tracking.protocol.diagnostics import grad_norm
from fa_tracking.protocol.probe import capture_all

Batches = list[tuple[Tensor, Tensor]]


def batches(n: int = 128, count: int = 10, classes: int = 4) -> Batches:
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(n, 6, generator=draw), torch.randint(classes, (n,), generator=draw)) for _ in range(count)]


def net(*last: nn.Module, classes: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    body = [nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, classes)]
    return nn.Sequential(*body, *last)


@pytest.mark.parametrize(
    "kind", [torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64]
)
def test_labels_of_any_integer_type_give_the_same_report(kind: torch.dtype) -> None:
    assert diagnose(net(), [(x, y.to(kind)) for x, y in batches()]) == diagnose(net(), batches())


def test_inference_mode_changes_no_number() -> None:
    expected = diagnose(net(), batches())
    with torch.inference_mode():
        made = [(x.clone(), y.clone()) for x, y in batches()]
        assert diagnose(net(), batches()) == expected
        model = net()
    assert diagnose(net(), made) == expected
    assert diagnose(model, batches()) == expected


def test_epochs_and_numbers_of_numpy_and_torch_are_logged(tmp_path: Any) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    params = {"architecture": "n", "width": 16, "depth": 1, "dataset": "d", "epochs": np.int64(2), "batch_size": 128}
    with fa_tracking.start_run(
        "e", method="bp", seed=np.int32(1), frozen_blocks=False, tracking_uri=uri, **params
    ) as run:
        for epoch in np.arange(1, 3):
            run.log_epoch(epoch, net(), batches(), accuracy=np.float32(0.25), metrics={"m": torch.tensor(1.5)})
        run.log_metrics({"last": np.float64(2)}, torch.tensor(2))
        run.log_checkpoint(net(), epoch=np.uint8(2))
        with pytest.raises(UsageError, match=r"epoch is a whole number, not 1.5"):
            run.log_epoch(1.5, net(), batches())  # type: ignore[arg-type]
    client = MlflowClient(uri)
    assert [m.step for m in client.get_metric_history(run.run_id, "accuracy/test")] == [1, 2]
    assert client.get_run(run.run_id).data.metrics["last"] == 2.0
    assert [a.path for a in client.list_artifacts(run.run_id, "checkpoints")] == ["checkpoints/epoch_0002"]


class Halved(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1).bfloat16()


@pytest.mark.parametrize("last", [nn.Softmax(-1), nn.Sequential(nn.LogSoftmax(-1), nn.Softmax(-1)), Halved()])
def test_outputs_that_are_probabilities_are_refused(last: nn.Module) -> None:
    with pytest.raises(
        ValueError, match=r"the outputs are probabilities, each row sums to 1: let the model return logits"
    ):
        diagnose(net(last), batches())
    assert diagnose(net(nn.LogSoftmax(-1)), batches()).grad_gain is not None


def test_logits_of_one_class_are_refused() -> None:
    with pytest.raises(ValueError, match="logits of one class: cross-entropy needs two or more"):
        diagnose(net(classes=1), [(x, y * 0) for x, y in batches()])


class OverBatch(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h - h.mean(0)


@pytest.mark.parametrize("coupling", [lambda: nn.BatchNorm1d(16, track_running_stats=False), OverBatch])
def test_a_network_whose_samples_depend_on_each_other_is_said(coupling: Any) -> None:
    def remarks(middle: nn.Module) -> tuple[str, ...]:
        torch.manual_seed(0)
        layers = [nn.Linear(6, 16), middle, nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)]
        return diagnose(nn.Sequential(*layers), batches()).remarks

    said = "a sample's logits depend on the other samples of its batch"
    assert any(remark.startswith(said) for remark in remarks(coupling()))
    assert not any(remark.startswith(said) for remark in remarks(nn.BatchNorm1d(16)))


def confident(scale: float) -> tuple[nn.Module, Batches]:
    """Two classes far apart; logits ± ``scale``."""
    labels = torch.arange(1280) % 2
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(1280, 6, generator=draw) * 0.1 + (2.0 * labels[:, None] - 1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.fill_(0.1)  # tanh is far from its ends: there float32 knows no digit of its slope
            layer.bias.zero_()
        model[4].weight.copy_(torch.stack([-torch.ones(16), torch.ones(16)]) * scale / 16)
        model[4].bias.zero_()
    return model, [(x[i], labels[i]) for i in torch.randperm(1280, generator=draw).split(128)]


@pytest.mark.parametrize("scale", [1.0, 30.0, 80.0, 300.0, 1000.0])
def test_a_network_that_is_sure_and_right_has_not_collapsed_whatever_its_error_underflows_to(scale: float) -> None:
    model, given = confident(scale)
    report = diagnose(model, given)
    doubled = diagnose(model.double(), [(x.double(), y) for x, y in given])
    assert report.grad_gain == pytest.approx(doubled.grad_gain, rel=1e-5)
    assert report.grad_gain == pytest.approx(diagnose(confident(1.0)[0], given).grad_gain * scale, rel=1e-4)
    assert "b" not in report.flags and "b" not in doubled.flags
    if scale > 5:
        assert "small gradient explained by small error" in str(report)
    if scale in (80.0, 300.0):  # e is below 1e-38 and above 1e-308
        assert report.bp_grad_norms[-1] == pytest.approx(doubled.bp_grad_norms[-1], rel=1e-3, abs=0)
        assert report.cross_batch_stability == pytest.approx(doubled.cross_batch_stability, abs=1e-4)


def test_a_few_wrong_samples_do_not_hide_that_the_others_are_right() -> None:
    model, given = confident(100.0)
    given = [(x, torch.cat([1 - y[:3], y[3:]])) for x, y in given]
    report = diagnose(model, given)
    assert report.bp_grad_norms[-1] < 1e-30 and "b" not in report.flags
    assert report.grad_gain == pytest.approx(diagnose(confident(1.0)[0], given).grad_gain * 100, rel=1e-4)


def test_an_error_of_zero_and_a_read_out_of_zeros_are_told_apart_and_true_of_every_batch() -> None:
    zero, nothing = "the gradient is exactly zero at every state: the output error is, in every batch", net()
    model, given = confident(1000.0)
    assert zero in diagnose(model, given).remarks
    wrong = [(x, 1 - y) for x, y in given[:1]] + given[1:]
    assert not any("exactly zero" in remark for remark in diagnose(model, wrong).remarks)
    nn.init.zeros_(nothing[-1].weight)
    remark = "the gradient is exactly zero at every state: nothing flows back through the read-out"
    assert remark in diagnose(nothing, batches()).remarks


def test_a_collapsed_network_still_fires_however_large_its_error() -> None:
    model = net()
    with torch.no_grad():
        model[4].weight.mul_(1e-8)
    report = diagnose(model, batches())
    assert "b" in report.flags and report.grad_gain < 1e-7


def test_c_counts_only_batches_that_have_a_direction() -> None:
    model, given = confident(1000.0)
    wrong = [(x, 0 * y) for x, y in given]
    seven, eight = diagnose(model, wrong[:7] + given[7:]), diagnose(model, wrong[:8] + given[8:])
    assert seven.cross_batch_stability is None and "fewer than 8 batches have a gradient with a direction" in str(seven)
    assert seven.kinds["c"] == "not measured" and not seven.verdict.startswith("trustworthy")
    only = diagnose(model, wrong[:8])
    assert eight.cross_batch_stability == pytest.approx(only.cross_batch_stability)
    assert "8 of 10 batches have a mean gradient with a direction; (c) counts these" in eight.remarks


@pytest.mark.parametrize("size", [64, 127, 129, 400])
def test_batches_that_are_not_of_128_are_said(size: int) -> None:
    said = f"10 batches of {size} samples, the thresholds are for 10 of 128: (c) depends on the size"
    assert said in diagnose(net(), batches(size)).remarks
    assert not any("depends on the size" in remark for remark in diagnose(net(), batches()).remarks)
    mixed = [*batches()[:9], *batches(100, 1)]
    assert any(remark.startswith("10 batches of 100 to 128 samples") for remark in diagnose(net(), mixed).remarks)


def test_batches_in_the_order_of_their_labels_are_said_and_random_ones_are_not() -> None:
    labels = torch.arange(4000) % 10
    x = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0))

    def remarks(order: Tensor) -> list[str]:
        given = [(x[i], labels[i]) for i in order[:1280].split(128)]
        return [r for r in diagnose(net(classes=10), given).remarks if "not spread over the batches" in r]

    ordered = labels.argsort(stable=True)
    assert remarks(ordered)
    assert remarks(torch.cat([ordered[k * 400 : k * 400 + 128] for k in range(10)]))
    assert not remarks(torch.cat(evaluation_batches(4000)))
    assert not remarks(torch.randperm(4000, generator=torch.Generator().manual_seed(5)))


def test_random_orders_are_hardly_ever_taken_for_sorted_ones() -> None:
    draw = torch.Generator().manual_seed(0)
    for classes, size, count in [(2, 128, 10), (10, 128, 10), (100, 16, 8), (1000, 128, 10), (3, 2, 8)]:
        for _ in range(40):
            labels = (torch.rand(size * count, generator=draw) ** 2 * classes).long()
            assert not are_sorted(list(labels.split(size)))
            half = torch.cat([labels[: len(labels) // 2].sort().values, labels[len(labels) // 2 :]])
            if classes == 10:
                assert are_sorted(list(half.split(size)))
    assert not are_sorted([torch.zeros(5)] * 3) and not are_sorted([torch.arange(5)])


def judged(headline: float, control: float) -> DiagnosticReport:
    return DiagnosticReport("", "", (1.0, 1.0), (1e-3, 1e-3), 0, 0.1, headline, control)


def test_two_percentage_points_are_not_below_two_whatever_rounding_makes_of_them() -> None:
    for hits in range(0, 9800):
        for kind in (float, np.float32):
            headline, control = float(kind((hits + 200) / 10000)), float(kind(hits / 10000))
            assert judged(headline, control).flags == (), (headline, control)
    below = [(hits, judged((hits + 199) / 10000, hits / 10000).flags) for hits in range(0, 9800, 97)]
    assert all(flags == ("d",) for _, flags in below)
    thirds = [judged((c + 3) / 150, sum([c / 150] * 3) / 3).flags for c in range(140)]
    assert set(thirds) == {()}


def test_a_margin_that_fires_is_not_printed_as_the_threshold() -> None:
    shown = str(judged(0.519998, 0.5))
    assert "margin = +1.9998 pp   (fires below 2 pp)" in shown and "FLAG" in shown
    assert "margin = +2.00 pp" in str(judged(0.5, 0.48)) and "FLAG" not in str(judged(0.5, 0.48))


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_the_error_at_chance_is_that_of_the_networks_classes(classes: int) -> None:
    report = diagnose(net(classes=classes), batches(classes=classes))
    uniform = torch.full((classes,), 1 / classes, dtype=torch.float64)
    uniform[0] -= 1
    assert report.chance_error == pytest.approx(float(uniform.norm()), rel=1e-12)
    floor = report.thresholds.g_norm_floor

    def flags(gain: float) -> tuple[str, ...]:
        return DiagnosticReport(
            "", "", (1.0, 1.0), (1e-3, 1e-9), 0, 0.1, None, None, grad_gain=gain, chance_error=report.chance_error
        ).flags

    assert flags(floor / report.chance_error * 1.001) == () and flags(floor / report.chance_error * 0.999) == ("b",)


def test_a_report_of_an_older_revision_is_read_and_says_which() -> None:
    old = {
        "method_name": "dfa", "notes": "", "residual_norms": [1.0, 60.0], "bp_grad_norms": [1e-3, 5e-8],
        "stability_layer": 0, "cross_batch_stability": 0.1, "headline_acc": 0.3, "frozen_baseline_acc": None,
        "thresholds": {"g_norm_floor": 1e-7}, "grad_gain": 1e-3, "protocol_version": "1.0", "evidence": "full",
        "kinds": {}, "max_per_block_growth": 60.0, "margin_pp": None, "flags": ["a"], "verdict": "", "knockout": {},
    }  # fmt: skip
    report = DiagnosticReport.from_dict(old)
    assert report.flags == ("a",) and report.protocol_version == report.to_dict()["protocol_version"] == "1.0"
    assert "protocol 1, measurement revision 1.0" in str(report)
    assert report.stream_growth is report.chance_error is report.reference is None
    assert "measurement revision 1.1" in str(diagnose(net(), batches()))
    assert math.isclose(1e-3 * 0.95, 0.00095) and "at chance-level error: ‖g_L‖ = 0.00095" in str(report)


def test_batches_that_share_samples_are_said() -> None:
    one = batches()[0]
    said = "of the samples stand in the batches more than once: (c) is for disjoint batches"
    assert any(r == f"90 % {said}" for r in diagnose(net(), [one] * 10).remarks)
    assert not any(said in remark for remark in diagnose(net(), batches()).remarks)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="evaluation batch 2 is empty"):
        diagnose(net(), [batches()[0], (torch.zeros(0, 6), torch.zeros(0, dtype=torch.long))])


def test_a_gradient_that_is_lost_on_its_way_back_is_not_called_a_small_error() -> None:
    captures = capture_all(net(), batches())
    lost = [replace(c, grads=[torch.zeros_like(g) for g in c.grads]) for c in captures]
    right = [replace(c, error=torch.zeros_like(c.error)) for c in lost]
    dead = [replace(c, gain=torch.zeros_like(c.gain)) for c in lost]
    said = [grad_norm.measure(seen)["remarks"] for seen in (captures, lost, right, dead)]
    assert said == [[], [grad_norm.LOST], [grad_norm.NO_ERROR], [grad_norm.NO_GRADIENT]]


def test_labels_of_numpy_are_labels() -> None:
    assert diagnose(net(), [(x, y.numpy()) for x, y in batches()]) == diagnose(net(), batches())
