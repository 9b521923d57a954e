"""What tells runs apart: old and new definitions never meet, and what a run leaves out is what it would have said."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import duckdb
import pytest
from click.testing import CliRunner
from conftest import tiny
from mlflow import MlflowClient
from runs import log_run
from stores import new_store

from fa_tracking import cells
from fa_tracking.auditor.control import Control, Controls
from fa_tracking.auditor.run import audit
from fa_tracking.checks.gate import gate
from fa_tracking.checks.replay import Replay, replay
from fa_tracking.checks.requirement import Requirement
from fa_tracking.cli import main
from fa_tracking.cli.train import command, config_of
from fa_tracking.errors import UsageError
from fa_tracking.importers import import_logs
from fa_tracking.publishing.deviations import THRESHOLDS, deviations
from fa_tracking.publishing.reference import Answers, parse
from fa_tracking.results.cells import read
from fa_tracking.results.compare import compare
from fa_tracking.results.database import ask, connect, find_query
from fa_tracking.results.export.export import export
from fa_tracking.results.export.merge import merge
from fa_tracking.results.export.parquet import write_parquet
from fa_tracking.tracking import definition, names
from fa_tracking.tracking.opening import start_run
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.definitions import FIRST, REVISED
from fa_tracking.trainers.study import grid
from fa_tracking.trainers.tracked import new_run, resume

OLD = {
    "method": "dfa",
    "architecture": "resmlp",
    "width": 256,
    "depth": 4,
    "epochs": 2,
    "batch_size": 128,
    "optimizer": "adamw",
    "lr": 0.001,
    "weight_decay": 0.01,
    "penalty": 0.0,
    "augmentation": "none",
}
"""What version 0.1 logged, less seed, frozen_blocks and dataset."""

OTHER = {
    "definition": 2,
    "rule_definition": 2,
    "expansion": 4,
    "alpha": 0.5,
    "labels": "random",
    "lr_schedule": "cosine",
    "lr_warmup": 1,
    "momentum": 0.9,
    "clip_norm": 1.0,
    "credit_normalisation": "rms",
    "credit_index": "input",
}
"""Of every param that 0.1 did not log, something that it did not mean."""

SAID_TOO = {**cells.ABSENT, "alpha": "1", "momentum": "0", "clip_norm": "Infinity", "labels": "True"}
"""The absent meanings as other hands spell them."""

DEFINITION = pytest.mark.parametrize("name", sorted(REVISED))

Make = Callable[..., str]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return new_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def make(store: str, request: pytest.FixtureRequest) -> Make:
    """Makes a finished run in an experiment of the test's own, on data of its own, with norms at two epochs."""

    def run(seed: int = 1, accuracy: float = 0.5, status: str = "FINISHED", **params: object) -> str:
        logged = {**OLD, "seed": seed, "frozen_blocks": False, "dataset": request.node.name, **params}
        norms = {names.residual_norm(0): 1.0, names.residual_norm(1): 100.0, names.grad_norm(1): 1e-3}
        points = {step: {names.ACCURACY_TEST: accuracy, **norms} for step in (1, 2)}
        return log_run(store, request.node.name, points, status=status, **logged)

    return run


@pytest.fixture
def exported(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], duckdb.DuckDBPyConnection]:
    """Exports the test's experiment, and opens the database."""

    def open_() -> duckdb.DuckDBPyConnection:
        export(tmp_path / "found.duckdb", store, request.node.name)
        return connect(tmp_path / "found.duckdb")

    return open_


def named_cells(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    return dict(connection.sql("select run_id, cell from runs").fetchall())


def control(store: str, run_id: str) -> Control:
    client = MlflowClient(store)
    return Controls(client).of(client.get_run(run_id))


def by_cell(found: Replay) -> list[int]:
    """How many seeds each cell of a replay has."""
    return sorted(saving.n for saving in found.savings if saving.rule == ",".join(found.abort_on))


def old_and_new(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The params of a run of a network or rule as 0.1 logged them, and as this version does."""
    named = {"architecture": name} if name in ("resmlp", "small_cnn", "student_net") else {"method": name}
    config = RunConfig(**{"method": "bp", "architecture": "vit_mini", "epochs": 2, **named})  # type: ignore[arg-type]
    return named, {**named, "definition": config.definition, "rule_definition": config.rule_definition}


def revised(name: str) -> str:
    """The param that tells the definitions of a name apart."""
    return "definition" if name in ("resmlp", "small_cnn", "student_net") else "rule_definition"


def test_what_a_run_leaves_out_is_the_default_of_a_run(store: str) -> None:
    config = RunConfig(method="bp", architecture="vit_mini")
    assert {key: str(getattr(config, key)) for key in cells.ABSENT} == cells.ABSENT
    assert definition.FIRST == FIRST == int(cells.ABSENT["definition"])
    assert cells.ABSENT.keys() <= {*names.PARAMS}


@pytest.mark.sample(2)
@DEFINITION
def test_old_and_new_share_no_cell_and_no_control(name: str, make: Make, store: str, exported, request) -> None:
    then, now = old_and_new(name)
    old, new = make(**then), make(**now)
    old_control = make(accuracy=0.3, frozen_blocks=True, **then)
    assert control(store, old).runs == (old_control,)
    alone = control(store, new)
    assert alone.runs == () and f" {revised(name)}={REVISED[name]} " in f"{alone.note} "
    new_control = make(accuracy=0.2, frozen_blocks=True, **now)
    assert control(store, old).runs == (old_control,)
    assert control(store, new) == Control(0.2, (new_control,), "")
    with exported() as connection:
        found = named_cells(connection)
        assert found[old] == found[new].replace(f"{revised(name)}={REVISED[name]}", "").replace("  ", " ").strip()
        assert len({*found.values()}) == 4
        assert {cell.name for cell in read(connection, request.node.name)} == {
            f"{', '.join({**OLD, **then}[key] for key in ('method', 'architecture'))}, {request.node.name}, "
            f"{revised(name)} = {number}{frozen}"
            for number in (FIRST, REVISED[name])
            for frozen in ("", ", frozen blocks")
        }
    judged = gate(request.node.name, Requirement(controls=True), store).cells
    assert len(judged) == 4 and all(f"{revised(name)}=" in cell.name for cell in judged)
    assert by_cell(replay(request.node.name, store)) == [1, 1, 1, 1]


@pytest.mark.sample(2)
@pytest.mark.parametrize("key", cells.ABSENT)
def test_what_a_run_leaves_out_is_what_it_would_have_said(key: str, make: Make, store: str, exported, request) -> None:
    silent, said, told = make(1), make(2, **{key: cells.ABSENT[key]}), make(3, **{key: SAID_TOO[key]})
    other = make(4, **{key: OTHER[key]})
    frozen = [make(1, frozen_blocks=True), make(2, frozen_blocks=True, **{key: cells.ABSENT[key]})]
    assert all(control(store, run) == Control(0.5, (*frozen,), "") for run in (silent, said, told))
    judged = gate(request.node.name, Requirement(), store).cells
    assert sorted(len(cell.runs) for cell in judged) == [1, 2, 3]
    spelled = f"{key}={cells.plain(OTHER[key], key)}"
    assert any(spelled in cell.name for cell in judged)
    assert by_cell(replay(request.node.name, store)) == [1, 2, 3]
    with exported() as connection:
        found = named_cells(connection)
        assert found[silent] == found[said] == found[told] != found[other]
        assert spelled in found[other].split(" ")
        rows = ask(connection, find_query("cross_seed"), request.node.name)
        assert [n for (n,) in rows.project("n_runs").order("n_runs").fetchall()] == [1, 2, 3]
        assert {also for (also,) in rows.project("also").fetchall()} == {"", spelled}


@pytest.mark.parametrize("key", cells.ABSENT)
def test_a_control_of_another_recipe_is_named_or_not_used(key: str, make: Make, store: str) -> None:
    run, frozen = make(), make(2, frozen_blocks=True, **{key: OTHER[key]})
    found = control(store, run)
    if key in ("definition", "rule_definition", "expansion", "alpha", "labels"):
        assert found.runs == () and "no finished run with trainable_blocks=0 matches" in found.note
    else:
        assert found == Control(
            0.5,
            (frozen,),
            f"it differs in {key} ({cells.meaning({key: OTHER[key]}, key)} for {cells.meaning({}, key)})",
        )
        better = make(3, frozen_blocks=True, **{key: cells.ABSENT[key]})
        assert control(store, run) == Control(0.5, (better,), "")


def test_a_report_says_what_a_control_means_and_its_run_does_not_say(make: Make, store: str, exported, request) -> None:
    client, run = MlflowClient(store), make()
    frozen = make(1, frozen_blocks=True, clip_norm=1.0, lr_schedule="constant")
    for key, value in {
        names.TAG_VERDICT: "trustworthy",
        names.TAG_MEASURED: json.dumps({"headline_accuracy": 0.5}),
        names.TAG_CONTROL_RUNS: frozen,
    }.items():
        client.set_tag(run, key, value)
    with exported() as connection:
        of = {cell.first["run_id"]: cell for cell in read(connection, request.node.name)}
        assert f"the control {frozen[:8]} differs in clip_norm (1, not inf)" in deviations(
            of[run], dict.fromkeys(THRESHOLDS)
        )


def test_a_selection_means_what_runs_leave_out(make: Make, exported, request) -> None:
    for seed in (1, 2):
        make(seed, accuracy=0.1 * seed)
        make(seed, accuracy=0.2 * seed, definition=2, clip_norm=1.0)
        make(seed, accuracy=0.3 * seed, definition=2, clip_norm="inf")
    experiment = request.node.name
    with exported() as connection:
        found = compare(connection, "accuracy/test", "definition=2,clip_norm=inf", "definition=1", experiment)
        assert (found.a.summary.mean, found.b.summary.mean) == pytest.approx((0.45, 0.15))
        assert found.also_differ == ()
        with pytest.raises(UsageError, match=r"2 cells, which differ in clip_norm \(1, inf\): name one") as several:
            compare(connection, "accuracy/test", "definition=2", "definition=1", experiment)
        narrowed = str(several.value).split("as ")[-1].removesuffix(" does")
        assert len(compare(connection, "accuracy/test", narrowed, "definition=1", experiment).a.runs) == 2
        with pytest.raises(UsageError, match=r"no finished run matches 'momentum=0\.5'"):
            compare(connection, "accuracy/test", "momentum=0.5", "definition=1", experiment)


def test_a_citation_names_old_and_new(make: Make, exported, request) -> None:
    make(accuracy=0.25)
    new = make(accuracy=0.5, definition=2)
    with exported() as connection:
        answers = Answers(connection, request.node.name)
        assert answers.find(parse("cross_seed[method=dfa,also=].n_runs")).value == 1
        found = answers.find(parse("audit_table[method=dfa,also=definition=2].run_id"))
        assert found.value == new
        with pytest.raises(UsageError, match=r"matches 2 rows, which differ in also: \(empty\), definition=2"):
            answers.find(parse("audit_table[method=dfa].seed"))


def test_the_columns_hold_what_was_logged_and_nothing_more(make: Make, store: str, exported, tmp_path: Path) -> None:
    silent, said, other = make(1), make(2, **cells.ABSENT), make(3, **OTHER)
    columns = ", ".join(cells.ABSENT)
    with exported() as connection:
        rows = {run: row for run, *row in connection.sql(f"select run_id, {columns} from runs").fetchall()}
    assert rows[silent] == [None] * len(cells.ABSENT)
    assert rows[said] == [1, 1, 0, 1.0, "true", "constant", 0, 0.0, math.inf, "none", "output"]
    assert rows[other] == list(OTHER.values())
    write_parquet(tmp_path / "found.duckdb", tmp_path / "copy")
    with connect(tmp_path / "copy") as connection:
        assert connection.sql(f"select clip_norm from runs where run_id = '{said}'").fetchall() == [(math.inf,)]
        assert connection.sql("select count(distinct cell) from runs").fetchall() == [(2,)]
    merge([str(tmp_path / "found.duckdb")], tmp_path / "merged.duckdb")
    with connect(tmp_path / "merged.duckdb") as connection:
        assert len({*named_cells(connection).values()}) == 2


BLOCKS: tuple[dict[str, object], ...] = (
    {"frozen_blocks": True},
    {"frozen_blocks": "0", "trainable_blocks": 0},
    {"frozen_blocks": False},
    {"frozen_blocks": False, "trainable_blocks": 4},
    {"frozen_blocks": False, "trainable_blocks": 2},
    {"frozen_blocks": "perhaps", "trainable_blocks": 2},
)
"""Ways to say which of the four blocks are trained."""


def test_the_database_names_cells_as_the_auditor_tells_them_apart(make: Make, store: str, exported) -> None:
    for said in BLOCKS:
        for recipe in ({}, cells.ABSENT, SAID_TOO, OTHER):
            make(**{**said, **recipe})
    with exported() as connection:
        found = named_cells(connection)
        meant = connection.sql("select run_id, key, value from asked_params()").fetchall()
    client = MlflowClient(store)
    params = {run: client.get_run(run).data.params for run in found}
    assert found == {
        run: " ".join(f"{key}={value}" for key, value in sorted(cells.apart(said).items()))
        for run, said in params.items()
    }
    assert len({*found.values()}) == 2 * 4
    asked = {*cells.ABSENT, names.TRAINABLE_BLOCKS}
    told = {(run, key): value for run, key, value in meant if key in asked}
    all_ = {(run, key): cells.meaning(said, key) for run, said in params.items() for key in asked}
    assert told == {at: "4" if value == "all" else value for at, value in all_.items()}


def test_an_export_of_the_first_version_is_read_as_it_is() -> None:
    with connect(Path(__file__).parent.parent / "docs/reference-results") as connection:
        known = connection.sql("select distinct definition, clip_norm from runs").fetchall()
        found = connection.sql("select distinct cell from runs where experiment = 'reproduction'").fetchall()
    assert (None, None) in known
    assert any(cell.startswith("architecture=resmlp augmentation=none batch_size=128") for (cell,) in found)


def test_rules_are_compared_within_their_time(make: Make, exported, request) -> None:
    """Rules meet on one network: whatever their own definitions, and never on an earlier one of its name."""
    for network, numbers in (("vit_mini", [1]), ("resmlp", [1, 2])):
        for of_network in numbers:
            for method, of_rule in (("fa", 1), ("dfa", 1), ("dfa", 2)):
                given = {"definition": of_network, "rule_definition": of_rule}
                make(method=method, accuracy=of_rule / 10, architecture=network, **given)
    with exported() as connection:
        pairs = connection.sql("""
            select fa.architecture, fa.definition, dfa.definition, dfa.rule_definition
            from siblings_of('~*', ['method']) fa join siblings_of('~*', ['method']) dfa
            on fa.others = dfa.others and fa.method = 'fa' and dfa.method = 'dfa' order by all
        """).fetchall()
        by_width = connection.sql("select count(distinct others) from siblings_of('~*', ['width'])").fetchall()
    assert pairs == [
        (*net, rule) for net in (("resmlp", 1, 1), ("resmlp", 2, 2), ("vit_mini", 1, 1)) for rule in (1, 2)
    ]
    assert by_width == [(9,)]


TREATED = {"credit_index": "input", "credit_normalisation": "rms_eps", "clip_norm": 1.0, "rule_definition": 2}
"""What the published study gives its local rules, and backpropagation not."""


def test_a_method_is_compared_with_bp_whatever_it_brings_along_and_with_itself_alike(
    make, store, exported, request
) -> None:
    for seed in (1, 2):
        for method, recipe, by_penalty in (
            ("bp", {}, (0.9, 0.8)),
            ("dfa", TREATED, (0.3, 0.5)),
            ("dfa", {}, (0.2, 0.6)),
        ):
            for penalty, accuracy in zip((0.0, 0.01), by_penalty, strict=True):
                make(seed, accuracy=accuracy, method=method, penalty=penalty, **recipe)
    audit(request.node.name, store)
    with exported() as connection:
        rows = ask(connection, find_query("penalty_2x2"), request.node.name)
        found = rows.project("contrast, round(difference_pp), n_pairs, recipe_a <> recipe_b").order("all").fetchall()
    assert found == [
        ("bp + λ less bp", -10, 2, False),
        ("bp + λ less dfa + λ", 20, 2, False),
        ("bp + λ less dfa + λ", 30, 2, True),
        ("bp less dfa", 60, 2, True),
        ("bp less dfa", 70, 2, False),
        ("bp less dfa + λ", 30, 2, False),
        ("bp less dfa + λ", 40, 2, True),
        ("dfa + λ less dfa", 20, 2, False),
        ("dfa + λ less dfa", 40, 2, False),
    ]


def test_each_kind_of_fa_stands_beside_the_dfa_that_is_treated_alike(make, store, exported, request) -> None:
    as_fa = {**TREATED, "rule_definition": 1}
    for method, accuracy, recipe in (
        ("dfa", 0.3, TREATED),
        ("dfa", 0.2, {**TREATED, "credit_index": "output"}),
        ("fa", 0.6, {}),
        ("fa_block", 0.5, as_fa),
    ):
        make(accuracy=accuracy, method=method, **recipe)
    audit(request.node.name, store)
    with exported() as connection:
        rows = ask(connection, find_query("fa_vs_dfa"), request.node.name)
        found = rows.project("fa, round(difference_pp), dfa_recipe").order("all").fetchall()
    assert [row[:2] for row in found] == [("fa", 30), ("fa", 40), ("fa_block", 20)]
    assert ["credit_index=input" in recipe for _, _, recipe in found] == [True, False, True]


OPTIONS = {
    "expansion": "4",
    "alpha": "0.5",
    "labels": "random",
    "lr_schedule": "cosine",
    "lr_warmup": "1",
    "momentum": "0.9",
    "clip_norm": "1",
    "credit_normalisation": "rms",
    "credit_index": "input",
}


def given(*args: str) -> RunConfig:
    """The run that a command line asks for."""
    params = command.make_context("train", ["dfa", *args]).params
    fields = get_type_hints(RunConfig)
    return config_of({k: v for k, v in params.items() if k in fields or k == "frozen_blocks"})


@pytest.mark.parametrize("key", OPTIONS)
def test_every_option_reaches_params_digest_and_cell(key: str, store: str, exported, request) -> None:
    also = ["--optimizer", "sgd"] if key == "momentum" else []
    option = f"--{key.replace('_', '-')}"
    plain, changed = given(*also), given(*also, option, OPTIONS[key])
    assert plain == given(*also, option, cells.ABSENT[key])
    assert plain.digest != changed.digest
    ids = []
    for config in (plain, changed):
        with new_run(config, request.node.name, store, {}, active=False) as run:
            ids.append(run.run_id)
    logged = [MlflowClient(store).get_run(run).data.params[key] for run in ids]
    assert logged == [cells.ABSENT[key], str(getattr(changed, key))]
    with exported() as connection:
        found = named_cells(connection)
    assert {*found[ids[1]].split(" ")} - {*found[ids[0]].split(" ")} == {
        f"{key}={cells.plain(getattr(changed, key), key)}"
    }


def test_trainable_and_frozen_blocks_are_one_option() -> None:
    assert (
        given("--frozen-blocks")
        == given("--trainable-blocks", "0")
        == given("--frozen-blocks", "--trainable-blocks", "0")
    )
    assert given("--trainable-blocks", "4") == given() != given("--trainable-blocks", "2")
    assert given().trainable_blocks == 4


def test_an_option_of_zero_is_given() -> None:
    zero = given("--weight-decay", "0", "--lr", "0", "--trainable-blocks", "0", "--epochs", "0")
    assert (zero.weight_decay, zero.lr, zero.trainable_blocks, zero.epochs) == (0, 0, 0, 0)


def test_the_options_take_what_a_run_takes() -> None:
    hints = get_type_hints(RunConfig)
    chosen = {o.name: o.type.choices for o in command.params if isinstance(o.type, click.Choice)}
    assert chosen.keys() == {"labels", "lr_schedule", "credit_normalisation", "credit_index"}
    assert all({*choices} == {*get_args(hints[name])} for name, choices in chosen.items())
    missing = {*names.PARAMS} - {o.name for o in command.params} - {"definition", "rule_definition"}
    assert not missing


def test_a_run_of_the_command_line_logs_the_whole_recipe(workspace: Path, uri: str) -> None:
    args = (
        "dfa --experiment recipe --architecture resmlp --width 16 --depth 2 --dataset digits --epochs 2 --lr-warmup 1"
    )
    args += " --lr-schedule cosine --clip-norm 1 --credit-normalisation rms --credit-index input --labels random"
    done = CliRunner().invoke(main, ["train", *args.split(), "--trainable-blocks", "1"])
    assert done.exit_code == 0, done.output
    run = MlflowClient(uri).get_run(done.stdout.split()[0])
    said = ["random labels", "cosine", "warm-up 1", "clip 1", "rms credit at the input"]
    assert all(word in run.info.run_name for word in said), run.info.run_name
    assert {key: run.data.params[key] for key in ("lr_schedule", "trainable_blocks", "clip_norm")} == {
        "lr_schedule": "cosine",
        "trainable_blocks": "1",
        "clip_norm": "1.0",
    }


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("--clip-norm 0", "clip_norm: Input should be greater than 0, got 0.0"),
        ("--clip-norm nan", "clip_norm: Input should be greater than 0, got nan"),
        ("--momentum 0.9", "momentum needs optimizer sgd, but the optimizer is adamw."),
        ("--momentum 1 --optimizer sgd", "momentum: Input should be less than 1, got 1.0"),
        ("--lr-warmup 30", "lr_warmup=30 leaves no epoch of 30 to train at lr."),
        ("--lr-warmup -1", "lr_warmup: Input should be greater than or equal to 0, got -1"),
        ("--alpha 1.5", "alpha: Input should be less than or equal to 1, got 1.5"),
        ("--expansion -1", "expansion: Input should be greater than or equal to 0, got -1"),
        ("--trainable-blocks 5", "trainable_blocks=5 in a network of 4 blocks."),
        ("--trainable-blocks 2 --frozen-blocks", "frozen_blocks=True contradicts trainable_blocks=2."),
        ("--trainable-blocks -1", "-1 is not in the range"),
        ("--labels maybe", "'maybe' is not one of 'true', 'random'"),
        ("--lr-schedule step", "'step' is not one of 'constant', 'cosine'"),
        ("--credit-normalisation l2", "'l2' is not one of 'none', 'rms'"),
        ("--credit-index middle", "'middle' is not one of"),
    ],
)
def test_a_bad_value_is_one_line(workspace: Path, args: str, said: str) -> None:
    done = CliRunner().invoke(main, ["train", "dfa", *args.split()])
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr and len(done.stderr.splitlines()) == 1 and "Value error" not in done.stderr


def test_a_study_names_what_is_wrong_and_what_sets_a_run_apart(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    text = "title: t\nexperiment: e\nseeds: [1]\nfixed: {method: dfa, %s}\ngrids: [{parameters: {}}]\n"
    for bad, said in (
        ("trainable_blocks: 5", "trainable_blocks=5 in a network of 4 blocks"),
        ("frozen_blocks: often", "frozen_blocks must be true or false, not 'often'"),
        ("rule_definition: 1", "definition 1 of dfa is not the one here, 2; version 0.1 has it"),
        ("definition: 1", "definition 1 of resmlp is not the one here, 2; version 0.1 has it"),
        ("clip_norm: 0", "parameter clip_norm: Input should be greater than 0, got '0'"),
    ):
        file.write_text(text % bad)
        with pytest.raises(UsageError) as error:
            grid.load(str(file)).configs()
        assert str(error.value) == said
    recipe = "lr_schedule: cosine, clip_norm: 1, credit_normalisation: rms, credit_index: input, labels: random"
    file.write_text(text % f"{recipe}, trainable_blocks: 2, lr_warmup: 3, expansion: 2, alpha: 0.5")
    (config,) = grid.load(str(file)).configs()
    assert grid.describe(config) == (
        "dfa resmlp 4×256, last 2 blocks trained, expansion 2, α=0.5, random labels, cosine, warm-up 3, clip 1, "
        "rms credit at the input, digit_pairs, 30 epochs, seed 1"
    )
    assert grid.describe(RunConfig(method="dfa")) == "dfa resmlp 4×256, digit_pairs, 30 epochs, seed 42"
    assert "last block trained" in grid.describe(RunConfig(method="dfa", trainable_blocks=1))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, []),
        (SAID_TOO, []),
        ({"definition": 2, "clip_norm": 0.5}, ["definition 2", "clip 0.5"]),
        ({"credit_index": "input"}, ["credit at the input"]),
        ({"credit_normalisation": "rms"}, ["rms credit"]),
        ({"lr_schedule": "my own", "method": "x"}, ["my own"]),
        ({"frozen_blocks": True, "clip_norm": 1}, ["frozen blocks", "clip 1"]),
        ({"trainable_blocks": 2, "depth": 4, "labels": "random"}, ["last 2 blocks trained", "random labels"]),
        ({"trainable_blocks": 4, "depth": 4}, []),
    ],
)
def test_a_recipe_in_words_names_what_differs(params: dict[str, object], said: list[str]) -> None:
    assert cells.in_words(params) == said


def test_the_name_of_a_run_says_what_sets_it_apart(store: str) -> None:
    for params, name in (
        ({}, "dfa, seed 1"),
        ({"definition": 2, "momentum": 0.9}, "dfa, seed 1, momentum 0.9"),
    ):
        with start_run("named", store, method="dfa", seed=1, active=False, **params) as run:
            assert MlflowClient(store).get_run(run.run_id).info.run_name == name


def test_an_imported_log_means_what_it_leaves_out(tmp_path: Path, store: str, exported, request) -> None:
    """A log of numbers says 2.0 and Infinity, where a run of ours says 2 and inf."""
    log = [{"epoch": 1, "test_acc": 0.5}]
    said = {"definition": 1.0, "lr_warmup": 0, "clip_norm": math.inf, "labels": True, "momentum": 0}
    for seed, more in ((1, {}), (2, said), (3, {"definition": 2.0})):
        path = tmp_path / f"{seed}.json"
        path.write_text(json.dumps({"method": "dfa", "seed": seed, **more, "log": log}))
    import_logs("json", [tmp_path], request.node.name, store)
    with exported() as connection:
        assert connection.sql("select cell, count(*) from runs group by all order by all").fetchall() == [
            ("definition=2 method=dfa", 1),
            ("method=dfa", 2),
        ]


def test_a_run_that_another_version_began_is_not_gone_on_with(make: Make, store: str) -> None:
    with pytest.raises(UsageError, match=r"definition 1 of resmlp is not the one here, 2; version 0\.1 has it"):
        resume(make(status="KILLED"), store)
    with pytest.raises(UsageError, match=r"of this version$"):
        resume(make(status="KILLED", method="bp", architecture="vit_mini"), store)


def test_a_run_of_this_version_holds_its_definition() -> None:
    assert {tiny(method).definition for method in ("bp", "dfa")} == {REVISED["resmlp"]}
    with pytest.raises(ValueError, match=r"version 0\.1 has it"):
        tiny("dfa", definition=FIRST)
