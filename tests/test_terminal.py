"""The terminal: help, tables, marks, progress bars, completion, what to type next, and `fa-track doctor`."""

import json
import os
import pty
import re
import select
import shlex
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from conftest import Cli, tiny

from fa_tracking.cli import _check_store, main
from fa_tracking.publishing.tables import text_table
from fa_tracking.results.database import queries
from fa_tracking.results.export.export import export
from fa_tracking.trainers.study import grid
from fa_tracking.trainers.tracked import train

COMMAND = "from fa_tracking.cli import main; main(prog_name='fa-track')"


@pytest.fixture(scope="module")
def trained(workspace: Path) -> Path:
    """Two runs of the experiment `a b`, whose name a shell must quote."""
    for method in ("bp", "dfa"):
        train(tiny(method, epochs=1), "a b")
    return workspace


def fa_track(*args: str, **env: str) -> Result:
    """In this process, in which MLflow is imported once, not once a command."""
    clean = {"FA_TRACK_DATA": None, "FA_TRACK_DB": None, "MLFLOW_TRACKING_URI": None}
    return CliRunner().invoke(main, args, prog_name="fa-track", env={**clean, **env})


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*path, name))


KNOWN = dict(commands(main))


def parse(line: str) -> tuple[tuple[str, ...], dict[str, object]]:
    """The command of a line that a user would type, and its options; fails where it has no such option."""
    words = shlex.split(line, comments=True)
    assert words[0] == "fa-track", line
    path = max((tuple(words[1:n]) for n in (1, 2, 3) if tuple(words[1:n]) in KNOWN), key=len)
    parser = KNOWN[path].make_parser(click.Context(KNOWN[path]))
    options, rest, _ = parser.parse_args(words[len(path) + 1 :])
    assert not rest, f"{line}: {rest} left over"
    return path, options


@pytest.mark.parametrize("path", KNOWN, ids="-".join)
def test_every_help_fits_100_columns_and_its_examples_are_commands_that_exist(path: tuple[str, ...]) -> None:
    command = KNOWN[path]
    context = click.Context(command, info_name=" ".join(("fa-track", *path)), terminal_width=100)
    text = command.get_help(context)
    assert max(map(len, text.splitlines())) <= 100
    examples = [
        line.strip()
        for line in text.partition("Example:")[2].strip().partition("\n\n")[0].replace("\\\n", " ").splitlines()
    ]
    assert examples
    for example in examples:
        line = re.search(r'fa-track [^")>&]*(?:"[^"]*"|\'[^\']*\'|[^")>&])*', example)
        assert line, example
        assert parse(line[0])[0][: len(path)] == path


def next_lines(result: Result) -> list[str]:
    assert result.exit_code in (0, 3), result.stderr
    said = [line for line in result.stderr.splitlines() if line.startswith("next: ")]
    assert said, result.stderr
    return re.findall(r"fa-track (?:'[^']*'|[^;#,])*", said[-1])


def test_after_each_result_stands_a_command_to_type_with_the_store_and_database_that_were_given(trained: Path) -> None:
    uri, db, about = "sqlite:///mlflow.db", "my results.duckdb", ("--experiment", "a b")
    lists = [
        (["audit", *about, "--tracking-uri", uri], ["export", "query"]),
        (["replay", *about, "--tracking-uri", uri], ["audit"]),
        (["gate", *about, "--require", "walk-back", "--tracking-uri", uri], ["export", "report"]),
        (["export", *about, "--tracking-uri", uri, "--db", db], ["query"]),
        (["export", "--db", db], ["query"]),
        (["query", "--db", db], ["query"]),
        (["query", "cross_seed", *about, "--db", db], ["table"]),
        (["query", "cross_seed", *about, "--explain"], ["query"]),
        (["table", "cross_seed", *about, "--db", db], ["cite"]),
        (["cite", "cross_seed[method=bp].n", *about, "--db", db], ["verify"]),
        (["sql", "select 1", "--db", db], ["query"]),
        (["report", *about, "--db", db], ["gate"]),
        (["compare", *about, "--a", "method=bp", "--b", "method=dfa", "--db", db], ["query"]),
        (["study", "list"], ["study"]),
        (["study", "status", "demo", "--tracking-uri", uri], ["study"]),
        (["pitfalls", "typed_number"], ["pitfalls"]),
        (["pitfalls", "check", __file__], ["pitfalls"]),
    ]
    for args, expected in lists:
        following = [parse(line) for line in next_lines(fa_track(*args))]
        assert [path[0] for path, _ in following] == expected, args
        given = {"--db": db, "--tracking-uri": uri, "--experiment": "a b"}
        for path, options in following:
            takes = {o for p in KNOWN[path].params for o in p.opts}
            for option, value in given.items():
                name = option.removeprefix("--").replace("-", "_")
                if option in args and value in args and option in takes:
                    assert options[name] == value, (args, path)
                elif option in ("--db", "--tracking-uri"):
                    assert options.get(name) is None


def test_a_document_whose_values_are_stale_is_followed_by_the_command_that_mends_it(trained: Path) -> None:
    export("d.duckdb", f"sqlite:///{trained / 'mlflow.db'}")
    (trained / "my paper.md").write_text("<!-- fa: cross_seed[experiment=a b,method=bp].n -->7<!-- /fa -->\n")
    stale = fa_track("verify", "my paper.md", "--db", "d.duckdb")
    (line,) = next_lines(stale)
    assert shlex.split(line) == ["fa-track", "verify", "--write", "my paper.md", "--db", "d.duckdb"]
    assert fa_track(*shlex.split(line)[1:]).exit_code == 0
    assert ">1<" in (trained / "my paper.md").read_text()


COLUMNS = ("method", "accuracy_mean", "accuracy_sd", "by_seed", "flags", "verdict", "run_id")
ROWS = [
    ("bp", 0.89374, 0.01491, "42: 0.23, 123: 0.07, 456: 0.22", "", "trustworthy", "b5c66e3dfacf4a5aa9d1e46400570f58"),
    ("dfa", 0.2491, 0.0243, "42: 0.27, 123: 0.34, 456: 0.18", "a×3 b×3", "needs walk-back: (a) x", "c9133a8c" * 4),
    ("usf", 0.2, float("nan"), "", "", "MIXED: 2 × needs walk-back: (a) x; 1 × trustworthy", "0" * 32),
]


@pytest.mark.parametrize("width", [100, 80, 76, 60])
def test_a_table_that_is_too_wide_is_shortened_and_says_by_which_option_it_is_whole(width: int) -> None:
    table = text_table(COLUMNS, ROWS, width, "--format json")
    assert max(map(len, table.splitlines())) <= width
    assert table.splitlines()[-1] == "shortened to fit; whole with --format json"
    assert all(mark in table for mark in ("✓", "⚑", "2⚑ 1✓", "NaN", "456: 0.18"))


def test_on_a_narrow_terminal_rows_become_blocks_that_hold_everything_and_on_a_wide_one_nothing_is_shortened() -> None:
    narrow = text_table(COLUMNS, ROWS, 50)
    assert max(map(len, narrow.splitlines())) <= 50
    whole = text_table(COLUMNS, ROWS, 200)
    for word in ("0.8937", "b5c66e3dfacf4a5aa9d1e46400570f58", "MIXED:", "walk-back:", "NaN"):
        assert word in narrow and word in whole
    assert "shortened" not in narrow + whole


def test_a_table_is_as_wide_as_the_terminal_and_elsewhere_100_columns_at_most(trained: Path, cli: Cli) -> None:
    export("w.duckdb", f"sqlite:///{trained / 'mlflow.db'}")
    ask = ("query", "audit_table", "--experiment", "a b", "--db", "w.duckdb")
    widest = {columns: max(map(len, cli(*ask, COLUMNS=columns).stdout.splitlines())) for columns in ("60", "300")}
    assert widest["60"] <= 60 < widest["300"] <= 100
    for listing in (["query"], ["chart"], ["study", "list"]):
        assert max(map(len, fa_track(*listing, COLUMNS="60").stdout.splitlines())) <= 60


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_terminal_without_the_marks_gets_others_and_no_traceback(encoding: str, trained: Path) -> None:
    program = f"from fa_tracking.cli import _encoding, _show\n_encoding.spell_out()\n_show.say({MARKS!r})"
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=env, check=True)
    written = "utf-8" if encoding == "ascii" else encoding  # click's word on a locale that nobody has set
    assert done.stderr.decode(written).split() == SPELLED[encoding].split()


MARKS = "✓ ⚑ ? – Γ × я"
SPELLED = {
    "ascii": MARKS,
    "utf-8": MARKS,
    "latin-1": "+ ! ? - Gamma × \\u044f",
    "cp1252": "+ ! ? – Gamma × \\u044f",
}


def test_the_catalogue_is_read_where_the_locale_is_not_utf_8(trained: Path, cli: Cli) -> None:
    done = cli("query", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0 and "cross_seed" in done.stdout, done.stderr


BAR = """
import time
from fa_tracking.cli._show import progress
with progress("work") as update:
    for done in range(5):
        update(done, 4)
        time.sleep(0.2)
print("data")
"""


def on_a_terminal(program: str, **env: str) -> tuple[str, str]:
    """Standard output, in a pipe, and what a pseudo-terminal got as standard error."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", **env}
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=theirs, env=env)
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux's way to say that the other side was closed
            break
        shown += part
    os.close(ours)
    assert process.stdout is not None
    return process.stdout.read().decode(), shown.decode()


def test_a_progress_bar_shows_the_time_left_on_a_terminal_alone() -> None:
    data, shown = on_a_terminal(BAR)
    assert data == "data\n"
    assert re.search(r"work .*4/4.*\d:\d\d:\d\d left", shown) and "\x1b[3" in shown
    _, plain = on_a_terminal(BAR, NO_COLOR="1")
    assert "left" in plain and not re.search("\x1b\\[[0-9;]*3[0-9]m", plain)
    assert on_a_terminal(BAR, TERM="dumb") == ("data\n", "")
    env = {**os.environ, "FORCE_COLOR": "1"}
    piped = subprocess.run([sys.executable, "-c", BAR], capture_output=True, text=True, env=env, check=True)
    assert (piped.stdout, piped.stderr) == ("data\n", "")


def test_an_export_knows_how_much_is_left(trained: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    done = export(tmp_path / "p.duckdb", f"sqlite:///{trained / 'mlflow.db'}", progress=lambda *how: told.append(how))
    assert done.metrics and told[-1] == (done.metrics, done.metrics)
    assert told == sorted(told)


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `fa-track` in it, to stand first on the path."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "fa-track").write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{COMMAND}" "$@"\n')
    (folder / "fa-track").chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fa-track query cross_", [name for name in queries() if name.startswith("cross_")]),
        ("fa-track table penalty_", [name for name in queries() if name.startswith("penalty_")]),
        ("fa-track study run dfa_", [name for name in grid.studies() if name.startswith("dfa_")]),
        ("fa-track train d", ["dfa", "drtp"]),
        ("fa-track train dfa --architecture re", ["resmlp", "resmlp_no_ln"]),
        ("fa-track train dfa --dataset dig", ["digit_pairs", "digits"]),
        ("fa-track audit --experiment a", ["a b"]),
        ("fa-track query cross_seed --db c.duckdb --experiment a", ["a b"]),
        ("fa-track query cross_seed --db none.duckdb --experiment a", []),
        ("fa-track doc", ["doctor"]),
    ],
)
def test_bash_completes_names(line: str, offered: list[str], trained: Path, bash: Path) -> None:
    if "c.duckdb" in line:
        export("c.duckdb", f"sqlite:///{trained / 'mlflow.db'}")
    words = line.split()
    script = (
        'eval "$(fa-track completion bash)"\n'
        f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}\n"
        f"$(complete -p fa-track | sed 's/.*-F \\([^ ]*\\) .*/\\1/') fa-track {words[-1]}\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    clean = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "FA_TRACK_DB")}
    env = {**clean, "PATH": f"{bash}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], cwd=trained, capture_output=True, text=True, env=env, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == (offered or [""])


def test_a_shell_that_completes_waits_for_neither_torch_nor_mlflow(trained: Path) -> None:
    program = (
        "import os, sys\n"
        "os.environ |= {'_FA_TRACK_COMPLETE': 'bash_complete', 'COMP_WORDS': 'fa-track train --dataset d',"
        " 'COMP_CWORD': '3'}\n"
        "from fa_tracking.cli import main\n"
        "try: main(prog_name='fa-track')\nexcept SystemExit: pass\n"
        "assert not {'torch', 'mlflow', 'pandas', 'duckdb'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["plain,digit_pairs", "plain,digits"]


def examined(*args: str, **env: str) -> dict[str, dict[str, str]]:
    """What the doctor found by the name of the check, a problem before all else."""
    done = fa_track("doctor", "--format", "json", *args, **env)
    rows = json.loads(done.stdout)
    problems = [row for row in rows if row["state"] == "problem"]
    assert done.exit_code == (1 if problems else 0), done.stderr
    assert done.stderr.splitlines()[-1].startswith("next: ")
    assert all(row["advice"] for row in rows if row["state"] != "ok")
    return {row["name"]: row for row in [*rows, *problems]}


def test_the_doctor_makes_no_store_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = examined()
    assert found["store"]["state"] == found["database"]["state"] == "warning"
    assert found["store"]["command"] == "fa-track demo"
    missing = examined("--tracking-uri", "sqlite:///nowhere.db", "--data-dir", "nowhere", "--db", "x/y.duckdb")
    assert "nowhere.db" in missing["store"]["found"]
    assert (missing["data"]["state"], "nowhere" in missing["data"]["found"]) == ("problem", True)
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_sees_store_plugins_data_and_how_old_the_database_is(trained: Path, tmp_path: Path) -> None:
    db = ("--db", "old.duckdb")
    found = examined(*db)
    assert "2 runs (2 FINISHED) in 1 experiment" in found["store"]["found"]
    assert found["database"]["command"] == "fa-track export --db old.duckdb"
    assert {found[name]["state"] for name in ("Python", "packages", "store", "git", "disk")} == {"ok"}
    export("old.duckdb", f"sqlite:///{trained / 'mlflow.db'}")
    assert "every run and verdict" in examined(*db)["database"]["found"]
    fa_track("audit", "--experiment", "a b", "--margin-pp", "1")
    for part in ("train", "test"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / f"{part}.parquet").touch()
    behind = examined(*db, FA_TRACK_DATA=str(tmp_path))
    assert (behind["database"]["state"], "since: 2 runs" in behind["database"]["found"]) == ("warning", True)
    assert behind["data"]["found"].endswith(f"in {tmp_path}: mine")


@pytest.mark.parametrize(
    ("schema", "command"),
    [("0584bdc529eb", "mlflow db upgrade sqlite:///{}"), ("ffffffffffff", "python -m pip install --upgrade mlflow")],
)
def test_the_doctor_says_what_brings_a_store_and_mlflow_together(
    schema: str, command: str, trained: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    other.write_bytes((trained / "mlflow.db").read_bytes())
    with sqlite3.connect(other) as connection:
        connection.execute("update alembic_version set version_num = ?", [schema])
    found = examined("--tracking-uri", f"sqlite:///{other}")["store"]
    assert (found["state"], found["command"]) == ("problem", command.format(other))


@pytest.mark.parametrize("scheme", ["http", "postgresql", "mysql+pymysql"])
def test_the_doctor_does_not_wait_for_a_server_that_stays_silent(
    scheme: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_check_store, "ANSWER", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = _check_store.store(f"{scheme}://me:secret@127.0.0.1:{silent.getsockname()[1]}/x").check
    assert found.state == "problem"
    assert re.search("no answer within 0.5 s|timed out", found.found)
    assert "secret" not in found.found


def test_the_doctor_reads_as_lines_that_fit_and_marks_that_need_no_colour(trained: Path) -> None:
    done = fa_track("doctor", "--tracking-uri", "http://127.0.0.1:1")
    assert done.exit_code == 1
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert re.search("^✗ store .*Connection refused", done.stdout, re.MULTILINE)
    assert re.search("^✓ packages ", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout
