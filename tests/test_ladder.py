"""The depth ladder: what is not trained stays as it was drawn, and k = 0 is the frozen control whatever a run logs."""

import itertools
import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import empty_database, tiny
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from test_diagnose import Hooked, float_batches
from test_queries import INF, NAN, Run, write

import fa_tracking
from fa_tracking import catalogue, cells
from fa_tracking.checks.gate import gate
from fa_tracking.checks.replay import replay
from fa_tracking.checks.requirement import Requirement
from fa_tracking.dashboards import draw
from fa_tracking.errors import UsageError
from fa_tracking.importers import import_logs
from fa_tracking.protocol.batches import Normalisation
from fa_tracking.publishing.deviations import THRESHOLDS, deviations
from fa_tracking.results.cells import read
from fa_tracking.results.compare import compare
from fa_tracking.results.database import ask, connect, find_query
from fa_tracking.results.export.export import export
from fa_tracking.trainers import data, methods, models
from fa_tracking.trainers.learner import Learner, learner_of
from fa_tracking.trainers.loop import train_epoch
from fa_tracking.trainers.stacked.together import Order, train_together
from fa_tracking.trainers.study import grid
from fa_tracking.trainers.tracked import new_run, train

DEEP = range(2, 5)
"""Depths, of which each network here knows one; a ladder needs two blocks or more."""


def images() -> data.Dataset:
    drawn = torch.Generator().manual_seed(0)
    split = data.Split(torch.rand(32, 3, 16, 16, generator=drawn), torch.randint(0, 10, (32,), generator=drawn))
    return data.Dataset("images", split, split, Normalisation((0.5,) * 3, (0.3,) * 3), 10)


def ladder_learner(method: str, architecture: str, k: int) -> Learner:
    """A small learner that trains its last k blocks; skips where the method refuses the network, or has no blocks."""
    refused = ""
    for depth in DEEP:
        try:
            changes = {"depth": depth, "trainable_blocks": k, "batch_size": 16, "penalty": 0.1}
            learner = learner_of(tiny(method, architecture=architecture, **changes), images())
        except UsageError as error:
            refused = str(error)
            continue
        if len(learner.model.blocks) == depth:
            return learner
        refused = f"{method} has no blocks"
    assert method != "bp", refused
    pytest.skip(refused)


def tensors(learner: Learner) -> dict[str, torch.Tensor]:
    """Parameters and buffers."""
    return {name: value.detach().clone() for name, value in learner.model.state_dict().items()}


@pytest.mark.parametrize("architecture", catalogue.names(models))
@pytest.mark.parametrize("method", catalogue.names(methods))
def test_only_the_last_blocks_move_by_any_bit(method: str, architecture: str) -> None:
    learner = ladder_learner(method, architecture, 1)
    before = tensors(learner)
    for epoch in (1, 2):
        train_epoch(learner, images(), epoch)
    after, last = tensors(learner), len(learner.model.blocks) - 1
    of_a_block = ("embed",) if architecture.startswith("small_cnn") else ()  # the study counts it among the blocks
    untouched = (*of_a_block, *(f"blocks.{i}." for i in range(last)))
    assert any(name.startswith(untouched) for name in before)
    for name, value in before.items():
        if name.startswith(untouched):
            assert torch.equal(value, after[name]), name
    for part in {"embed", f"blocks.{last}", "out"} - {*of_a_block}:
        assert any(not torch.equal(before[n], after[n]) for n in before if n.startswith(part)), part


@pytest.mark.parametrize("method", ["bp", "dfa", "fa_block", "state_bridge"])
def test_the_frozen_control_of_small_cnn_trains_its_head_alone(method: str) -> None:
    learner = ladder_learner(method, "small_cnn", 0)
    before = tensors(learner)
    train_epoch(learner, images(), 1)
    moved = {name for name, value in tensors(learner).items() if not torch.equal(value, before[name])}
    assert moved == {"out_head.weight", "out_head.bias"}


@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_a_stack_of_a_rung_leaves_the_first_blocks_as_drawn_and_is_its_cells_alone(
    k: int, workspace: Path, uri: str
) -> None:
    from safetensors.torch import load_file

    dataset, client = data.load("digits"), MlflowClient(uri)
    configs = [tiny("dfa", depth=3, trainable_blocks=k, seed=seed, epochs=1) for seed in (1, 2)]
    alone = [train(config, "alone", uri) for config in configs]
    orders = [Order(c, lambda c=c: new_run(c, "together", uri, {"k": str(k)}, active=False)) for c in configs]
    assert train_together(orders, dataset) == [None, None]
    home = client.get_experiment_by_name("together")
    assert home is not None
    for config, single in zip(configs, alone, strict=True):
        (run,) = client.search_runs([home.experiment_id], f"tags.k = '{k}' and params.seed = '{config.seed}'")
        assert run.data.params["trainable_blocks"] == str(k) and "frozen_blocks" not in run.data.params
        drawn = learner_of(config, dataset).model.state_dict()
        both = (
            load_file(Path(client.download_artifacts(i, "checkpoints/epoch_0001")) / "model.safetensors")
            for i in (run.info.run_id, single)
        )
        stacked, own = both
        for name, value in drawn.items():
            is_untouched = name.startswith(tuple(f"blocks.{i}." for i in range(3 - k)))
            assert torch.equal(value, stacked[name]) == is_untouched, name
            torch.testing.assert_close(stacked[name], own[name], rtol=1e-3, atol=1e-4)


SAID = ("frozen_blocks", "trainable_blocks", "depth")
SPELLINGS = {
    "frozen_blocks": (None, "True", "False", "true", "1", "0", "perhaps"),
    "trainable_blocks": (None, "0", "1", "4", "7", "04", "2.0", "-1", "all"),
    "depth": (None, "4"),
}


def spelled() -> list[dict[str, str]]:
    """Every way in which a run can say how many blocks it trains."""
    combined = itertools.product(*(SPELLINGS[key] for key in SAID))
    return [{k: v for k, v in zip(SAID, values, strict=True) if v is not None} for values in combined]


@pytest.fixture(scope="module")
def every_spelling(workspace: Path) -> tuple[Path, list[str], dict[str, dict[str, str]]]:
    """The database of a store with a run of each spelling, what the export said, and the params by run."""
    uri, said = f"sqlite:///{workspace / 'mlflow.db'}", []
    client = MlflowClient(uri)
    home, made = client.create_experiment("spelled"), {}
    for params in spelled():
        run_id = client.create_run(home).info.run_id
        client.log_batch(run_id, params=[Param(k, v) for k, v in ({"method": "dfa"} | params).items()])
        client.set_terminated(run_id)
        made[run_id] = params
    export(workspace / "spelled.duckdb", uri, "spelled", say=said.append)
    return workspace / "spelled.duckdb", said, made


def test_the_database_reads_what_is_frozen_as_the_auditor_does(every_spelling: Any) -> None:
    path, _, made = every_spelling
    with connect(path) as connection:
        rows = connection.execute("select run_id, trainable_blocks, frozen_blocks, cell from runs").fetchall()
        told = connection.execute("select run_id, key, value from cell_params()").fetchall()
    assert len(rows) == len(made) == 7 * 9 * 2
    for run_id, blocks, is_frozen, _ in rows:
        params = made[run_id]
        assert blocks == cells.trained_blocks(params), params
        assert bool(is_frozen) == cells.is_frozen(params), params
        mine = sorted((key, value) for run, key, value in told if run == run_id)
        assert mine == sorted(cells.in_one_wording({"method": "dfa"} | params).items()), params
    found = {run_id: cell for run_id, _, _, cell in rows}
    wordings = {run_id: frozenset(cells.in_one_wording(made[run_id]).items()) for run_id in made}
    for a, b in itertools.combinations(made, 2):
        assert (found[a] == found[b]) == (wordings[a] == wordings[b]), (made[a], made[b])


@pytest.mark.parametrize(
    ("alike", "is_frozen", "k"),
    [
        (({"frozen_blocks": "True"}, {"trainable_blocks": "0"}, {"frozen_blocks": "true"}), True, 0),
        (({}, {"frozen_blocks": "False"}, {"trainable_blocks": "4"}), False, 4),
        (({"trainable_blocks": "1"}, {"trainable_blocks": "1", "frozen_blocks": "False"}), False, 1),
        (({"frozen_blocks": "perhaps"},), False, 4),
        (({"trainable_blocks": "-1"},), False, 4),
        (({"trainable_blocks": "-1", "frozen_blocks": "1"},), True, 0),
    ],
)
def test_one_wording_of_one_thing_and_another_of_another(
    alike: tuple[dict[str, str], ...], is_frozen: bool, k: int, every_spelling: Any
) -> None:
    path, _, made = every_spelling
    with connect(path) as connection:
        found = dict(connection.execute("select run_id, cell from runs").fetchall())
    asked = [{"depth": "4", **params} for params in alike]
    assert {(cells.is_frozen(p), cells.trained_blocks(p)) for p in asked} == {(is_frozen, k)}
    mine = {found[run] for run, params in made.items() if params in asked}
    assert len(mine) == 1
    others = {run for run, cell in found.items() if cell in mine and made[run] not in asked}
    assert all(cells.trained_blocks(made[run]) == k for run in others)


def test_an_export_names_the_runs_whose_params_contradict_each_other(every_spelling: Any) -> None:
    _, said, made = every_spelling
    wrong = {run for run, params in made.items() if cells.contradiction(params)}
    assert {line.split(" ")[0] for line in said} == wrong
    partly = next(r for r in wrong if made[r] == {"frozen_blocks": "True", "trainable_blocks": "1", "depth": "4"})
    (line,) = (line for line in said if line.startswith(partly))
    assert "frozen_blocks=True contradicts trainable_blocks=1; the latter counts" in line


PARAMS = {"method": "dfa", "architecture": "net", "width": 8, "depth": 3, "dataset": "floats", "epochs": 1}
PARAMS |= {"batch_size": 16}
RUNGS: dict[str, tuple[dict[str, Any], int, float]] = {
    "old frozen": ({"frozen_blocks": True}, 1, 0.30),
    "new frozen": ({"trainable_blocks": 0}, 2, 0.34),
    "own frozen": ({"frozen_blocks": "true"}, 2, 0.36),
    "one": ({"trainable_blocks": 1}, 1, 0.33),
    "two": ({"trainable_blocks": 2, "frozen_blocks": False}, 1, 0.20),
    "old whole": ({"frozen_blocks": False}, 1, 0.50),
    "new whole": ({"trainable_blocks": 3}, 2, 0.56),
    "own whole": ({}, 3, 0.60),
}
"""What each run logs of its blocks, its seed and its accuracy. The control's is 0.325, the mean of its two seeds'."""
CELLS = [["new frozen", "old frozen", "own frozen"], ["new whole", "old whole", "own whole"], ["one"], ["two"]]


@pytest.fixture(scope="module")
def rungs(workspace: Path) -> dict[str, str]:
    """Run ids: a ladder of three blocks as version 0.1, this version and other loops log it, audited and exported."""
    uri, made = f"sqlite:///{workspace / 'mlflow.db'}", {}
    for name, (said, seed, accuracy) in RUNGS.items():
        with fa_tracking.start_run("rungs", uri, **PARAMS, **said, seed=seed) as run:
            run.log_epoch(1, Hooked(), float_batches(), accuracy)
        made[name] = run.run_id
    assert not fa_tracking.audit("rungs", tracking_uri=uri).problems
    export(workspace / "rungs.duckdb", uri, "rungs")
    return made


@pytest.fixture
def database(rungs: dict[str, str], workspace: Path) -> Iterator[Any]:
    with connect(workspace / "rungs.duckdb") as connection:
        yield connection


def answer(connection: Any, name: str, experiment: str = "rungs") -> list[dict[str, Any]]:
    found = ask(connection, find_query(name), experiment)
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def test_every_frozen_run_controls_every_other_whatever_either_logs(rungs: dict[str, str], uri: str) -> None:
    controls = {run for name, run in rungs.items() if "frozen" in name}
    client = MlflowClient(uri)
    for name, run in rungs.items():
        tags = client.get_run(run).data.tags
        named = set(filter(None, tags["fa.control_runs"].split(",")))
        assert named == (set() if run in controls else controls), name
        assert ("d" in tags["fa.flags"].split(",")) == (name in ("one", "two")), name
    notes = {name: client.get_run(run).data.tags["mlflow.note.content"] for name, run in rungs.items()}
    assert "last 2 blocks trained" in notes["two"] and "last block trained" in notes["one"]
    assert all(("frozen blocks" in note) == ("frozen" in name) for name, note in notes.items())
    assert not any("blocks trained" in notes[name] for name in notes if "whole" in name)
    run_names = {name: client.get_run(run).info.run_name for name, run in rungs.items()}
    assert run_names["new frozen"] == run_names["own frozen"] == "dfa net 3×8, frozen blocks, seed 2"


def test_old_and_new_runs_of_one_rung_are_one_cell_to_every_reader(
    rungs: dict[str, str], database: Any, uri: str
) -> None:
    by_id = {run: name for name, run in rungs.items()}
    stored = database.execute("select list(run_id) from runs group by cell").fetchall()
    reported = read(database, "rungs")
    gated = gate("rungs", Requirement(controls=True), uri).cells
    readers = (
        [run for (run,) in stored],
        [[run["run_id"] for run in cell.runs] for cell in reported],
        [[run.run_id for run in cell.runs] for cell in gated],
    )
    for found in readers:
        assert sorted(sorted(by_id[run] for run in cell) for cell in found) == CELLS
    assert {cell.name for cell in reported} == {
        f"dfa, net, floats{said}" for said in ("", ", frozen blocks", ", last block trained", ", last 2 blocks trained")
    }
    assert {cell.name for cell in gated} == {f"dfa trainable_blocks={k}" for k in ("all", "0", "1", "2")}
    assert len({frozenset(s.cell.items()) for s in replay("rungs", uri).savings}) == len(CELLS)
    protocol = {column: reported[0].first[column] for column in THRESHOLDS}
    lines = [line for cell in reported for line in deviations(cell, protocol)]
    assert not any("differs in" in line or "contradicts" in line for line in lines)


def test_the_ladder_of_old_and_new_runs_is_one_with_its_gain_over_k_0(database: Any) -> None:
    ladder = {row["trainable_blocks"]: row for row in answer(database, "depth_ladder")}
    assert list(ladder) == [0, 1, 2, 3]
    by_seed = {0: {1: 0.30, 2: 0.35}, 1: {1: 0.33}, 2: {1: 0.20}, 3: {1: 0.50, 2: 0.56, 3: 0.60}}
    for k, row in ladder.items():
        mean = statistics.fmean(by_seed[k].values())
        assert (row["n"], row["accuracy_mean"]) == (len(by_seed[k]), pytest.approx(mean))
        assert (row["best_blocks"], row["n_rungs"], row["also"]) == (3, 4, "")
        common = [100 * (by_seed[k][s] - by_seed[0][s]) for s in by_seed[k] if s in by_seed[0]]
        if k == 0:
            assert (row["gain_pp"], row["gain_sd"], row["n_pairs"]) == (None, None, 0)
        elif len(common) > 1:
            assert row["gain_pp"] == pytest.approx(statistics.fmean(common))
            assert (row["gain_sd"], row["n_pairs"]) == (pytest.approx(statistics.stdev(common)), 2)
        else:
            assert (row["gain_pp"], row["gain_sd"]) == (pytest.approx(100 * (mean - 0.325)), None)
    whole = statistics.stdev(by_seed[3].values())
    assert ladder[3]["accuracy_sd"] == pytest.approx(whole) and ladder[1]["accuracy_sd"] is None


def test_rungs_are_chosen_and_told_apart_in_either_wording(rungs: dict[str, str], database: Any) -> None:
    def runs(selection: str) -> set[str]:
        other = "frozen_blocks=false,trainable_blocks=1" if "=1" not in selection else "frozen_blocks=true"
        found = compare(database, "accuracy/test", selection, other)
        assert found.also_differ == ()
        return {name for name, run in rungs.items() if run in found.a.runs}

    assert runs("frozen_blocks=true") == runs("trainable_blocks=0") == set(CELLS[0])
    assert runs("trainable_blocks=3") == set(CELLS[1])
    assert runs("trainable_blocks=1") == {"one"}
    with pytest.raises(UsageError, match=r"3 cells, which differ in trainable_blocks \(1, 2, 3\): name one, as .*=1"):
        compare(database, "accuracy/test", "frozen_blocks=false", "frozen_blocks=true")
    seeds = answer(database, "cross_seed")
    assert sorted((row["frozen_blocks"], row["also"]) for row in seeds) == [
        (False, ""),
        (False, "trainable_blocks=1"),
        (False, "trainable_blocks=2"),
        (True, ""),
    ]


def test_the_chart_shows_every_seed_of_every_rung_and_the_control(rungs: dict[str, str], workspace: Path) -> None:
    with draw.answers("rungs", workspace / "rungs.duckdb") as asked:
        chart = draw.draw("depth_ladder", "rungs", asked)
    assert chart.specification is not None
    data_of = [row for rows in chart.specification["datasets"].values() for row in rows]
    points = {(row["trainable_blocks"], row["seed"], round(row["accuracy"], 9)) for row in data_of if "run_id" in row}
    seeds = {(0, 1, 0.3), (0, 2, 0.35), (1, 1, 0.33), (2, 1, 0.2), (3, 1, 0.5), (3, 2, 0.56), (3, 3, 0.6)}
    assert points == seeds
    assert ">frozen control</text>" in draw.render(chart, "svg").decode()
    assert "k = 0 (frozen control) 0.325" in chart.description and "best at k = 3" in chart.description


def test_a_contradiction_is_refused_where_it_is_logged_and_said_where_it_stands(
    workspace: Path, uri: str, tmp_path: Path
) -> None:
    wrong = {"frozen_blocks": True, "trainable_blocks": 2}
    for params in (wrong, {"frozen_blocks": False, "trainable_blocks": 0}, {"trainable_blocks": 4}):
        with (
            pytest.raises(UsageError, match="contradicts trainable_blocks="),
            fa_tracking.start_run("contradiction", uri, **PARAMS, **params, seed=1),
        ):
            pytest.fail("a run was begun")
    client = MlflowClient(uri)
    assert client.get_experiment_by_name("contradiction") is None
    home = client.create_experiment("contradiction")
    mine = client.create_run(home).info.run_id
    logged = {**PARAMS, **wrong, "seed": 1}
    metrics = [Metric(key, 0.5, 0, 1) for key in ("accuracy/test", "residual_norm/h0", "residual_norm/h1")]
    client.log_batch(mine, metrics, [Param(key, str(value)) for key, value in logged.items()])
    client.set_terminated(mine)
    with (
        pytest.raises(UsageError, match="frozen_blocks=True contradicts trainable_blocks=2"),
        fa_tracking.start_run(tracking_uri=uri, run_id=mine, method="dfa", seed=1),
    ):
        pytest.fail("a run was joined")
    (audited,) = fa_tracking.audit("contradiction", tracking_uri=uri).runs
    assert audited.report is not None
    assert "last 2 blocks trained, frozen_blocks=True contradicts trainable_blocks=2" in audited.report.notes
    export(workspace / "contradiction.duckdb", uri, "contradiction")
    with connect(workspace / "contradiction.duckdb") as connection:
        (cell,) = read(connection, "contradiction")
    assert not cell.is_frozen
    protocol = {column: cell.first[column] for column in THRESHOLDS}
    assert any("frozen_blocks=True contradicts trainable_blocks=2" in line for line in deviations(cell, protocol))
    log = tmp_path / "log.json"
    log.write_text(json.dumps({"method": "dfa", "seed": 1, **wrong, "log": [{"epoch": 1, "test_acc": 0.5}]}))
    (imported,) = import_logs("json", [log], "imported", uri)
    assert imported.problem and "frozen_blocks=True contradicts trainable_blocks=2" in imported.problem


def test_an_imported_whole_number_of_blocks_is_read_as_one(uri: str, tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    params = {"method": "dfa", "seed": 1, "trainable_blocks": 2.0, "depth": 4}
    log.write_text(json.dumps({**params, "log": [{"epoch": 1, "test_acc": 0.5}]}))
    (imported,) = import_logs("json", [log], "imported", uri)
    assert imported.run_id and MlflowClient(uri).get_run(imported.run_id).data.params["trainable_blocks"] == "2"


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ladders of which every number is known."""
    path = tmp_path_factory.mktemp("ladder") / "r.duckdb"
    runs = [
        *(Run("bp", seed, 0.30 + 0.1 * k + seed / 100, trained=k) for k in range(5) for seed in (1, 2, 3)),
        *(Run("dfa", seed, 0.40 - 0.02 * k + seed / 100, trained=k) for k in range(5) for seed in (1, 2)),
        Run("bp", 1, 0.50, trained=2),  # a repetition of 0.51: no second sample
        Run("bp", 9, NAN, growth=INF, trained=4),
        Run("dfa", 9, 0.9, trained=4, aborted_at=1),
        Run("fa", 1, 0.45, trained=1),
        Run("fa", 1, 0.45, trained=3),  # as good, and no frozen control
        Run("ep", 1, 0.45),  # no ladder
        Run("drtp", 1, None, trained=0, audited=False),
        Run("drtp", 1, None, trained=1, audited=False),
        Run("bp", 1, 0.9, trained=4, depth=8),  # of another network
    ]
    with empty_database(path) as connection:
        for number, run in enumerate(runs):
            run.run_id = f"{number:032x}"
            write(connection, run)
    return path


def test_a_ladder_says_its_best_k_and_holds_no_other_network(by_hand: Path) -> None:
    with connect(by_hand) as connection:
        rows, seeds = (answer(connection, name, "main") for name in ("depth_ladder", "depth_ladder_seeds"))
    found = {(row["method"], row["trainable_blocks"]): row for row in rows}
    assert len(found) == len(rows) == 5 + 5 + 2 + 2
    best = {(row["method"], row["best_blocks"], row["n_rungs"]) for row in rows}
    assert best == {("bp", 4, 5), ("dfa", 0, 5), ("fa", 1, 2), ("drtp", None, 2)}
    for k in range(1, 5):
        assert found["dfa", k]["gain_pp"] == pytest.approx(-2 * k)
        assert found["bp", k]["n_pairs"] == 3
        assert found["bp", k]["gain_pp"] == pytest.approx(10 * k - (100 * 0.005 / 3 if k == 2 else 0))
    assert found["bp", 2]["n_runs"] == 4 and found["bp", 2]["n"] == 3
    assert (found["bp", 4]["n"], found["bp", 4]["n_diverged"]) == (3, 1)
    assert (found["dfa", 4]["n"], found["dfa", 4]["n_aborted"]) == (2, 1)
    assert all(found["fa", k]["gain_pp"] is None for k in (1, 3))
    for (method, k), row in found.items():
        mine = [s for s in seeds if (s["method"], s["trainable_blocks"]) == (method, k)]
        complete = [s["accuracy"] for s in mine if s["state"] == "complete"]
        assert len(complete) == row["n"]
        if complete:
            assert row["accuracy_mean"] == pytest.approx(statistics.fmean(complete))
            assert {s["best_blocks"] for s in mine} == {row["best_blocks"]}
    assert {s["state"] for s in seeds} == {"complete", "diverged", "aborted"}


def test_the_study_is_the_ladder_with_the_recipe_of_each_method_and_the_reduced_form_needs_no_folder() -> None:
    whole = grid.load("depth_ladder")
    rungs = [(c.method, c.trainable_blocks, c.seed) for c in whole.configs()]
    assert len(set(rungs)) == len(rungs) == 2 * 5 * 3
    assert {(c.epochs, c.lr_schedule, c.augmentation, c.batch_size, c.lr) for c in whole.configs()} == {
        (100, "cosine", "crop_flip_mean", 128, 1e-3)
    }
    recipe = {(c.method, c.credit_normalisation, c.credit_index, c.clip_norm) for c in whole.configs()}
    assert recipe == {("bp", "none", "output", math.inf), ("dfa", "rms_eps", "input", 1.0)}
    assert {c.dataset for c in whole.smaller().configs()} <= set(data.built_in())
