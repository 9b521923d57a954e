"""Options are spelled alike in every command: ``--format``, values one by one, one rule for ``--experiment``."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import duckdb
import pytest
from conftest import Cli, empty_database
from mlflow import MlflowClient

from fa_tracking.cli import main


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        yield " ".join((*path, name)), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


EVERY = dict(commands())


def shown(command: click.Command) -> dict[str, click.Option]:
    """Give the options that the help lists."""
    every = (param for param in command.params if isinstance(param, click.Option) and not param.hidden)
    return {name: option for option in every for name in option.opts}


@pytest.mark.parametrize("name", EVERY)
def test_every_command_spells_its_options_as_the_others_do(name: str) -> None:
    options = shown(EVERY[name])
    assert not {"--json", "--github", "--columns", "--layers"} & options.keys()
    assert not [o.name for o in options.values() if "," in str(o.metavar or "")], "a list is a repeated option"
    if "--format" in options:
        assert isinstance(options["--format"].type, click.Choice)
    for option in options.values():
        if option.name == "experiment":
            says = option.help or ""
            assert not option.required and ("[default: " in says or option.show_default), says


def test_the_commands_of_one_answer_give_it_as_json_too() -> None:
    with_json = {
        name
        for name, command in EVERY.items()
        if "--format" in (options := shown(command)) and "json" in options["--format"].type.choices  # type: ignore[attr-defined]
    }
    assert {"audit", "cite", "claims check", "compare", "doctor", "gate", "import json", "pitfalls"} <= with_json
    assert {"pitfalls check", "query", "recover", "replay", "sql", "study list", "table"} <= with_json


@pytest.fixture
def database(workspace: Path) -> Path:
    """A results database with a run of the experiment `one`."""
    path = workspace / "fa_results.duckdb"
    path.unlink(missing_ok=True)
    with empty_database(path) as connection:
        for run in ("x", "y"):
            about = "run_id, source, experiment, status, method, seed, run_name, cell"
            connection.execute(
                f"insert into runs ({about}) values (?, 's', 'one', 'FINISHED', 'bp', 1, ?, 'c')", [run, run]
            )
    return path


def test_old_spellings_are_read_and_say_the_new_one(database: Path, cli: Cli) -> None:
    old = cli("table", "audit_table", "--experiment", "one", "--columns", "method,seed")
    new = cli("table", "audit_table", "--experiment", "one", "--column", "method", "--column", "seed")
    assert old.stdout == new.stdout and "| method" in new.stdout
    assert "write --column method --column seed" in old.stderr and "write" not in new.stderr
    reference = "audit_table.count(method)"
    cited = json.loads(cli("cite", reference, "--json").stdout)
    assert cited == json.loads(cli("cite", reference, "--format", "json").stdout)
    assert cli("cite", reference, "--format", ".2e").stdout.startswith("2.00e+00")
    assert cli("cite", reference, "--number", ".2e").stdout.startswith("2.00e+00")
    both = json.loads(cli("cite", reference, "--format", ".2e", "--json").stdout)
    assert both["text"] == "2.00e+00"
    for words, says in (
        (("replay", "--experiment", "nope", "--abort-on", "n, a"), "write --abort-on n --abort-on a"),
        (("gate", "--experiment", "nope", "--forbid", "a,b"), "write --forbid a --forbid b"),
        (("gate", "--experiment", "nope", "--github"), "write --format github"),
        (("audit", "--experiment", "nope", "--layers", "a,b"), "write --layer a --layer b"),
    ):
        said = cli(*words).stderr
        assert says in said and "no experiment named 'nope'" in said, said


@pytest.mark.parametrize("words", [("gate", "--json", "--github"), ("gate", "--json", "--format", "table")])
def test_an_answer_has_one_format(words: tuple[str, ...], cli: Cli) -> None:
    done = cli(*words)
    assert done.returncode == 2 and "one answer has one --format, not json and" in done.stderr


def test_without_an_experiment_the_only_one_is_meant_and_several_are_listed(
    database: Path, workspace: Path, uri: str, cli: Cli
) -> None:
    asking = (("query", "audit_table"), ("table", "audit_table"), ("report",), ("chart", "seeds"))
    for words in asking:
        done = cli(*words)
        assert done.returncode == 0 or "no rows for one" in done.stderr, done.stderr
    with duckdb.connect(str(database)) as connection:
        connection.execute("insert into runs (run_id, source, experiment, status) values ('z', 's', 'two', 'FINISHED')")
    for words in (*asking, ("dashboard",)):
        done = cli(*words)
        assert done.returncode == 2, words
        assert "the database holds several experiments, choose one by --experiment" in done.stderr
        assert done.stderr.rstrip().endswith("one, two")
    client = MlflowClient(uri)
    for words in (("gate",), ("replay",), ("audit",)):
        assert "holds no run" in cli(*words).stderr
    for name in ("one", "two"):
        client.create_run(client.create_experiment(name))
        said = [cli(*words).stderr for words in (("gate",), ("replay",), ("audit",))]
        if name == "one":
            assert not [each for each in said if "--experiment:" in each or "holds no run" in each], said
        else:
            assert all("runs of several experiments, choose one by --experiment: one, two" in each for each in said)
