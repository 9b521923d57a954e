"""Old logs: every number of them is found again in the store, and what a log cannot say is said."""

import json
import math
import re
import sqlite3
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import Cli
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Run

import fa_tracking
from fa_tracking.checks.gate import gate
from fa_tracking.checks.requirement import Requirement
from fa_tracking.cli import main
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.importers import Imported, import_logs
from fa_tracking.results.database import ask, connect, find_query
from fa_tracking.results.export.export import export
from fa_tracking.tracking.store import LARGEST

EPOCHS = [
    {"epoch": 1, "test_acc": 0.25, "h_L_norm": 40.0, "g_2_norm": 1e-5, "loss": 2.0, "temperature": 0.5},
    {"epoch": 2, "test_acc": 0.31, "h_L_norm": 4e8, "g_2_norm": 3e-9, "loss": None, "temperature": 0.25},
]
LOG = {"method": "dfa", "seed": 42, "lam": 0.01, "depth": 4, "final_test_acc": 0.31, "log": EPOCHS}


def written(folder: Path, name: str = "dfa_s42.json", **changes: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps({**LOG, **changes}))
    return path


def history(uri: str, run_id: str | None, key: str) -> list[tuple[int, float]]:
    assert run_id
    return [(m.step, m.value) for m in MlflowClient(uri).get_metric_history(run_id, key)]


def run_of(uri: str, imported: Imported) -> Run:
    assert imported.run_id, imported
    return MlflowClient(uri).get_run(imported.run_id)


def test_a_log_becomes_a_finished_run_under_the_standard_names(tmp_path: Path, uri: str) -> None:
    path = written(tmp_path, config={"lr": 0.001, "frozen_blocks": True}, layers=[1, 2])
    (done,) = import_logs("json", [path], "plain", uri, h0_norm=8.7, control_accuracy=0.349, params={"dataset": "x"})
    run = run_of(uri, done)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "dfa_s42.json")
    assert run.data.params == {
        **{"method": "dfa", "seed": "42", "penalty": "0.01", "depth": "4", "dataset": "x"},
        **{"config.lr": "0.001", "config.frozen_blocks": "True"},
    }
    assert history(uri, done.run_id, "accuracy/test") == [(1, 0.25), (2, 0.31)]
    assert history(uri, done.run_id, "residual_norm/h4") == [(1, 40.0), (2, 4e8)]
    assert history(uri, done.run_id, "grad_norm/g2") == [(1, 1e-5), (2, 3e-9)]
    assert history(uri, done.run_id, "loss/train") == [(1, 2.0)]
    assert history(uri, done.run_id, "temperature") == [(1, 0.5), (2, 0.25)]
    assert json.loads(run.data.tags["fa.given"]) == {"h0_norm": 8.7, "control_accuracy": 0.349, "params": ["dataset"]}
    assert run.data.tags["fa.imported_from"] == str(path)
    (artifact,) = MlflowClient(uri).list_artifacts(run.info.run_id, "imported")
    kept = Path(MlflowClient(uri).download_artifacts(run.info.run_id, artifact.path))
    assert (kept.name, kept.read_bytes()) == (path.name, path.read_bytes())
    notes = " ".join(done.notes)
    assert "'layers'" in notes and "mean reduction over 128" in notes


@settings(max_examples=12, deadline=None)
@given(values=st.lists(st.one_of(st.none(), st.floats(), st.integers(-(2**53), 2**53)), min_size=1, max_size=40))
def test_every_number_of_a_log_is_found_again_at_its_step(
    tmp_path_factory: pytest.TempPathFactory, workspace: Path, values: list[float | None]
) -> None:
    uri = f"sqlite:///{workspace / 'mlflow.db'}"
    spelled = [str(v) if isinstance(v, float) and not math.isfinite(v) and i % 2 else v for i, v in enumerate(values)]
    entries = [{"epoch": i, "loss": v, "mine": v, "test_acc": 0.5} for i, v in enumerate(spelled)]
    path = written(tmp_path_factory.mktemp("numbers"), log=entries, final_test_acc=None)
    (done,) = import_logs("json", [path], "numbers", uri, replace=True)
    # + 0.0: SQLite keeps no sign of zero
    expected = [(i, max(-LARGEST, min(LARGEST, float(v))) + 0.0) for i, v in enumerate(values) if v is not None]
    for key in ("loss/train", "mine"):
        assert repr(sorted(history(uri, done.run_id, key))) == repr(
            [(i, math.nan if math.isnan(float(values[i] or 0)) else v) for i, v in expected]
        )


def test_importing_again_skips_a_log_and_a_changed_one_is_a_new_run(tmp_path: Path, uri: str) -> None:
    path = written(tmp_path)
    (first,) = import_logs("json", [path], "again", uri)
    (second,) = import_logs("json", [tmp_path], "again", uri, h0_norm=8.7)
    assert (second.state, second.run_id) == ("skipped", first.run_id)
    written(tmp_path, seed=43)
    (third,) = import_logs("json", [path], "again", uri)
    assert third.state == "imported" and f"changed since it became run {first.run_id}" in third.notes[-1]
    (fourth,) = import_logs("json", [path], "again", uri, h0_norm=8.7, replace=True)
    store = MlflowClient(uri)
    found = store.search_runs([store.get_experiment_by_name("again").experiment_id])
    assert {run.info.run_id for run in found} == {first.run_id, fourth.run_id}


def test_a_store_that_fails_midway_leaves_a_failed_run_which_the_next_import_does_not_skip(
    tmp_path: Path, uri: str
) -> None:
    path = written(tmp_path)
    import_logs("json", [written(tmp_path, "other.json", seed=1)], "midway", uri)
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        database.execute(
            "create trigger full before insert on metrics when new.key = 'temperature' "
            "begin select raise(abort, 'the disk is full'); end"
        )
    (broken,) = import_logs("json", [path], "midway", uri)
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        database.execute("drop trigger full")
    assert broken.state == "failed" and broken.problem and "the disk is full" in broken.problem
    (whole,) = import_logs("json", [path], "midway", uri)
    assert whole.state == "imported"
    store = MlflowClient(uri)
    found = store.search_runs([store.get_experiment_by_name("midway").experiment_id])
    assert sorted((run.info.run_name, run.info.status) for run in found) == [
        ("dfa_s42.json", "FAILED"),
        ("dfa_s42.json", "FINISHED"),
        ("other.json", "FINISHED"),
    ]


def test_a_map_finds_nested_fields_scales_percent_and_reads_the_path(tmp_path: Path, uri: str) -> None:
    fields = tmp_path / "fields.toml"
    fields.write_text(
        'log = "run.history"\nepoch = "at.step"\npath = "_s(?P<seed>\\\\d+)"\nignore = ["run.junk"]\n'
        'final_accuracy = { key = "run.final", scale = 0.01 }\n'
        '[params]\nmethod = "run.algorithm"\ndepth = "run.shape.1"\nfrozen_blocks = "run.frozen"\n'
        '[metrics]\n"accuracy/test" = { key = "val.acc", scale = 0.01 }\n"residual_norm/hL" = "norms.2"\n'
        '"grad_norm/gL" = "grad"\n'
    )
    history_ = [{"at": {"step": 3}, "val": {"acc": 50}, "norms": [8.7, 9.0, 70.0], "grad": 1e-6}]
    run = {"history": history_, "final": 50.0, "algorithm": "fa", "shape": [256, 2], "frozen": 1, "junk": {"a": 1}}
    path = tmp_path / "x_s7.json"
    path.write_text(json.dumps({"run": run}))
    (done,) = import_logs("json", [path], "mapped", uri, fields, grad_batch=1280)
    assert done.problem is None
    assert {**run_of(uri, done).data.params} == {
        **{"method": "fa", "depth": "2", "frozen_blocks": "True", "seed": "7", "run.shape.0": "256"}
    }
    assert history(uri, done.run_id, "accuracy/test") == [(3, 0.5)]
    assert history(uri, done.run_id, "residual_norm/h2") == [(3, 70.0)]
    assert history(uri, done.run_id, "norms.1") == [(3, 9.0)]
    assert history(uri, done.run_id, "grad_norm/g2") == [(3, pytest.approx(1e-5))]
    assert not any("final" in note for note in done.notes)
    assert {a.path for a in MlflowClient(uri).list_artifacts(str(done.run_id), "imported")} == {
        "imported/x_s7.json",
        "imported/fields.toml",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('logs = "x"', "logs: Extra inputs are not permitted; there are: log, epoch"),
        ('[metrics]\n"a@b" = "x"', "'a@b' is no name in MLflow"),
        ('[metrics]\nx = { key = "y", scale = 0 }', "metrics.x.scale: Input should be greater than 0"),
        ('[metrics]\nx = "y"\nz = "y"', "'y' cannot be two things at once"),
        ('path = "seed"', "has no named group"),
        ("log = ", "is no TOML"),
    ],
)
def test_a_wrong_map_is_wrong_usage(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "map.toml").write_text(text)
    with pytest.raises(UsageError, match=r"map\.toml") as error:
        import_logs("json", [written(tmp_path)], "wrong", map_file=tmp_path / "map.toml", dry_run=True)
    assert says in str(error.value)


def test_the_accuracy_at_the_end_is_the_last_epochs_own_where_it_has_one(tmp_path: Path, uri: str) -> None:
    written(tmp_path, "differs.json", final_test_acc=0.4)
    written(tmp_path, "silent.json", log=[*EPOCHS, {"epoch": 3, "loss": 1.0}], final_test_acc=0.4)
    differs, silent = import_logs("json", [tmp_path], "final", uri)
    assert any("0.4, but the last epoch, 2, says 0.31, which is the headline" in note for note in differs.notes)
    assert history(uri, differs.run_id, "accuracy/test") == [(1, 0.25), (2, 0.31)]
    assert history(uri, differs.run_id, "final_test_acc") == [(2, 0.4)]
    notes = {a.run_id: a.report.notes for a in fa_tracking.audit("final", uri).runs if a.report}
    assert "final_test_acc 0.4 in the log, last epoch 0.31" in notes[str(differs.run_id)]
    assert "in the log" not in notes[str(silent.run_id)]
    assert any("taken as the test accuracy of the last epoch, 3" in note for note in silent.notes)
    assert history(uri, silent.run_id, "accuracy/test") == [(1, 0.25), (2, 0.31), (3, 0.4)]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"log": 3}, "'log' is a number, not a list"),
        ({"log": []}, "there is no epoch"),
        ({"log": [1]}, "entry 1 of 'log' is a number"),
        ({"log": [{"loss": 1}]}, "entry 1 of 'log' has no 'epoch'"),
        ({"log": [{"epoch": 1.5, "loss": 1}]}, "not an integer"),
        ({"log": [{"epoch": 10**20, "loss": 1}]}, "is not between 0 and"),
        ({"log": [*EPOCHS, {**EPOCHS[0], "loss": 1.0}]}, "epoch 1 stands in it twice, with 'loss' 2.0 and 1.0"),
        (
            {"log": [{"epoch": 1, "test_acc": 31}]},
            'with [metrics] "accuracy/test" = { key = "test_acc", scale = 0.01 }',
        ),
        ({"log": [{"epoch": 1, "test_acc": "high"}]}, "'test_acc' is 'high', which is no number"),
        ({"log": [{"epoch": 1, "h_5_norm": 1}]}, "'h_5_norm' is of a layer beyond the deepest, 4"),
        ({"log": [{"epoch": 1, "h_L_norm": 1, "h_4_norm": 2}]}, "'h_L_norm' and 'h_4_norm' are both residual_norm/h4"),
        ({"log": [{"epoch": 1, "x": "text"}], "final_test_acc": None}, "there is no number"),
        ({"depth": None}, "the log tells no depth"),
        ({"final_test_acc": 31}, "final_accuracy = { key"),
        (
            {"log": [{"epoch": 1, "h_L_norm": 3.0}, {"epoch": 2, "h_L_norm": -3.0}]},
            "epoch 2: 'h_L_norm': residual_norm/h4: a norm is not negative, got -3",
        ),
        ({"log": [{"epoch": 1, "alignment/l0": -7}]}, "'alignment/l0': alignment/l0: a cosine is in [-1, 1], got -7"),
        ({"log": [{"epoch": -1, "loss": 1}]}, "epoch -1 is not between 0 and"),
        ({"log": [{"epoch": 1, "loss": 2.0}], "final_test_acc": None}, "holds nothing that an audit reads"),
        ({"penalty": 0.5}, "'lam' and 'penalty' are both the param penalty"),
    ],
)
def test_a_broken_log_is_one_line_and_the_others_go_on(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    written(tmp_path, "a_bad.json", **changes)
    written(tmp_path, "b_good.json")
    bad, good = import_logs("json", [tmp_path], "broken", dry_run=True)
    assert bad.problem and says in bad.problem and "\n" not in bad.problem
    assert good.state == "found"


@pytest.mark.parametrize(
    "text",
    ["", "[", "[" * 100_000, '{"a":' * 900 + "1" + "}" * 900, "1" * 5000, '{"log": 1, "log": 2}', "\x00", "null"],
)
def test_what_is_no_json_object_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    (bad,) = import_logs("json", [tmp_path], "broken", dry_run=True)
    assert bad.state == "failed" and bad.problem and "\n" not in bad.problem


def test_the_command_goes_on_after_a_bad_file_and_says_what_is_next(tmp_path: Path, cli: Cli) -> None:
    written(tmp_path, "bad.json", log=3)
    written(tmp_path, "good.json")
    done = cli("import", "json", f"{tmp_path}/*.json", "--experiment", "fresh", "--param", "width=64")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{tmp_path}/bad.json: 'log' is a number, not a list of epochs" in done.stderr.splitlines()
    assert "good.json" in done.stdout and "imported" in done.stdout
    assert "next: fa-track audit --experiment fresh; fa-track replay --experiment fresh" in done.stderr


def test_a_dry_run_writes_nothing_and_its_json_is_data_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "bad.json", log=3)
    written(tmp_path, "good.json")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    tried = CliRunner().invoke(main, ["import", "json", "..", "--experiment", "x", "--dry-run", "--format", "json"])
    assert tried.exit_code == 1
    assert [each["state"] for each in json.loads(tried.stdout)] == ["failed", "found"]
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nowhere"], "there is no nowhere"),
        ([".", "--param", "width"], "'width' is not KEY=VALUE"),
        ([".", "--param", "frozen_blocks=perhaps"], "frozen_blocks is true or false"),
        ([".", "--control-accuracy", "34.9"], "must be a share in [0, 1]"),
        ([".", "--h0-norm", "nan"], "must be above 0 and finite"),
        ([".", "--map", "nowhere.toml"], "the map nowhere.toml cannot be read"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_read(args: list[str], says: str) -> None:
    refused = CliRunner().invoke(main, ["import", "json", *args, "--experiment", "x"], prog_name="fa-track")
    assert refused.exit_code == 2 and says in refused.stderr.splitlines()[-1]


def test_a_log_without_method_and_seed_says_what_to_give_and_can_be_audited_and_replayed(
    tmp_path: Path, cli: Cli
) -> None:
    written(tmp_path, method=None, seed=None)
    done = cli("import", "json", str(tmp_path), "--experiment", "nameless", "--h0-norm", "8.7")
    assert done.returncode == 0 and "it says no method and seed" in done.stderr
    assert "--param method=… --param seed=…" in done.stderr
    for command in ("audit", "replay"):
        done = cli(command, "--experiment", "nameless")
        assert done.returncode == 0, done.stderr
        assert "dfa_s42.json" in done.stdout


def events(folder: Path, steps: int) -> Path:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for step in range(steps):
            writer.add_scalar("loss", step / 4 if step % 7 else math.nan, step)
            writer.add_scalar("h_L_norm", 2.0**step if step < 100 else math.inf, step, new_style=True)
        writer.add_scalar("accuracy/test", 0.5, steps - 1)
        writer.add_text("story", "not a number")
        writer.add_hparams({"depth": 4, "lr": 0.25, "frozen_blocks": True}, {"mine": 1.0})
    return folder


def test_event_files_keep_every_point_and_their_hyperparameters(tmp_path: Path, uri: str) -> None:
    events(tmp_path / "runs" / "dfa_s1", 1500)
    found = import_logs("tensorboard", [tmp_path], "events", uri, params={"method": "dfa"})
    assert [Path(each.source).name for each in found] == ["dfa_s1"]
    run = run_of(uri, found[0])
    assert run.data.params == {"depth": "4", "lr": "0.25", "frozen_blocks": "True", "method": "dfa"}
    losses = history(uri, found[0].run_id, "loss/train")
    assert repr(losses) == repr([(step, step / 4 if step % 7 else math.nan) for step in range(1500)])
    norms = history(uri, found[0].run_id, "residual_norm/h4")
    assert norms == [(step, 2.0**step if step < 100 else LARGEST) for step in range(1500)]
    assert run.data.metrics["accuracy/test"] == 0.5 and run.data.metrics["mine"] == 1.0
    assert any("'story/text_summary'" in note for note in found[0].notes)
    (again,) = import_logs("tensorboard", [tmp_path], "events", uri)
    assert again.state == "skipped"


def test_the_results_of_hyperparameters_at_step_0_are_no_epoch(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    for name, first in (("lightning", 1), ("with_epoch_0", 0)):
        with SummaryWriter(str(tmp_path / name)) as writer:
            writer.add_scalar("hp_metric", -1.0, 0)
            for step in range(first, 4):
                writer.add_scalar("test_acc", 0.25, step)
            writer.add_hparams({"lr": 0.1}, {"best": 0.25})
    after, before = import_logs("tensorboard", [tmp_path], "epochs", dry_run=True)
    assert (after.epochs, before.epochs) == (3, 4)
    assert {"hp_metric", "best"} <= set(after.metrics)


def test_a_cut_event_file_gives_what_is_whole_and_says_so(tmp_path: Path) -> None:
    folder = events(tmp_path / "cut", 5)
    file = next(folder.glob("*tfevents*"))
    whole = import_logs("tensorboard", [file], "cut", params={"depth": "4"}, dry_run=True)[0]
    file.write_bytes(file.read_bytes()[:-200])
    cut = import_logs("tensorboard", [file], "cut", params={"depth": "4"}, dry_run=True)[0]
    assert cut.points and whole.points and cut.points < whole.points
    assert any("cut off or damaged" in note for note in cut.notes)
    file.write_text("no event file at all")
    assert "is no TensorBoard event file" in str(import_logs("tensorboard", [file], "cut", dry_run=True)[0].problem)


Series = dict[str, list[tuple[int, float]]]


def wrote(folder: Path, points: Series, purge: int | None = None, suffix: str = "") -> Path:
    """An event file by PyTorch's writer, one tag after the other."""
    from torch.utils.tensorboard import SummaryWriter

    before = set(folder.glob("*"))
    with SummaryWriter(str(folder), purge_step=purge, filename_suffix=suffix) as writer:
        for tag, series in points.items():
            for step, value in series:
                writer.add_scalar(tag, value, step, walltime=1e9 + step)
    (file,) = set(folder.glob("*")) - before
    return file


def course(slope: float, *steps: int) -> list[tuple[int, float]]:
    return [(step, round(slope * step, 6)) for step in steps]


def tried(path: Path, **how: Any) -> Imported:
    (found,) = import_logs("tensorboard", [path], "tried", dry_run=True, **how)
    return found


def read_back(path: Path) -> Series:
    """What counts of a folder's scalars, for the import."""
    from fa_tracking.importers import tensorboard
    from fa_tracking.importers._fields import Fields

    (raw,) = tensorboard.read(path, Fields())
    points = raw.points
    return {tag: [(p.step, round(p.value, 6)) for p in found] for tag, found in points.items()}


@pytest.mark.parametrize("restarts", [[5], [5, 3], [7, 2, 4], [0], [9]])
def test_a_declared_restart_voids_what_tensorboard_voids(restarts: list[int], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = [wrote(tmp_path, {"test_acc": course(0.1, *range(1, 7)), "h_4_norm": course(8, 0, 3, 6)})]
    for number, start in enumerate(restarts, start=2):
        files.append(wrote(tmp_path, {"test_acc": course(0.1 / number, *range(start, start + 4))}, purge=start))
    for number, file in enumerate(files):
        file.rename(tmp_path / f"events.out.tfevents.{number}")  # TensorBoard reads them by name
    shown = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0}).Reload()
    assert read_back(tmp_path) == {
        tag: [(each.step, round(each.value, 6)) for each in found]
        for tag in shown.Tags()["scalars"]
        if (found := shown.Scalars(tag))
    }


def test_a_declared_restart_is_told_with_what_it_voids(tmp_path: Path) -> None:
    wrote(tmp_path, {"test_acc": course(0.1, *range(1, 7))})
    wrote(tmp_path, {"test_acc": course(0.09, *range(5, 9))}, purge=5)
    assert "its restart at step 5 voids 2 points of steps 5 to 6" in tried(tmp_path).notes


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"test_acc": course(0.1, *range(1, 7))}, {"test_acc": course(0.2, 1, 2, 3)}),
        ({"test_acc": course(0.1, 1, 2, 3)}, {"test_acc": course(0.2, *range(7))}),  # begins before the first
        ({"test_acc": course(0.1, 5, 10)}, {"test_acc": course(0.1, 4, 8)}),  # not one step in common
        ({"test_acc": course(0.1, 1), "h_4_norm": course(9, 1)}, {"test_acc": course(0.2, 1, 2), "h_4_norm": [(1, 2)]}),
        ({"test_acc": [(0, 0.1), (1, 0.2), (2, 0.3)]}, {"test_acc": [(0, 0.1), (1, 0.25), (2, 0.3)]}),  # one seed
    ],
)
def test_two_trainings_of_one_folder_are_refused_and_each_file_is_one(
    first: Series, second: Series, tmp_path: Path
) -> None:
    files = [wrote(tmp_path, first, suffix=".first"), wrote(tmp_path, second, suffix=".second")]
    problem = str(tried(tmp_path).problem)
    assert all(file.name in problem for file in files) and "\n" not in problem
    assert "import the file that is meant by its own name" in problem
    assert [read_back(file) for file in files] == [first, second]


def test_two_trainings_of_one_file_are_refused_and_what_is_no_measurement_can_be_ignored(tmp_path: Path) -> None:
    file = wrote(tmp_path, {"loss": [*course(1, 1, 2, 3), *course(2, 1, 2)], "test_acc": course(0.1, 3)})
    (tmp_path / "map.toml").write_text('ignore = ["loss"]')
    assert f"{file.name} holds two trainings: 'loss' is at steps 1 to 3" in str(tried(tmp_path).problem)
    assert tried(tmp_path, map_file=tmp_path / "map.toml").metrics == ("accuracy/test",)


def test_a_restart_that_nothing_declares_voids_the_tags_that_go_back_and_says_so(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    first = wrote(
        tmp_path / "two", {"test_acc": course(0.1, *range(1, 7)), "h_4_norm": course(8, 2, 4, 6)}, suffix=".a"
    )
    second = wrote(tmp_path / "two", {"test_acc": course(0.09, 4, 5), "h_4_norm": course(7, 4)}, suffix=".b")
    assert read_back(tmp_path / "two") == {
        "test_acc": [*course(0.1, 1, 2, 3), *course(0.09, 4, 5)],
        "h_4_norm": [*course(8, 2), *course(7, 4)],
    }
    (note,) = (note for note in tried(tmp_path / "two").notes if "restart" in note)
    assert note.startswith(f"{second.name} goes back to step 4 of {first.name}, and no session log says why")
    assert "voids 5 points of steps 4 to 6" in note and "import each file by its own name" in note

    with SummaryWriter(str(tmp_path / "one")) as writer:
        for step, value in [*course(0.1, 1, 2, 3, 4), *course(0.05, 3, 4, 5)]:
            writer.add_scalar("test_acc", value, step)
            writer.add_scalar("h_4_norm", value * 10, step)
    assert [step for step, _ in read_back(tmp_path / "one")["h_4_norm"]] == [1, 2, 3, 4, 5]
    assert read_back(tmp_path / "one")["test_acc"] == [*course(0.1, 1, 2), *course(0.05, 3, 4, 5)]


@pytest.mark.parametrize(
    "files",
    [
        [{"h_4_norm": course(8, 1, 2, 3)}, {"test_acc": course(0.1, 1, 2, 3)}],  # a writer for training, one for tests
        [{"test_acc": course(0.1, 1, 2)}, {"test_acc": course(0.1, 1, 2, 3)}],  # a copy that goes on
        [{"test_acc": course(0.1, 1, 2)}, {"test_acc": course(0.2, 3, 4)}],
        [{"test_acc": course(0.1, 1, 2), "loss": course(1, 2)}, {"loss": course(2, 2)}],  # a last evaluation, once more
        [{"test_acc": course(0.1, 1, 2), "epoch": [(1, 0), (2, 0), (3, 1), (2, 0), (4, 1)]}],  # by two loops in turn
        [{"test_acc": [(1, 0.1), (1, 0.3), (2, 0.2)]}],
    ],
)
def test_what_contradicts_nothing_is_one_training(files: list[Series], tmp_path: Path) -> None:
    wanted: Series = {}
    for number, points in enumerate(files):
        wrote(tmp_path, points, suffix=f".{number}")
        for tag, series in points.items():
            wanted[tag] = [
                *wanted.get(tag, []),
                *(each for each in series if number == 0 or each not in wanted.get(tag, [])),
            ]
    assert read_back(tmp_path) == wanted
    assert not [note for note in tried(tmp_path).notes if "void" in note]


def test_a_counter_of_batches_that_begins_anew_each_epoch_is_no_second_training(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for epoch in (1, 2, 3, 4):
            for batch in range(3):
                writer.add_scalar("loss/batch", epoch + batch, batch)
            if epoch % 2 == 0:
                writer.add_scalar("test_acc", 0.1 * epoch, epoch)
    assert len(read_back(tmp_path)["loss/batch"]) == 12
    assert any("'loss/batch': counts its steps anew" in note for note in tried(tmp_path).notes)


def test_the_last_of_several_values_at_a_step_counts_also_within_one_millisecond(tmp_path: Path, uri: str) -> None:
    wrote(tmp_path, {"test_acc": [(1, 0.1), (1, 0.9), (1, 0.3)]})
    (done,) = import_logs("tensorboard", [tmp_path], "twice", uri)
    assert run_of(uri, done).data.metrics["accuracy/test"] == pytest.approx(0.3)
    assert len(history(uri, done.run_id, "accuracy/test")) == 3


def test_what_add_scalars_writes_belongs_to_the_run_above(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "run")) as writer:
        for epoch in (1, 2):
            writer.add_scalars("net/acc", {"train": 0.3 * epoch, "test/1": 0.2 * epoch}, epoch)
            writer.add_scalar("test_acc", 0.25, epoch)
    wrote(tmp_path / "run" / "net_acc_study", {"test_acc": course(0.1, 1)})  # a run that is only called so
    own, other = import_logs("tensorboard", [tmp_path], "scalars", dry_run=True)
    assert (Path(own.source).name, Path(other.source).name) == ("run", "net_acc_study")
    assert set(own.metrics) == {"accuracy/test", "net/acc/train", "net/acc/test/1"}
    assert read_back(tmp_path / "run")["net/acc/train"] == course(0.3, 1, 2)


def test_results_of_hyperparameters_are_no_measurement_at_step_0(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    for name, at in (("below", None), ("beside", ".")):
        with SummaryWriter(str(tmp_path / name)) as writer:
            for step in range(3):
                writer.add_scalar("test_acc", 0.1 + 0.1 * step, step)
            writer.add_hparams({"lr": 0.5}, {"test_acc": 0.9}, run_name=at)
        assert read_back(tmp_path / name)["test_acc"] == [(0, 0.1), (1, 0.2), (2, 0.3)]
        assert tried(tmp_path / name).params == {"lr": "0.5"}


def test_two_sets_of_hyperparameters_are_a_contradiction(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("test_acc", 0.5, 1)
        for lr in (0.1, 0.2):
            writer.add_hparams({"lr": lr}, {"best": lr}, run_name=f"{lr}")
    assert "'lr' is 0.1 in 0.1/" in str(tried(tmp_path).problem)


def test_lightning_s_and_hydra_s_files_give_params_that_the_events_lack(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    job = tmp_path / "0"
    folder = job / "lightning_logs" / "version_0"
    with SummaryWriter(str(folder)) as writer:
        writer.add_scalar("test_acc", 0.5, 1)
        writer.add_hparams({"depth": 4}, {"best": 0.5})
    (folder / "hparams.yaml").write_text("depth: 4\nmethod: dfa\nlr: 0.01\nnone: null\nmodel:\n  width: 64\n")
    (job / ".hydra").mkdir()
    (job / ".hydra" / "overrides.yaml").write_text("- method=bp\n- +seed=3\n- ~dropout\n- optim.name=sgd\n")
    found = tried(folder)
    assert found.params == {"depth": "4", "method": "dfa", "lr": "0.01", "seed": "3", "optim.name": "sgd"}
    assert any("'model'" in note for note in found.notes)
    (folder / "hparams.yaml").write_text("depth: 5\n")
    assert "'depth' is 4.0 in " in str(tried(folder).problem) and "5 in hparams.yaml" in str(tried(folder).problem)
    (folder / "hparams.yaml").write_text("a: !!python/object/apply:pathlib.PosixPath [x]\n")
    broken = tried(folder)
    assert broken.problem is None and any("hparams.yaml is not imported" in note for note in broken.notes)


def test_a_folder_without_a_scalar_says_what_it_holds_and_the_example_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    from fa_tracking.importers import tensorboard

    with SummaryWriter(str(tmp_path / "texts")) as writer:
        writer.add_text("note", "x", 1)
        writer.add_histogram("grad/layer1", np.arange(9.0), 1)
    problem = str(tried(tmp_path / "texts").problem)
    assert "'note/text_summary' (text)" in problem and "'grad/layer1' (histograms)" in problem
    monkeypatch.chdir(tmp_path)
    exec(tensorboard.EXAMPLE, {})
    assert len(tensorboard.EXAMPLE.splitlines()) == 5
    assert tried(tmp_path / "runs").metrics == ("accuracy/test", "residual_norm/h4")


def test_an_accuracy_between_the_diagnostics_is_taken_with_its_step(tmp_path: Path, uri: str) -> None:
    norms = {
        "h_0_norm": [(step, 1.0) for step in range(4, 30, 5)],
        "h_4_norm": [(step, 2.0) for step in range(4, 30, 5)],
    }
    wrote(tmp_path, {**norms, "test_acc": [(0, math.nan), (9, 0.35), (19, 0.5), (39, 0.75)]})
    given = {"method": "dfa", "depth": "4", "seed": "1"}
    import_logs("tensorboard", [tmp_path], "between", uri, control_accuracy=0.4, params=given)
    (audited,) = fa_tracking.audit("between", uri, pictures=False).runs
    assert audited.report and (audited.epoch, audited.report.headline_acc) == (29, 0.5)
    assert audited.report.notes.endswith("accuracy of step 19, the last before 29")
    (replayed,) = fa_tracking.replay("between", uri).runs
    assert (replayed.stop.epoch, replayed.diagnostics["d"].epoch) == (4, 9)
    assert (replayed.diagnostics["d"].accuracy, replayed.final_accuracy) == (pytest.approx(0.35), 0.75)
    assert math.isnan(replayed.stop.accuracy or 0)
    export("between.duckdb", uri)
    with connect("between.duckdb") as connection:
        answer = ask(connection, find_query("first_flag"), "between")
        asked = dict(zip(answer.columns, answer.fetchall()[0], strict=True))
        (headline,) = connection.execute(
            "select headline_accuracy from audits where run_id = ?", [audited.run_id]
        ).fetchall()[0]
    assert headline == 0.5
    assert (asked["not_finite_epoch"], asked["first_epoch"], asked["final_accuracy"]) == (4, 4, 0.75)
    assert math.isnan(asked["accuracy_at_first"])
    (cell,) = gate("between", Requirement(allow_partial=True), uri).cells
    assert "since" not in cell.runs[0].why


def test_without_tensorboard_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(FATrackError, match=r"pip install 'fa-track\[tensorboard\]'"):
        import_logs("tensorboard", [tmp_path], "missing", dry_run=True)


def test_the_document_s_log_and_map_are_read(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "docs/how-to/import.md").read_text()
    written = dict(re.findall(r"^cat > (\S+) <<'END'\n(.*?)^END$", text, re.DOTALL | re.MULTILINE))
    (tmp_path / "x.json").write_text(written["logs/dfa_42.json"])
    (tmp_path / "map.toml").write_text(written["fields.toml"])
    (plain,) = import_logs("json", [tmp_path], "document", dry_run=True)
    assert set(plain.metrics) == {"accuracy/test", "residual_norm/h4", "grad_norm/g2", "final_test_acc"}
    entry = {"step": 1, "val": {"acc": 50}, "norms": {"deepest": 9.0, "g": [1, 2, 3]}, "cosine": 0.1}
    run = {"history": [entry], "config": {"model": "vit", "lambda": 0, "shape": [64, 4]}, "final": 50, "git": "0"}
    (tmp_path / "dfa_seed3.json").write_text(json.dumps({"run": run}))
    (mapped,) = import_logs("json", [tmp_path / "dfa_seed3.json"], "d", map_file=tmp_path / "map.toml", dry_run=True)
    assert mapped.problem is None
    wanted = {"method": "dfa", "seed": "3", "architecture": "vit", "penalty": "0", "depth": "4"}
    assert mapped.params == {**wanted, "run.config.shape.0": "64"}
    assert {"accuracy/test", "residual_norm/h4", "grad_norm/g2", "diagnostics/stability"} <= set(mapped.metrics)


ROWS = [{"epoch": 1, "test_acc": 0.25, "h_2_norm": 40.0}, {"epoch": 2, "test_acc": 0.31, "h_2_norm": 4e8}]
COLUMNS = {"test_acc": [0.25, 0.31], "h_2_norm": [40.0, 4e8]}
AS_ROWS = {"accuracy/test": [(1, 0.25), (2, 0.31)], "residual_norm/h2": [(1, 40.0), (2, 4e8)]}
AT_STEPS = {"accuracy/test": [(10, 0.25), (20, 0.31)], "residual_norm/h2": [(10, 40.0), (20, 4e8)]}
SHAPES: dict[str, tuple[Any, dict[str, list[tuple[int, float]]]]] = {
    "list": (ROWS, AS_ROWS),
    "epochs": ({"seed": 1, "epoch_1": ROWS[0], "epoch_2": ROWS[1]}, AS_ROWS),
    "numbers": ({"1": {k: v for k, v in ROWS[0].items() if k != "epoch"}, "2": ROWS[1]}, AS_ROWS),
    "below_a_key": ({"config": {"lr": 0.1}, "results": {"Epoch 1": ROWS[0], "Epoch 2": ROWS[1]}}, AS_ROWS),
    "columns": (COLUMNS, AS_ROWS),
    "nested_columns": ({"a": {"b": {"c": [1, 2]}}, **COLUMNS}, AS_ROWS | {"a.b.c": [(1, 1.0), (2, 2.0)]}),
    "keras": (
        {"epoch": [0, 1], "params": {"verbose": 1}, "history": COLUMNS},
        {key: [(step - 1, value) for step, value in series] for key, series in AS_ROWS.items()},
    ),
    "frame_in_parts": (
        {"columns": ["epoch", "Test Acc", "h_2_norm"], "index": [0, 1], "data": [[1, 0.25, 40.0], [2, 0.31, 4e8]]},
        AS_ROWS,
    ),
    "by_split": ({"train": {"loss": [2, 1]}, "test": {"acc": [0.25, 0.31]}, "h_2_norm": [40.0, 4e8]}, AS_ROWS),
    "frame": ({key: dict(zip("12", values, strict=True)) for key, values in COLUMNS.items()}, AS_ROWS),
    "sacred": ({key: {"steps": [10, 20], "timestamps": [], "values": v} for key, v in COLUMNS.items()}, AT_STEPS),
    "sacred_mongo": ([{"name": key, "steps": [10, 20], "values": v} for key, v in COLUMNS.items()], AT_STEPS),
    "trainer": (
        {
            "global_step": 20,
            "log_history": [
                {"epoch": 0.5, "step": 10, "h_2_norm": 40.0},
                {"epoch": 0.5, "step": 10, "test_acc": 0.25},
                {"epoch": 1.0, "step": 20, "test_acc": 0.31, "h_2_norm": None},
                {"epoch": 1.0, "step": 20, "test_acc": 0.31, "h_2_norm": 4e8},
            ],
        },
        AT_STEPS,
    ),
}
TEXTS: dict[str, tuple[str, str, dict[str, list[tuple[int, float]]]]] = {
    "lines.jsonl": ("json", '{"args": {"lr": 0.1}}\n' + "\n".join(map(json.dumps, ROWS)) + '\n{"ep', AS_ROWS),
    "one.jsonl": ("json", json.dumps(ROWS[0]), {key: series[:1] for key, series in AS_ROWS.items()}),
    "kinds.jsonl": (
        "json",
        "\n".join(
            json.dumps({"kind": kind, "epoch": row["epoch"], key: row[key]})
            for row in ROWS
            for kind, key in (("test", "test_acc"), ("train", "h_2_norm"))
        ),
        AS_ROWS,
    ),
    "lines.json": ("json", "\ufeff" + "\n\n".join(map(json.dumps, ROWS)), AS_ROWS),
    "table.csv": ("csv", "epoch,test_acc,h_2_norm\r\n1,0.25,40.0\r\n2,.31,4e8\r\n3,0.4", AS_ROWS),
    "europe.csv": ("csv", "# made by hand\nepoch;test_acc;h_2_norm\n1;0.25;40.0\n2;0.31;4e8\n", AS_ROWS),
    "frame.csv": ("csv", ",test_acc,h_2_norm\n1,0.25,40\n2,0.31,4e8\n", AS_ROWS),
    "lightning.csv": ("csv", "epoch,step,h_2_norm,test_acc\n0,10,40,\n0,10,,0.25\n0,20,4e8,\n1,20,,0.31\n", AT_STEPS),
    "lightning_by_epoch.csv": ("csv", "epoch,step,h_2_norm,test_acc\n1,9,40,\n1,10,,0.25\n2,20,4e8,0.31\n", AS_ROWS),
}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Imported]]:
    """Every shape of a log in one store, and what became of each."""
    folder = tmp_path_factory.mktemp("shapes")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    for name, (log, _) in SHAPES.items():
        (folder / f"{name}.json").write_text(json.dumps(log))
    for name, (_, text, _) in TEXTS.items():
        (folder / name).write_bytes(text.encode())
    found = [each for form in ("json", "csv") for each in import_logs(form, [folder], "shapes", uri)]
    return uri, {Path(each.source).name.removesuffix(".json"): each for each in found}


@pytest.mark.parametrize(
    ("name", "expected"),
    [(name, expected) for name, (_, expected) in SHAPES.items()]
    + [(name.removesuffix(".json"), expected) for name, (_, _, expected) in TEXTS.items()],
)
def test_every_shape_of_a_log_gives_the_same_numbers(
    name: str, expected: dict[str, list[tuple[int, float]]], shapes: tuple[str, dict[str, Imported]]
) -> None:
    uri, found = shapes
    assert found[name].state == "imported", found[name].problem
    assert {key: history(uri, found[name].run_id, key) for key in expected} == expected


def test_what_stands_beside_the_rows_or_is_the_same_in_all_of_them_is_a_param(tmp_path: Path) -> None:
    lines = [
        {"step": i, "test_acc": 0.1 * i, "lr": 0.1 / i, "width": 128, "dataset": "x", "augment": True} for i in (1, 2)
    ]
    path = tmp_path / "lines.jsonl"
    path.write_text('{"method": "dfa"}\n' + "\n".join(map(json.dumps, lines)))
    (done,) = import_logs("json", [path], "x", dry_run=True)
    assert done.params == {"method": "dfa", "width": "128", "dataset": "x", "augment": "True"}
    assert set(done.metrics) == {"accuracy/test", "lr"}
    path.write_text("\n".join(json.dumps({**line, "seed": i}) for i, line in enumerate(lines)))
    (mixed,) = import_logs("json", [path], "x", dry_run=True)
    assert mixed.problem == "'seed' is 0 and 1: it holds several trainings; write a file for each"


def test_an_export_of_weights_and_biases_is_a_run_for_each_of_its_own(tmp_path: Path, uri: str) -> None:
    columns = [f"{run} - test_acc{end}" for run in ("dfa_s1", "bp - s2") for end in ("", "__MIN", "__MAX")]
    text = ",".join(f'"{name}"' for name in ["Step", *columns])
    path = tmp_path / "chart.csv"
    path.write_text(f"{text}\n1,0.2,0.2,0.2,,,\n2,0.3,0.3,0.3,0.5,0.4,0.6\n")
    fields = tmp_path / "map.toml"
    fields.write_text("path = '/(?P<method>[a-z]+)[^/]*s(?P<seed>\\d+)$'")
    dfa, bp = import_logs("csv", [path], "wandb", uri, map_file=fields)
    assert history(uri, dfa.run_id, "accuracy/test") == [(1, 0.2), (2, 0.3)]
    assert history(uri, bp.run_id, "accuracy/test") == [(2, 0.5)]
    assert [run_of(uri, each).data.params for each in (dfa, bp)] == [
        {"method": "dfa", "seed": "1"},
        {"method": "bp", "seed": "2"},
    ]
    assert run_of(uri, dfa).info.run_name == "dfa_s1"
    assert any("'test_acc' is an average at 1 of its 2 steps" in note for note in bp.notes)
    assert [each.state for each in import_logs("csv", [path], "wandb", uri, map_file=fields)] == ["skipped", "skipped"]


def test_an_accuracy_on_held_out_data_stands_in_for_the_test_accuracy_and_the_run_says_so(
    tmp_path: Path, uri: str
) -> None:
    path = tmp_path / "history.json"
    path.write_text(json.dumps({"loss": [2.0, 1.0], "accuracy": [0.5, 0.6], "val_accuracy": [0.25, 0.31]}))
    (done,) = import_logs("json", [path], "keras", uri)
    assert history(uri, done.run_id, "accuracy/test") == [(1, 0.25), (2, 0.31)]
    assert run_of(uri, done).data.tags["fa.import_notes"] == "the accuracy is its val_accuracy"
    (tested,) = import_logs("json", [written(tmp_path, log=[{**ROWS[0], "val_acc": 0.9}], depth=2)], "keras", uri)
    assert history(uri, tested.run_id, "val_acc") == [(1, 0.9)]
    assert "fa.import_notes" in run_of(uri, tested).data.tags  # of its final accuracy alone
    assert "val_acc" not in run_of(uri, tested).data.tags["fa.import_notes"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "a.json",
            '{"epoch_1": {"loss": 1}, "epoch_01": {"loss": 2}}',
            "epoch 1 stands in it twice, with 'loss' 1 and 2",
        ),
        ("a.json", '{"loss": [1, 2], "test_acc": [0.1]}', "'loss' has 2 values and 'test_acc' has 1"),
        ("a.json", '{"one": [{"epoch": 1}], "two": [{"epoch": 1}]}', "'one' and 'two' may each be the epochs"),
        ("a.json", '{"one": 1, "two": {"three": "x"}}', "has no 'log': it holds 'one', 'two'; a --map says which"),
        ("a.json", '{"x": {"steps": [1, 2], "values": [1]}}', "'x' has 2 steps and 1 values"),
        ("a.json", "[[1, 0.5], [2, 0.6]]", "entry 1 of the list is a list, not an object"),
        ("a.json", "[]", "is empty: there is no epoch"),
        ("a.jsonl", '{"epoch": 1, "test_acc": 1}\n{oops}\n{"epoch": 2, "test_acc": 1}', "line 2 is no JSON"),
        ("a.jsonl", '{"epoch": 1, "test_acc": 1}\n[]', "line 2 is no object"),
        ("a.jsonl", '{"epoch": 1, "test_acc": 1}\n{"epoch": 1, "test_acc": 0.5}', "epoch 1 stands in it twice"),
        ("a.csv", "1,2.2\n2,2.1\n", "its first line has no names of columns: it holds '1', '2.2'"),
        ("a.csv", "epoch,epoch\n1,2\n", "the column 'epoch' stands in it twice"),
        ("a.csv", "epoch,test_acc\n1,2,3\n2,0.5\n", "row 1 has 3 cells, and there are 2 columns"),
        ("a.csv", "epoch,test_acc\n", "there is no row below the names"),
        ("a.csv", "", "is empty: there is no row"),
        ("a.csv", "name,test_acc\na,0.1\nb,0.2\n", "has no 'epoch': it holds 'name', 'test_acc'; a --map says"),
        (
            "a.csv",
            "epoch,val_x\n1,0.1\n",
            "holds nothing that an audit reads, no test accuracy and no norm: it holds 'val_x'",
        ),
    ],
)
def test_a_log_that_is_not_understood_says_what_it_holds(name: str, text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    (done,) = import_logs("csv" if name.endswith("csv") else "json", [path], "x", dry_run=True)
    assert done.problem and says in done.problem and "\n" not in done.problem


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_shape_that_nobody_knows_shows_lines_of_python_that_write_one_that_is_read(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(f"odd.{form}").write_text('{"one": "x"}' if form == "json" else "1,2\n3,4\n")
    odd = CliRunner().invoke(main, ["import", form, f"odd.{form}", "--experiment", "x", "--dry-run"])
    assert odd.exit_code == 1
    example = re.search(r"this code writes a log that can be read:\n\n((?:    .*\n){5})\n", odd.stderr)
    assert example, odd.stderr
    exec(textwrap.dedent(example[1]), {})
    (done,) = import_logs(form, [f"dfa_42.{form}"], "x", dry_run=True)
    assert (done.state, done.epochs, (done.params or {})["method"]) == ("found", 30, "dfa"), done.problem


def test_what_a_library_writes_beside_its_log_is_no_log_of_its_own(tmp_path: Path) -> None:
    for name, text in {
        "hf/trainer_state.json": json.dumps({"log_history": ROWS}),
        "hf/all_results.json": "{}",
        "hf/checkpoint-9/trainer_state.json": "{}",
        "killed/checkpoint-9/trainer_state.json": "{}",
        "killed/checkpoint-10/trainer_state.json": json.dumps({"log_history": ROWS}),
        "killed/checkpoint-10/config.json": "{}",
        "sacred/1/metrics.json": json.dumps({"test_acc": {"steps": [1], "values": [0.5]}}),
        "sacred/1/config.json": '{"seed": 7, "net": {"width": 64}}',
        "sacred/1/run.json": "{}",
        "plain/config.json": json.dumps(ROWS),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = {
        Path(each.source).relative_to(tmp_path).as_posix(): each
        for each in import_logs("json", [tmp_path], "x", dry_run=True)
    }
    assert set(found) == {
        "hf/trainer_state.json",
        "killed/checkpoint-10/trainer_state.json",
        "plain/config.json",
        "sacred/1/metrics.json",
    }
    assert found["sacred/1/metrics.json"].params == {"seed": "7", "net.width": "64"}


def test_lines_before_and_after_the_epochs_may_differ_in_kind_and_not_in_a_number(tmp_path: Path, uri: str) -> None:
    epochs = [{"epoch": e, "test_acc": 0.1 * e, "h_0_norm": 1.0, "h_2_norm": 2.0} for e in (1, 2)]
    log = [{"type": "config", "lr": 0.1}, *epochs, {"type": "summary", "best": 0.2}]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in log))
    (found,) = import_logs("json", [tmp_path / "a.jsonl"], "heads", uri)
    assert found.state == "imported" and found.epochs == 2
    assert "type" not in (found.params or {})

    log[-1]["lr"] = 0.2
    (tmp_path / "b.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in log))
    (refused,) = import_logs("json", [tmp_path / "b.jsonl"], "heads", uri)
    assert refused.problem and "'lr' stands in two lines without an epoch: 0.1 and 0.2" in refused.problem
    assert "hold 'type', 'lr', 'best'" in refused.problem


def test_a_log_that_tells_no_epoch_lists_its_keys_and_shows_what_is_read(tmp_path: Path, uri: str) -> None:
    (tmp_path / "c.jsonl").write_text('{"foo": 1, "acc": 0.3}\n{"bar": 2, "acc": 0.4}\n')
    (refused,) = import_logs("json", [tmp_path / "c.jsonl"], "heads", uri)
    assert refused.problem and "it holds 'foo', 'acc'" in refused.problem
    assert refused.example
