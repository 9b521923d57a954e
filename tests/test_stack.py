"""A stack of learners is each of its learners alone: in float64, by rule and architecture; and in the store."""

import math
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import Cli, tiny
from mlflow import MlflowClient
from torch import fx

import fa_tracking
from fa_tracking import catalogue
from fa_tracking.cli import main
from fa_tracking.errors import UsageError
from fa_tracking.protocol.batches import Normalisation
from fa_tracking.protocol.diagnose import measure
from fa_tracking.protocol.probe import capture_all
from fa_tracking.tracking import names
from fa_tracking.tracking.abort import Abort
from fa_tracking.trainers import data, methods, models, tracked
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.data import Dataset, Split
from fa_tracking.trainers.learner import Learner, learner_of
from fa_tracking.trainers.options import RunOptions, Stacking
from fa_tracking.trainers.stacked import recorded, stack, together
from fa_tracking.trainers.stacked.stack import Stack
from fa_tracking.trainers.study import grid, schedule

PENALTIES = (0.0, 0.01, 0.001)
RATES = (1e-3, 1e-3, 3e-3)
IMAGES = (3, 8, 8)
SIZE = {"width": 16, "depth": 2, "dataset": "random"}


def images() -> Dataset:
    draw = torch.Generator().manual_seed(0)
    split = Split(torch.rand(64, *IMAGES, generator=draw), torch.randint(0, 10, (64,), generator=draw))
    return Dataset("random", split, split, Normalisation((0.5,) * 3, (0.3,) * 3), 10)


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def learners_of(method: str, architecture: str) -> list[Learner]:
    """Three learners that differ in all that a stack's may; the test skips where there is no such learner."""
    size = SIZE | ({"depth": 3} if architecture.startswith("small_cnn") else {})  # it knows no other
    try:
        return [
            learner_of(
                RunConfig(method, architecture=architecture, seed=s, penalty=p, lr=r, weight_decay=10 * r, **size),
                images(),
            )
            for s, (p, r) in enumerate(zip(PENALTIES, RATES, strict=True))
        ]
    except UsageError as refused:
        pytest.skip(str(refused))


def trained_alone(learners: list[Learner], batches: list[tuple[torch.Tensor, torch.Tensor]]) -> list[list[float]]:
    losses = []
    for x, y in batches:
        losses.append([])
        for learner, own, labels in zip(learners, x, y, strict=True):
            learner.optimizer.zero_grad()
            losses[-1].append(learner.rule.backward(learner.model, own, labels, learner.config.penalty)[0].item())
            learner.optimizer.step()
    return losses


def batches(steps: int, learners: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    draw = torch.Generator().manual_seed(1)
    return [
        (torch.randn(learners, 16, *IMAGES, generator=draw), torch.randint(0, 10, (learners, 16), generator=draw))
        for _ in range(steps)
    ]


def assert_alike(alone: Learner, stacked: Learner) -> None:
    for part in ("model", "rule"):
        mine, theirs = getattr(alone, part).state_dict(), getattr(stacked, part).state_dict()
        for name, value in mine.items():
            torch.testing.assert_close(theirs[name], value, rtol=1e-8, atol=1e-9, msg=f"{part} {name}")


def pairs() -> Iterator[tuple[str, str]]:
    """Rules and architectures: with FA_TRACK_EVERY each on each; else each rule on ResMLP and on two others in turn."""
    every, stackable = catalogue.names(models), [n for n in catalogue.names(methods) if _can_stack(n)]
    for place, method in enumerate(stackable):
        few = {"resmlp", every[place % len(every)], every[(place + 3) % len(every)]}
        yield from ((method, name) for name in every if name in few or os.environ.get("FA_TRACK_EVERY"))


def _can_stack(method: str) -> bool:
    return bool(catalogue.load(methods, method).Method.can_stack())


@pytest.mark.sample(6)
@pytest.mark.parametrize(("method", "architecture"), pairs())
def test_every_cell_of_a_stack_takes_the_steps_of_the_cell_alone(method: str, architecture: str) -> None:
    alone, stacked = learners_of(method, architecture), learners_of(method, architecture)
    for learner in (*alone, *stacked):  # Adam would make a whole step of a rounding error where a gradient is zero
        learner.optimizer.param_groups[0]["eps"] = 1e-3
    drawn = batches(recorded.UNRECORDED + 2, 3)  # the last are played from the record
    losses = trained_alone(alone, drawn)
    side_by_side = Stack(stacked)
    for (x, y), expected in zip(drawn, losses, strict=True):
        found, logits = side_by_side.train_step(x, y, torch.tensor(PENALTIES))
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-9, atol=1e-12)
        assert logits.shape == (3, 16, 10)
    for mine, theirs in zip(alone, stacked, strict=True):
        assert_alike(mine, theirs)
    side_by_side.close()
    for learners in (
        alone,
        stacked,
    ):  # each has its own tensors and moments again, and has not been moved by the others
        trained_alone(learners, drawn[:2])
    for mine, theirs in zip(alone, stacked, strict=True):
        assert_alike(mine, theirs)


@pytest.mark.parametrize("architecture", catalogue.names(models))
def test_a_stack_shows_the_states_of_each_cell_alone_recorded_or_not(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "UNRECORDED", 2)
    learners = learners_of("bp", architecture)
    whole, drawn = Stack(learners), [(x[0], y[0]) for x, y in batches(4, 1)]  # the last two are played from the record
    for x, y in batches(1, 3):  # an optimizer's step moves what the record reads
        whole.train_step(x, y, 0.0)
    seen, logits = whole.captures(drawn), [whole.logits(x).clone() for x, _ in drawn]
    for number, (learner, captures) in enumerate(zip(learners, seen, strict=True)):
        own = capture_all(learner.model, drawn)
        for mine, theirs, read_out in zip(captures, own, logits, strict=True):
            torch.testing.assert_close(read_out[number], theirs.logits, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(mine.hidden, theirs.hidden, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(mine.grads, theirs.grads, rtol=1e-7, atol=1e-12)
        assert measure(captures)["remarks"] == measure(own)["remarks"]


@pytest.mark.compile
def test_what_is_compiled_is_what_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "UNRECORDED", 2)
    monkeypatch.setattr(recorded, "UNCOMPILED", recorded.UNRECORDED + 1)
    plain, compiled = learners_of("dfa", "mlp"), learners_of("dfa", "mlp")
    stacks = Stack(plain), Stack(compiled, compiled=True)
    for x, y in batches(recorded.UNCOMPILED + 3, 3):
        expected, found = (each.train_step(x, y, torch.tensor(PENALTIES)) for each in stacks)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    for mine, theirs in zip(plain, compiled, strict=True):
        assert_alike(mine, theirs)
    monkeypatch.setattr(recorded, "UNCOMPILED", 0)  # as soon as they are recorded
    drawn = [(x[0], y[0]) for x, y in batches(3 + stack.UNRECORDED, 1)]
    for mine, theirs in zip(*(each.captures(drawn) for each in stacks), strict=True):
        for one, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(other.logits, one.logits, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(other.grads, one.grads, rtol=1e-7, atol=1e-12)
    assert all(isinstance(p, fx.GraphModule) for p in stacks[0].states.programs.values())
    assert not any(isinstance(p, fx.GraphModule) for p in stacks[1].states.programs.values())


def test_a_rule_that_draws_in_every_batch_is_not_stacked() -> None:
    with pytest.raises(ValueError, match=r"brsf cannot be stacked"):
        Stack(learners_of("brsf", "mlp"))
    alike = [replace(tiny("brsf"), seed=seed) for seed in range(3)]
    assert together.stacks(alike, 8) == [[config] for config in alike]


def test_a_rule_is_stacked_only_where_it_says_so_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = {
        "quiet": "pass",
        "willing": "stackable = True",
        "stepwise": "stackable = True; backward = lambda *_: None",
    }
    for name, body in bodies.items():
        (tmp_path / f"{name}.py").write_text(
            f"from fa_tracking.trainers.methods import dfa\nclass Method(dfa.Method): {body}\n"
        )
    (tmp_path / "bare.py").write_text(
        "from fa_tracking.trainers.method import LearningRule\nclass Method(LearningRule): pass\n"
    )
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    for name, stacked in {"bare": [1, 1], "quiet": [1, 1], "willing": [2], "stepwise": [1, 1], "dfa": [2]}.items():
        assert [len(each) for each in together.stacks([tiny(name, seed=s) for s in (1, 2)], 8)] == stacked, name
    with pytest.raises(ValueError, match=r"quiet cannot be stacked"):
        Stack(learners_of("quiet", "mlp"))


def test_stacks_hold_what_differs_in_seed_penalty_rate_and_decay_alone_and_leave_no_process_idle() -> None:
    configs = [tiny(m, seed=s, penalty=p) for s in (1, 2) for m in ("bp", "dfa") for p in (0.0, 0.1)]
    assert together.stacks(configs, 8) == [[c for c in configs if c.method == method] for method in ("bp", "dfa")]
    assert sorted(map(len, together.stacks(configs, 3))) == [1, 1, 3, 3]
    assert sorted(map(len, together.stacks(configs, 8, at_least=2))) == [4, 4]
    assert sorted(map(len, together.stacks(configs, 8, at_least=3))) == [2, 2, 4]
    assert len(together.stacks(configs, 8, at_least=20)) == 8
    assert len(together.stacks([tiny("bp"), tiny("bp", width=8), tiny("bp", batch_size=64)], 8)) == 3


def logged(client: MlflowClient, experiment: str) -> dict[str, dict[str, list[float]]]:
    """Every metric but times of every finished run, by its config."""
    found = client.get_experiment_by_name(experiment)
    assert found
    runs = client.search_runs([found.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    return {
        run.data.tags[names.TAG_CONFIG_SHA256]: {
            key: [m.value for m in sorted(client.get_metric_history(run.info.run_id, key), key=lambda m: m.step)]
            for key in run.data.metrics
            if not key.startswith("time/")
        }
        for run in runs
    }


def verdicts(uri: str, experiment: str) -> dict[str, str]:
    """Of each config, by an audit."""
    fa_tracking.audit(experiment=experiment, tracking_uri=uri, pictures=False)
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])  # type: ignore[union-attr]
    return {run.data.tags[names.TAG_CONFIG_SHA256]: run.data.tags[names.TAG_VERDICT] for run in runs}


STUDY = """
title: stacked
experiment: stacked
seeds: [1, 2]
fixed: {width: 8, depth: 2, dataset: digits, epochs: 2}
grids:
- parameters:
    method: {values: [dfa]}
    penalty: {values: [0.0, 0.01]}
    lr: {values: [0.01, 1.0e+30]}
"""


def test_a_stacked_study_logs_what_one_run_after_the_other_does_diverged_ones_included(
    workspace: Path, uri: str, cli: Cli
) -> None:
    """At a rate of 1e30 every network diverges in its first step, and must leave the others as they are."""
    torch.set_default_dtype(torch.float32)
    (workspace / "study.yaml").write_text(STUDY)
    done = cli("study", "run", "study.yaml", "--stack", "8")
    assert done.returncode == 0, done.stderr
    for config in grid.load("study.yaml").configs():
        tracked.train(config, "alone", uri)
    stacked, alone = (logged(MlflowClient(uri), experiment) for experiment in ("stacked", "alone"))
    assert stacked.keys() == alone.keys() and len(alone) == 8
    for config, metrics in alone.items():
        assert stacked[config].keys() == metrics.keys()
        for key in (names.ACCURACY_TEST, names.MAX_BLOCK_GROWTH, names.LOSS_TRAIN):
            assert stacked[config][key] == pytest.approx(metrics[key], rel=1e-3, nan_ok=True), key
    assert any(math.isnan(v) for metrics in stacked.values() for v in metrics[names.LOSS_TRAIN])
    assert verdicts(uri, "stacked") == verdicts(uri, "alone")


def test_while_a_stack_trains_it_is_told_how_far_its_runs_are(
    workspace: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(schedule, "SHARE_OF_LOOKING", 1.0)
    text = STUDY.replace("stacked", "long").replace("epochs: 2", "epochs: 10").replace(", 1.0e+30", "")
    (workspace / "long.yaml").write_text(text)
    told = []
    problems = schedule.run(grid.load("long.yaml"), uri, stacking=Stacking(8), trained=lambda *seen: told.append(seen))
    assert not problems and {total for _, total in told} == {4}
    trained = [runs for runs, _ in told]
    assert trained == sorted(trained)
    assert any(0 < runs < 4 and runs != int(runs) for runs in trained), trained


def test_a_compiled_study_needs_stacks() -> None:
    done = CliRunner().invoke(main, ["study", "run", "demo", "--compile"])
    assert done.exit_code == 2 and "--compile works only on stacks: give --stack too" in done.output


@pytest.mark.compile
def test_without_a_compiler_no_run_of_a_compiled_study_begins(workspace: Path, uri: str, cli: Cli) -> None:
    (workspace / "compiled.yaml").write_text(STUDY.replace("stacked", "compiled").replace("1, 2", "7, 8"))
    here = {"PATH": str(Path(sys.executable).parent), "TORCHINDUCTOR_CACHE_DIR": str(workspace / "inductor")}
    done = cli("study", "run", "compiled.yaml", "--stack", "8", "--compile", **here)
    assert done.returncode == 2 and "needs a C++ compiler such as g++ for torch.compile" in done.stderr
    experiment = MlflowClient(uri).get_experiment_by_name("compiled")
    assert not experiment or not MlflowClient(uri).search_runs([experiment.experiment_id])


def test_a_run_that_fails_leaves_the_stack_and_the_others_come_to_their_end(workspace: Path, uri: str) -> None:
    torch.set_default_dtype(torch.float32)
    configs = [tiny("dfa", seed=seed) for seed in range(3)]
    dataset = data.load("digits")
    opened = [partial(tracked.new_run, config, "fails", uri, {}, active=False) for config in configs]
    orders = [together.Order(config, each) for config, each in zip(configs, opened, strict=True)]
    ended = together.train_together(orders, dataset, RunOptions(abort=_FailsInTheSecond("n")))
    assert [type(error) for error in ended] == [type(None), RuntimeError, type(None)]
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("fails").experiment_id])  # type: ignore[union-attr]
    assert {run.data.params["seed"]: run.info.status for run in runs} == {
        "0": "FINISHED",
        "1": "FAILED",
        "2": "FINISHED",
    }
    assert {run.data.params["seed"] for run in runs if client.list_artifacts(run.info.run_id, "checkpoints")} == {
        "0",
        "2",
    }


class _FailsInTheSecond(Abort):
    """What is asked whether to stop: of the second run that asks, it fails."""

    asked = 0

    def anew(self) -> Abort:
        self.asked += 1
        return _Fails("n") if self.asked == 2 else Abort("n")


class _Fails(Abort):
    def __call__(self, _: object) -> bool:
        raise RuntimeError("this run fails")


@pytest.mark.parametrize(("stack", "seeds"), [("off", "3, 4"), ("8", "5, 6")])
def test_a_study_stops_the_runs_whose_flag_holds_and_trains_them_to_the_end_where_it_is_not_asked_to(
    workspace: Path, uri: str, cli: Cli, stack: str, seeds: str
) -> None:
    """Half of the runs diverge in their first epoch; two of three in which they are not finite are the patience."""
    text = STUDY.replace("1, 2", seeds).replace("epochs: 2", "epochs: 3").replace("stacked", f"stops{stack}")
    (workspace / "study.yaml").write_text(text)
    said = []
    for options in (["--abort-on", "n", "--patience", "2"], ["--abort-on", "n"], []):
        done = cli("study", "run", "study.yaml", "--stack", stack, *options)
        assert done.returncode == 0, done.stderr
        said.append(done.stderr)
        client = MlflowClient(uri)
        runs = client.search_runs([client.get_experiment_by_name(f"stops{stack}").experiment_id])  # type: ignore[union-attr]
        stopped = [run.data.tags[names.TAG_ABORTED_AT] for run in runs if names.TAG_ABORTED_AT in run.data.tags]
        assert stopped == ["2"] * 4 and {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 12
    assert "4 done, 4 aborted" in said[0] and "8 of 8" in said[0]
    assert " of " not in said[1].partition("\n")[2]  # nothing was left to train
    assert "4 of 4" in said[2] and "8 done" in said[2]
