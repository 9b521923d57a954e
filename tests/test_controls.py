"""Which runs become the frozen control of a run, and what is said of them."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from runs import log_run
from stores import new_store

from fa_tracking import cells
from fa_tracking.auditor.control import Control, Controls
from fa_tracking.tracking import names

BASE = {
    "method": "dfa",
    "architecture": "net",
    "width": 8,
    "depth": 2,
    "epochs": 3,
    "batch_size": 4,
    "lr": 0.01,
    "frozen_blocks": False,
}

Make = Callable[..., str]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return new_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def make(store: str, request: pytest.FixtureRequest) -> Make:
    """Makes a run on data of the test's own."""

    def run(
        seed: Any = 1,
        accuracy: float = 0.3,
        home: str = "",
        last: int = 3,
        first: int = 1,
        tags: dict[str, str] | None = None,
        norm: float = 1.0,
        **params: Any,
    ) -> str:
        logged = {**BASE, "dataset": request.node.name, "seed": seed, **params}
        points = {step: {names.ACCURACY_TEST: accuracy} for step in range(first, last + 1)}
        points[last][names.residual_norm(2)] = norm
        return log_run(store, request.node.name + home, points, tags=tags, **logged)

    return run


def frozen(make: Make, *args: Any, **params: Any) -> str:
    return make(*args, **{"frozen_blocks": True, **params})


def control(store: str, run_id: str) -> Control:
    client = MlflowClient(store)
    return Controls(client).of(client.get_run(run_id))


@pytest.mark.parametrize(
    ("says", "changes"),
    [
        ("diverged", {"accuracy": math.nan}),
        ("diverged", {"accuracy": 0.1, "norm": math.nan}),
        ("diverged", {"accuracy": 0.1, "norm": math.inf}),
        ("diverged", {"accuracy": 0.1, "norm": -math.inf}),
        ("diverged", {"accuracy": 0.1, "tags": {names.TAG_FLAGS: "n,a"}}),
        ("was aborted at epoch 1", {"tags": {names.TAG_ABORTED_AT: "1"}}),
        ("ended at epoch 1 of 3", {"last": 1}),
        ("has an accuracy of 36, not in [0, 1]", {"accuracy": 36.0}),
        ("has an accuracy of -0.1, not in [0, 1]", {"accuracy": -0.1}),
    ],
)
def test_a_run_that_is_no_whole_training_is_no_control(
    says: str, changes: dict[str, Any], make: Make, store: str
) -> None:
    run, broken = make(), frozen(make, 3, **changes)
    assert control(store, run) == Control(None, (), f"no control is whole; left out: {broken} {says}")
    whole = frozen(make, 1, 0.35)
    assert control(store, run) == Control(0.35, (whole,), f"left out: {broken} {says}")


OURS = {names.TAG_PROCESS: "host:1"}


@pytest.mark.parametrize(
    ("epochs", "first", "last", "tags", "is_whole"),
    [
        (3, 1, 3, {}, True),
        (3, 1, 2, {}, False),
        (3, 0, 2, {}, True),
        (3, 0, 1, {}, False),
        (3, 2, 2, {}, False),
        (3, 3, 3, {}, True),
        (2, 1, 1, {}, False),
        (1, 0, 0, {}, True),
        (1, 0, 0, OURS, False),
        (3, 0, 2, OURS, False),
        (3, 0, 2, {names.TAG_CONFIG_SHA256: "x"}, False),
        (3, 0, 2, {names.TAG_VERDICT: "trustworthy"}, True),
        (3, 0, 3, OURS, True),
    ],
)
def test_a_training_is_whole_at_its_last_planned_epoch_or_one_before_where_a_foreign_loop_counts_from_0(
    epochs: int, first: int, last: int, tags: dict[str, str], is_whole: bool, make: Make, store: str
) -> None:
    run, ended = make(epochs=epochs), frozen(make, epochs=epochs, first=first, last=last, tags=tags)
    assert control(store, run).runs == ((ended,) if is_whole else ())


def test_a_control_that_is_tested_less_often_than_measured_is_whole_and_its_step_is_named(
    make: Make, store: str
) -> None:
    run, whole = make(epochs=5), frozen(make, 1, 0.35, epochs=5)
    assert "ended at epoch 3 of 5" in control(store, run).note
    MlflowClient(store).log_metric(whole, names.residual_norm(2), 1.0, step=5)
    said = f"the accuracy of {whole} is of step 3, the last before 5"
    assert control(store, run) == Control(0.35, (whole,), said)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ({"lr": "1e-2"}, {"lr": "0.01"}),
        ({"lr": "1.0E-2"}, {"lr": ".01"}),
        ({"epochs": "3.0", "depth": "2.0"}, {}),
        ({"frozen_blocks": "false"}, {"frozen_blocks": "TRUE"}),
        ({"frozen_blocks": "0"}, {"frozen_blocks": "1"}),
        ({"trainable_blocks": "2.0"}, {"frozen_blocks": "false", "trainable_blocks": "0"}),
        ({"nesterov": "True"}, {"nesterov": "1"}),
        ({"gain": "inf"}, {"gain": "Infinity"}),
        ({"penalty": 0.01}, {"penalty": 0}),
        ({"penalty": 0.01}, {"penalty": 0.5}),
        ({"host": "a", "cfg.data-dir": "/x", "note": "first", "num_workers": 2}, {"host": "b", "cfg.data-dir": "/y"}),
    ],
)
def test_one_meaning_in_two_spellings_and_what_defines_no_training_set_no_control_apart(
    mine: dict[str, Any], theirs: dict[str, Any], make: Make, store: str
) -> None:
    run, own, other = make(**mine), frozen(make, 1, 0.35, **theirs), frozen(make, 2, 0.37, **mine | theirs)
    found = control(store, run)
    assert found.runs and {*found.runs} <= {own, other} and found.note == ""


@pytest.mark.parametrize(
    "key", ["label_noise", "lr", "optimizer", "augmentation", "weight_decay", "dropout", "version"]
)
def test_a_control_agrees_in_every_param_of_training_or_its_difference_is_named(
    key: str, make: Make, store: str
) -> None:
    run, other = make(**{key: "0.5"}), [frozen(make, seed, 0.2, **{key: "0.6"}) for seed in (1, 2)]
    assert control(store, run) == Control(0.2, (*other,), f"it differs in {key} (0.6 for 0.5)")
    elsewhere = frozen(make, 1, 0.36, home=" elsewhere", **{key: "0.50"})
    assert control(store, run) == Control(0.36, (elsewhere,), "its runs stand in another experiment")
    right = frozen(make, 1, 0.35, **{key: "0.50"})
    assert control(store, run) == Control(0.35, (right,), "")


def test_the_closest_cell_is_taken_whole_and_never_two(make: Make, store: str) -> None:
    run = make(lr=0.01, augmentation="none")
    far = frozen(make, 1, 0.1, lr=1.0, augmentation="flip")
    near = [frozen(make, seed, 0.38, lr=0.001, augmentation="none") for seed in (1, 2)]
    one = frozen(make, 1, 0.5, lr=1.0, augmentation="none")
    found = control(store, run)
    assert found == Control(pytest.approx(0.38), (*near,), "it differs in lr (0.001 for 0.01)")
    assert not {far, one} & {*found.runs}
    unsaid = frozen(make, 1, 0.4)
    MlflowClient(store).delete_run(unsaid)
    assert control(store, run) == found


def test_of_controls_that_agree_those_without_a_penalty_are_taken(make: Make, store: str) -> None:
    run = make(penalty=0.1)
    frozen(make, 1, 0.2, penalty=0.5)
    mine = frozen(make, 1, 0.25, penalty="1e-1")
    assert control(store, run).runs == (mine,)
    without = frozen(make, 1, 0.3, penalty="0.0")
    assert control(store, run) == Control(0.3, (without,), "")


def test_a_seed_that_was_trained_twice_counts_once(make: Make, store: str) -> None:
    run = make()
    for seed, accuracy in (("a", 0.30), ("a", 0.32), (1.5, 0.40)):
        frozen(make, seed, accuracy)
    assert control(store, run).accuracy == pytest.approx((0.31 + 0.40) / 2)


def test_an_aborted_run_has_no_margin(make: Make, store: str) -> None:
    run, _ = make(last=1, tags={names.TAG_ABORTED_AT: "1"}), frozen(make)
    assert control(store, run) == Control(
        None, (), "the run was aborted at epoch 1, and a control is trained to its end"
    )


@pytest.mark.parametrize(
    ("alike", "is_one"),
    [
        (("1e-3", "0.001", "1.0E-3", "0.0010", ".001", "+1e-03", " 0.001 "), True),
        (("4", "4.0", "4e0", "+4"), True),
        (("True", "true", "TRUE", "1", "1.0"), True),
        (("False", "false", "0", "0.0", "-0"), True),
        (("inf", "Infinity", "+inf", "INF"), True),
        (("-inf", "inf"), False),
        (("1234567890123456789", "1234567890123456788"), False),
        (("0.03162277660168379", "3.162277660168379e-2", "0.031622776601683790"), True),
        (("0.1", "0.10000000000000001", "0.10000000000000000555"), True),
        (("0.3333333333333333", "0.33333333333333337"), False),
        (("0.0010000000474974513", "0.001"), False),
        (("0x10", "16"), False),
        (("1_000", "1000"), False),
        (("٣", "3"), False),
        (("cifar10", "CIFAR10"), False),
        (("None", "0"), False),
        (("nan", "0"), False),
        (("64,64", "64"), False),
        (("", "0"), False),
    ],
)
def test_a_number_and_a_truth_have_one_spelling_everywhere(
    alike: tuple[str, ...], is_one: bool, make: Make, store: str, tmp_path, request
) -> None:
    from fa_tracking.results.database import connect
    from fa_tracking.results.export.export import export

    assert (len({cells.plain(text) for text in alike}) == 1) is is_one
    for text in alike:
        make(gain=text)
    export(tmp_path / "found.duckdb", store, request.node.name)
    with connect(tmp_path / "found.duckdb") as connection:
        ((found,),) = connection.sql("select count(distinct cell) from runs").fetchall()
        spelled = connection.sql("select distinct value from cell_params() where key = 'gain'").fetchall()
    assert (found == 1) is is_one
    assert {value for (value,) in spelled} == {cells.plain(text) for text in alike}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"z1": "a z2=b"}, {"z1": "a", "z2": "b"}),
        ({"z": "a=b"}, {"z=a": "b"}),
        ({"z": 'a"'}, {"z": "a'"}),
        ({"z": "a\nb"}, {"z": "a b"}),
        ({"z 1": "x"}, {"z": "1=x"}),
        ({"z": ""}, {"z": '""'}),
    ],
)
def test_no_value_merges_two_cells(
    first: dict[str, str], second: dict[str, str], make: Make, store: str, tmp_path, request
) -> None:
    from fa_tracking.checks.gate import gate
    from fa_tracking.checks.requirement import Requirement
    from fa_tracking.results.database import connect
    from fa_tracking.results.export.export import export

    assert cells.named(first) != cells.named(second)
    try:
        runs = [make(seed, **params) for seed, params in ((1, first), (2, second), (3, first))]
    except Exception as refused:
        assert "name" in str(refused).lower()
        pytest.skip("MLflow takes no such name")
    export(tmp_path / "found.duckdb", store, request.node.name)
    with connect(tmp_path / "found.duckdb") as connection:
        named = dict(connection.sql("select run_id, cell from runs").fetchall())
    assert named[runs[0]] == named[runs[2]] != named[runs[1]]
    assert named[runs[0]] == cells.named(MlflowClient(store).get_run(runs[0]).data.params)
    assert sorted(len(cell.runs) for cell in gate(request.node.name, Requirement(), store).cells) == [1, 2]


@pytest.mark.parametrize("key", ["optimizer.name", "model/name", "data.root", "feedback.node"])
def test_the_last_part_of_a_name_alone_makes_no_param_an_aside(store: str, make: Make, key: str) -> None:
    run_id = make(1, 0.5, **{key: "adam"})
    fit = frozen(make, 2, 0.495, **{key: "adam"})
    frozen(make, 1, 0.2, **{key: "sgd"})
    assert control(store, run_id).runs == (fit,)


@pytest.mark.parametrize("says", ["1.0", "1e0", " True", "True\r", "yes", "on"])
def test_a_frozen_run_is_found_however_it_says_so(store: str, make: Make, says: str) -> None:
    run_id = make(1, 0.5)
    assert control(store, run_id).runs == () and control(store, run_id).accuracy is None
    found = frozen(make, 1, 0.4, frozen_blocks=says)
    assert control(store, run_id).runs == (found,)


def test_a_run_that_only_holds_nested_ones_is_nobodys_control(store: str, make: Make) -> None:
    run_id = make(1, 0.5)
    client = MlflowClient(store)
    home = client.get_run(run_id).info.experiment_id
    parent = str(client.create_run(home).info.run_id)
    said = {**client.get_run(run_id).data.params, "frozen_blocks": "True"}
    client.log_batch(parent, [Metric(names.ACCURACY_TEST, 0.8, 1, 3)], [Param(k, v) for k, v in said.items()])
    client.set_terminated(parent)
    child = frozen(make, 1, 0.4, tags={"mlflow.parentRunId": parent})
    assert control(store, run_id).runs == (child,)
