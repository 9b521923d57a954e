"""Input that somebody made to do harm, case by case; `tests/fuzz` looks for more of it."""

import csv
import hashlib
import io
import json
import os
import pty
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import Cli
from fuzz import checkpoint as checkpoints
from fuzz._values import BOMB
from fuzz.sql import STATEMENTS
from mlflow import MlflowClient
from stores import new_store

from fa_tracking.auditor import write
from fa_tracking.auditor.evidence import eval_data, logged_model
from fa_tracking.auditor.evidence.checkpoint import batches
from fa_tracking.cli import main
from fa_tracking.dashboards import draw
from fa_tracking.errors import CheckpointError, FATrackError, UsageError
from fa_tracking.publishing import claims
from fa_tracking.publishing.reference import Answers
from fa_tracking.publishing.verify import read, verify
from fa_tracking.results.database import connect, run_sql, sql_errors
from fa_tracking.tracking import checkpoint, names
from fa_tracking.trainers.study import grid

SCRIPT = "<script>alert(1)</script>"
TERMINAL = "\x1b]0;owned\x07\x1b[2J\x1b[31mred"
FORMULA = '=HYPERLINK("http://x","y")'
LATEX = r"\input{/etc/passwd}$x^2$ 100% & #_{}~"
MARKDOWN = "[x](javascript:alert(1))\n\n# head ![i](http://x) `code`"
RIGHT_TO_LEFT = "gpj.\u202eexe"
NAMES = (SCRIPT, TERMINAL, FORMULA, LATEX, MARKDOWN, RIGHT_TO_LEFT)


def write_checkpoint(folder: Path, **changes: Any) -> Path:
    """The files of a valid checkpoint, with other values in its config."""
    for name, content in checkpoints.seeds().items():
        (folder / name).write_bytes(content)
    config = json.loads(checkpoints.seeds()[checkpoint.CONFIG])
    (folder / checkpoint.CONFIG).write_text(json.dumps(config | changes))
    return folder


SHAPE: dict[str, Any] = {"input_shape": [4], "classes": 3, "width": 4, "depth": 1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": SHAPE | {"depth": 10**9}}, "more parameters than"),
        ({"model": SHAPE | {"depth": 10**40}}, "more parameters than"),
        ({"model": SHAPE | {"width": 10**12}}, "does not fit the weights"),
        ({"model": SHAPE | {"width": 8}}, "size mismatch"),
        ({"model": SHAPE | {"input_shape": ["%2000000000d", 4]}}, "valid integer"),
        ({"model": SHAPE | {"input_shape": ["a" * 1000, 10**9]}}, "valid integer"),
        ({"model": SHAPE | {"input_shape": [10**6] * 20_000}}, "more than 65536 characters"),
        ({"factory": "trainers:../x"}, "no model named '../x'"),
        ({"factory": "trainers:_hidden.Model"}, "no model named"),
        ({"factory": "os:system"}, "no entry point of the group"),
        ({"factory": "trainers:mlp", "definition": 1}, "does not fit the weights"),
        ({"epoch": 10**30}, "epoch"),
        ({"dataset": {"name": "../x", "loader": "trainers", "test_sha256": "0", "mean": [0], "std": [1]}}, "outside"),
        ({"dataset": {"name": "/x", "loader": "trainers", "test_sha256": "0", "mean": [0], "std": [1]}}, "outside"),
    ],
)
def test_a_checkpoint_is_refused_at_once(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(CheckpointError, match=re.escape(said)) as refused:
        checkpoint.build_model(checkpoint.read(write_checkpoint(tmp_path, **changes)))
    assert "\n" not in str(refused.value)
    assert time.monotonic() - began < 5


def test_a_header_that_claims_a_million_million_elements_is_refused(tmp_path: Path) -> None:
    weights = checkpoints.tensors({"w": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}})
    digests = json.loads(checkpoints.seeds()[checkpoint.CONFIG])["sha256"]
    digests[checkpoint.MODEL] = hashlib.sha256(weights).hexdigest()
    write_checkpoint(tmp_path, sha256=digests)
    (tmp_path / checkpoint.MODEL).write_bytes(weights)
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        checkpoint.build_model(checkpoint.read(tmp_path))


def test_a_pipe_in_the_place_of_a_file_does_not_hold_the_auditor_up(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / checkpoint.CONFIG).unlink()
    os.mkfifo(tmp_path / checkpoint.CONFIG)
    with pytest.raises(CheckpointError, match="no regular file"):
        checkpoint.read(tmp_path)


def test_a_config_that_is_nested_or_long_without_end_is_refused(tmp_path: Path) -> None:
    for content in ("[" * 100_000, "{}" + " " * 2**21):
        (write_checkpoint(tmp_path) / checkpoint.CONFIG).write_text(content)
        with pytest.raises(CheckpointError, match=r"config.json is broken"):
            checkpoint.read(tmp_path)


def test_a_logged_model_reaches_no_other_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / logged_model.PICKLED).write_bytes(b"x")
    (tmp_path / "model").mkdir()
    for where in ("../elsewhere", str(tmp_path / "elsewhere")):
        (tmp_path / "model" / "MLmodel").write_text(json.dumps({"flavors": {"pytorch": {"model_data": where}}}))
        with pytest.raises(CheckpointError, match="outside its folder"):
            logged_model.read(tmp_path / "model", "m", 1)
    (tmp_path / "model" / "MLmodel").write_text(json.dumps({"flavors": {"pytorch": {"model_data": "x" * 300}}}))
    with pytest.raises(CheckpointError, match="cannot be read: File name too long"):
        logged_model.read(tmp_path / "model", "m", 1)
    (tmp_path / "model" / "MLmodel").write_bytes(BOMB)
    with pytest.raises(CheckpointError, match="MLmodel is broken"):
        logged_model.read(tmp_path / "model", "m", 1)


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(json.dumps({"flavors": {"pytorch": {}}}))
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / logged_model.EXPORTED, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data/x.json", b" " * 10_000_000)
    with pytest.raises(CheckpointError, match="unpack to 10000000 bytes"):
        logged_model.read_model(logged_model.read(tmp_path, "m", 1), trusted=False)


def test_evaluation_data_is_neither_unpickled_nor_unpacked_without_end(tmp_path: Path) -> None:
    np.savez(tmp_path / "pickled.npz", inputs=np.zeros((20, 2)), labels=np.array([print] * 20, dtype=object))
    made = io.BytesIO()
    np.lib.format.write_array_header_1_0(made, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)})
    with zipfile.ZipFile(tmp_path / "claims.npz", "w") as archive:
        archive.writestr("inputs.npy", made.getvalue() + bytes(64))
    for name, said in (("pickled.npz", "allow_pickle=False"), ("claims.npz", "4000000000000 bytes")):
        with pytest.raises(UsageError, match=said):
            eval_data.read(tmp_path / name)


def test_yaml_that_stands_for_a_million_million_values_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bomb.yaml").write_bytes(BOMB)
    (tmp_path / "code.yaml").write_text("!!python/object/apply:os.system [id]")
    (tmp_path / "date.yaml").write_text("title: 2001-99-99")
    (tmp_path / "number.yaml").write_text(f"title: {'1:' * 50_000}1")
    for name in ("bomb", "code", "date", "number"):
        for load in (lambda p: grid.load(str(p)), claims.load):
            with pytest.raises(UsageError):
                load(tmp_path / f"{name}.yaml")


def test_a_study_of_more_runs_than_anybody_can_enumerate_is_refused(tmp_path: Path) -> None:
    wide = {f"p{i}": {"values": list(range(50))} for i in range(12)}
    (tmp_path / "s.yaml").write_text(
        json.dumps({"title": "t", "experiment": "e", "seeds": [1], "grids": [{"parameters": wide}]})
    )
    with pytest.raises(UsageError, match="runs, but at most 100000 are allowed"):
        grid.load(str(tmp_path / "s.yaml")).configs()


def test_a_shared_stores_word_on_folders_is_not_followed(tmp_path: Path) -> None:
    from mlflow.entities import Run, RunData, RunInfo, RunTag

    source = checkpoint.DataSource(name="birds", loader="trainers", test_sha256="0", mean=(0.0,), std=(1.0,))
    info = RunInfo("0" * 32, "1", "u", "FINISHED", 0, 1, "active", str(tmp_path))
    (tmp_path / "test.parquet").write_bytes(b"PAR1")
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    run = Run(info, RunData([], [], [RunTag(names.TAG_DATA_DIR, str(tmp_path))]))
    with pytest.raises(UsageError, match="give --data-dir, as a shared store's word on folders is not followed"):
        batches(source, None, run, shared=True)
    with pytest.raises(FATrackError, match="cannot be read as images"):
        batches(source, None, run, shared=False)


def test_a_run_that_names_a_layer_beyond_all_bounds_is_a_problem_of_its_own(uri: str, cli: Cli) -> None:
    client = MlflowClient(uri)
    where = client.create_experiment("layers")
    for key, params in (("residual_norm/h999999999", {}), ("residual_norm/h0", {"depth": "9" * 5000})):
        run = client.create_run(where).info.run_id
        client.log_metric(run, key, 1.0, step=1)
        for name, value in params.items():
            client.log_param(run, name, value)
        client.set_terminated(run)
    done = cli("audit", "--experiment", "layers")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.count("9999 is the deepest that is read") == 2


def test_an_audit_writes_no_text_of_a_run_that_a_terminal_acts_on(uri: str, cli: Cli, tmp_path: Path) -> None:
    client = MlflowClient(uri)
    run = client.create_run(client.create_experiment("codes"), run_name=TERMINAL).info.run_id
    client.log_param(run, "method", TERMINAL)
    client.log_metric(run, "residual_norm/h0", 1.0, step=1)
    client.log_metric(run, "residual_norm/h4", 1e9, step=1)
    client.set_terminated(run)
    cli("audit", "--experiment", "codes")
    audited = read_reports(client, run, tmp_path / "audited")
    write.withdraw(client, client.get_run(run), f"gone: {TERMINAL}")
    for text in (*audited, *read_reports(client, run, tmp_path / "withdrawn")):
        assert "\x1b" not in text and "\x07" not in text
        assert "\ufffd[31mred" in text


def read_reports(client: MlflowClient, run: str, folder: Path) -> list[str]:
    folder.mkdir()
    found = Path(client.download_artifacts(run, "audit", str(folder)))
    return [(found / name).read_text() for name in ("report.txt", "report.html")]


def test_a_study_is_listed_without_what_a_terminal_acts_on(tmp_path: Path) -> None:
    grid = {"method": {"values": ["bp"]}, "architecture": {"values": [TERMINAL]}}
    file = tmp_path / "esc.yaml"
    file.write_text(json.dumps({"title": "t", "experiment": "e", "seeds": [1], "grids": [{"parameters": grid}]}))
    done = CliRunner().invoke(main, ["study", "list", str(file), "--tracking-uri", new_store(tmp_path)])
    assert "\ufffd[31mred" in done.stdout, done.output
    assert "\x1b" not in done.output and "\x07" not in done.output


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs whose every text was made to do harm."""
    from fa_tracking.results.export.export import export

    folder = tmp_path_factory.mktemp("texts")
    uri = new_store(folder)
    client = MlflowClient(uri)
    where = client.create_experiment(f"odd {SCRIPT} {TERMINAL}")
    for seed, text in enumerate(NAMES):
        run = client.create_run(where, run_name=text).info.run_id
        for key, value in {"method": text, "seed": seed, "architecture": text, "note": text, "lr": "-0.5"}.items():
            client.log_param(run, key, value)
        for key in ("fa.verdict", "mlflow.note.content", "fa.import_notes"):
            client.set_tag(run, key, f"needs walk-back: {text}" if key == "fa.verdict" else text)
        client.log_metric(run, names.ACCURACY_TEST, -0.5, step=1)
        client.set_terminated(run)
    export(folder / "fa_results.duckdb", uri)
    return folder / "fa_results.duckdb"


OUTPUTS = [
    ("query", "runs", "--experiment-glob", "odd*"),
    ("query", "runs", "--experiment-glob", "odd*", "--format", "md"),
    ("query", "runs", "--experiment-glob", "odd*", "--format", "csv"),
    ("query", "runs", "--experiment-glob", "odd*", "--format", "json"),
    ("table", "runs", "--experiment-glob", "odd*"),
    ("table", "runs", "--experiment-glob", "odd*", "--format", "latex"),
    ("table", "runs", "--experiment-glob", "odd*", "--format", "html"),
    ("report", "--experiment-glob", "odd*"),
    ("report", "--experiment-glob", "odd*", "--format", "latex"),
    ("report", "--experiment-glob", "odd*", "--format", "html"),
    ("sql", "select run_name, method, experiment from runs"),
    ("sql", f"select 1 as \"{TERMINAL}\", '{TERMINAL}' as b"),
    ("query", "runs"),
    ("cite", "runs[seed=1].method", "--experiment-glob", "odd*"),
    ("query", "runs", "--experiment", f"none{TERMINAL}"),
]


@pytest.mark.parametrize("command", OUTPUTS, ids=lambda c: " ".join(c)[:40])
def test_texts_of_runs_do_nothing_where_they_are_shown(command: tuple[str, ...], database: Path) -> None:
    done = CliRunner().invoke(main, [*command, "--db", str(database)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    form = command[command.index("--format") + 1] if "--format" in command else "text"
    for stream in (done.stdout, done.stderr):
        if form != "csv" or stream is done.stderr:  # a pipe gets them as they are, as the next test says
            assert "\x1b" not in stream and "\x07" not in stream and "\u202e" not in stream
    if form in ("html", "md") or (command[0] in ("table", "report") and form == "text"):
        assert SCRIPT not in done.stdout
        assert form == "html" or not re.search(r"(?<!\\)\]\(", done.stdout)
    if form == "latex":
        assert r"\input" not in done.stdout
    if form == "csv":
        assert FORMULA not in [c for line in done.stdout.splitlines() for c in line.split(",")]
        assert "'=HYPERLINK" in done.stdout and "-0.5" in done.stdout and "'-0.5" not in done.stdout


CSV = ("sql", "select method from runs order by method", "--format", "csv")


def test_csv_holds_every_character_in_a_pipe(database: Path) -> None:
    done = CliRunner().invoke(main, [*CSV, "--db", str(database)])
    held = [row[0].removeprefix("'") for row in csv.reader(io.StringIO(done.stdout))]
    assert held == ["method", *sorted(NAMES)]


def test_csv_on_a_terminal_holds_nothing_that_it_acts_on(database: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from fa_tracking.cli import main; main()", *CSV, "--db", str(database)]
    subprocess.run(command, stdout=theirs, stderr=subprocess.DEVNULL, check=True)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "\ufffd[31mred" in shown and SCRIPT in shown
    assert "\x1b" not in shown and "\x07" not in shown and "\u202e" not in shown


@pytest.mark.matrix
def test_texts_of_runs_do_not_end_the_drawing_of_a_chart(database: Path) -> None:
    with draw.answers("~odd*", database) as answer:
        drawn = {chart.name: chart for chart in draw.draw_all("~odd*", answer) if chart.specification}
    assert {"verdict_matrix", "audit_panels", "first_flag", "decision_utility"} <= drawn.keys()
    for chart in drawn.values():
        said = repr(chart.specification)  # first: what draws a character that XML lacks ends this process
        assert "\ufffd[31mred" in said and not re.search(r"\\[xu]", said)
    for form in ("svg", "png", "pdf", "html", "json"):
        assert draw.render(drawn["verdict_matrix"], form)


@pytest.mark.matrix
def test_texts_of_runs_do_nothing_in_the_dashboard(database: Path, tmp_path: Path) -> None:
    given = ["--experiment-glob", "odd*", "--db", str(database), "-o", str(tmp_path / "page.html")]
    done = CliRunner().invoke(main, ["dashboard", *given])
    assert done.exit_code == 0, done.stderr
    page = (tmp_path / "page.html").read_text()
    assert SCRIPT not in page and "\x1b" not in page and "\u202e" not in page


def test_numbers_stay_numbers_in_csv(database: Path) -> None:
    from fa_tracking.publishing.tables import render

    with connect(database) as connection:
        sql = "select -0.5 as a, '-0.5' as b, '-1e-7' as c, '-inf' as d, '-x' as e, '@x' as f, '+1' as g, 'a=b' as h"
        text = render(run_sql(connection, sql), "csv")
    assert text.splitlines()[1] == "-0.5,-0.5,-1e-7,-inf,'-x,'@x,+1,a=b"


@pytest.mark.parametrize("before", ["", " ", "\n", "\r\n", "\t", "\v", "\xa0 "])
def test_white_space_hides_no_formula_in_csv(before: str) -> None:
    from fa_tracking.publishing.tables import render

    def in_csv(text: str) -> str:
        with duckdb.connect() as connection:
            answer = connection.sql("select $text as x", params={"text": text})
            (_, (cell,)) = csv.reader(io.StringIO(render(answer, "csv"), newline=""))
        return cell

    for text in ("=2+2", "@x", "-x"):
        assert in_csv(before + text) == f"'{before}{text}"
    assert in_csv(f"{before}-0.5") == f"{before}-0.5"
    assert in_csv(f" {before}a=b") == f" {before}a=b"


@pytest.mark.parametrize("statement", [s for s in STATEMENTS if "{t}" not in s])
def test_sql_reaches_nothing_but_the_tables(statement: str, database: Path) -> None:
    secret = database.parent / "secret.csv"
    secret.write_text("a\nthe secret\n")
    before = sorted(path.name for path in database.parent.iterdir())
    for reader in ("read_csv", "read_text", "glob"):
        rows: list[Any] = []
        with connect(database) as connection:
            try:
                with sql_errors():
                    said = statement.replace("{p}", str(secret)).replace("{f}", reader)
                    rows = run_sql(connection, said).fetchall()
            except FATrackError as error:
                assert "\n" not in str(error)
            with sql_errors():
                held = run_sql(connection, "select current_setting('enable_external_access')").fetchall()
            assert held == [(False,)]
        assert "the secret" not in str(rows) and "secret.csv" not in str(rows)
    assert sorted(path.name for path in database.parent.iterdir()) == before


def test_sql_reads_no_variable_of_the_program_that_runs_it(database: Path) -> None:
    import pandas as pd

    statement = pd.DataFrame({"a": [1]})  # as the name of a frame that stands around the connection
    with connect(database) as connection, pytest.raises(UsageError):
        run_sql(connection, "select * from statement")
    assert len(statement) == 1


def test_a_value_of_a_run_closes_no_marker(database: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    path.write_text("<!-- fa: runs[experiment~=odd*,seed=0].method -->?<!-- /fa -->\n")
    with connect(database) as connection:
        fresh = verify(path, read(path), Answers(connection)).text
    assert "&lt;script&gt;" in fresh and SCRIPT not in fresh


LONG = ["`a" * 30_000, "<!-- fa: x" * 1_000, "`" * 60_000, "|---" * 20_000, "&" * 60_000, "\\fa{a}{b}{c}" * 60_000]
LONG += ["a" + "`" * 60_000, "\\begin{verbatim}" * 60_000, "\\fa " + "\\begin{tabular}" * 60_000]
LONG += ["\\fa \\begin{tabular}" + "\\cline{" * 100_000, "<!-- fa: x -->1<!-- /fa -->" + " " * 100_000]


@pytest.mark.sample(2)
@pytest.mark.parametrize("piece", LONG, ids=lambda piece: piece[:24])
@pytest.mark.parametrize("name", ["x.md", "x.tex"])
def test_a_long_document_takes_no_long_time(name: str, piece: str, database: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(piece)
    began = time.process_time()
    with connect(database) as connection:
        verify(path, read(path), Answers(connection))
    assert time.process_time() - began < 20
