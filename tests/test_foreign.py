"""What another laboratory sends: database files that try to read or run more than their tables, and copies in part."""

import re
import shutil
import socket
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from runs import log_run
from stores import new_store

from fa_tracking.cli import main
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.results.database import connect, run_sql
from fa_tracking.results.export.export import export
from fa_tracking.results.export.merge import merge, refuse_own_sources
from fa_tracking.results.export.parquet import ORDERS, write_parquet
from fa_tracking.results.foreign import OTHERS, TABLES, beside, made, refuse_what_is_no_table, refuse_wrong_rows

SECRET = "what no other laboratory may learn"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("theirs")
    uri = new_store(here)
    client = MlflowClient(uri)
    measured = {"accuracy/test": 0.5, "residual_norm/h0": 1.0}
    for experiment in ("a", "b"):
        for seed in (1, 2):
            log_run(client, experiment, {1: measured}, method="dfa", architecture="net", seed=seed)
    export(here / "theirs.duckdb", uri)
    return here / "theirs.duckdb"


@pytest.fixture
def theirs(exported: Path, tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "secret.csv").write_text(f"run_id,key,value\nx,{SECRET},y\n")
    return Path(shutil.copy(exported, tmp_path / "theirs.duckdb"))


@pytest.fixture
def listener() -> Iterator[tuple[str, list[bytes]]]:
    """An address of this machine, and who has called there."""
    called: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        done = threading.Event()

        def accept() -> None:
            while not done.is_set():
                try:
                    connection, _ = server.accept()
                    called.append(connection.recv(10))
                    connection.close()
                except TimeoutError:
                    continue

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", called
        done.set()
        thread.join()


DISGUISES = {
    "a view of a file in the place of a table": (
        "drop table params; create view params as select run_id, 'stolen' as key, content as value "
        "from runs, read_text('{secret}.txt')"
    ),
    "a view of a table by a name": "drop table params; create view params as from '{secret}.csv'",
    "a view over a glob": "drop table tags; create view tags as select filename, content, '' "
    "from read_text('{here}/*')",
    "a macro in the place of a function": (
        "create macro lower(x) as (select any_value(content) from read_text('{secret}.txt'))"
    ),
    "the same in capitals": "create macro \"TO_JSON\"(x) as (select any_value(content) from read_text('{secret}.txt'))",
    "a macro of a name of their own": "create macro theirs(x) as x",
    "a table macro in the place of a table": (
        "drop table marks; create macro marks() as table select * from read_text('{secret}.txt')"
    ),
    "a table of more columns": "alter table params add column more varchar default 'x'",
    "a table without a column": "alter table runs drop column cell",
    "a generated column": (
        "drop table knockouts; create table knockouts (run_id varchar, removed integer, accuracy double as (1.0))"
    ),
    "a default that reads": "alter table params alter column value set default 'x'",
    "a table that is missing": "drop table layers",
    "a view that calls elsewhere": "drop table params; create view params as from read_csv('http://{address}/x.csv')",
}


def disguised(theirs: Path, how: str, address: str = "") -> Path:
    with duckdb.connect(str(theirs)) as connection:
        secret = theirs.parent / "secret"
        for statement in DISGUISES[how].split(";"):
            try:
                connection.execute(statement.format(secret=secret, here=theirs.parent, address=address))
            except duckdb.Error as error:
                if "http" not in statement:
                    raise
                pytest.skip(f"DuckDB does not make it here: {error}")
    return theirs


@pytest.mark.parametrize("how", DISGUISES)
def test_a_merge_takes_tables_alone_and_reads_nothing_else(
    theirs: Path, how: str, tmp_path: Path, listener: tuple[str, list[bytes]]
) -> None:
    disguised(theirs, how, listener[0])
    ours = tmp_path / "ours.duckdb"
    for command in (
        ["merge", str(theirs), "--db", str(ours)],
        ["merge", str(theirs), f"other={theirs}", "--db", str(ours)],
    ):
        done = CliRunner().invoke(main, command)
        assert done.exit_code in (1, 2) and len(done.stderr.splitlines()) == 1, done.stderr
        assert SECRET not in done.stdout + done.stderr
        assert not ours.exists() and not listener[1]


@pytest.mark.parametrize("how", DISGUISES)
def test_an_export_or_a_merge_into_such_a_file_leaves_it_alone(theirs: Path, exported: Path, how: str) -> None:
    disguised(theirs, how, "127.0.0.1:1")
    before = theirs.read_bytes()
    for call in (
        lambda: export(theirs, f"sqlite:///{exported.parent}/mlflow.db"),
        lambda: merge([str(exported)], theirs),
    ):
        with pytest.raises((UsageError, FATrackError)):
            call()
        assert theirs.read_bytes() == before


KINDS = {
    "the trigger tr": "create trigger tr after insert on exports for each statement update metrics set value = 0.99",
    "the view v": "create view v as select 1",
    "the sequence s": "create sequence s",
    "the type mood": "create type mood as enum ('a')",
    "the schema arriving": "create schema arriving",
    "the index i": "create unique index i on runs(experiment, run_id)",
    "the table more": "create table more (a integer default 5)",
    "the function duckdb_tables": "create macro duckdb_tables() as table select 1",
    "the function current_database": "create macro current_database() as 'x'",
    "the function is_asked": "create macro is_asked() as table select 1",
    "the function cells_of": "create macro cells_of(asked) as 1",
    "no table tags": "drop table tags; create table tags (run_id varchar not null, key varchar not null, "
    "value varchar collate nocase, primary key (run_id, key))",
}


@pytest.mark.parametrize("what", KINDS)
def test_a_file_that_holds_anything_else_than_tables_is_refused_by_name(what: str, tmp_path: Path) -> None:
    file = tmp_path / "x.duckdb"
    with duckdb.connect(str(file)) as connection:  # without the functions, which take the longest
        connection.execute(files("fa_tracking.results").joinpath("schema.sql").read_text())
        connection.execute(KINDS[what])
    with beside(file) as connection, pytest.raises(UsageError, match=f"holds .*{what}"):
        refuse_what_is_no_table(connection, file)


def test_every_kind_of_thing_that_a_file_can_hold_is_looked_at() -> None:
    with duckdb.connect() as connection:
        functions = """
            select distinct function_name from duckdb_functions()
            where starts_with(function_name, 'duckdb_') and function_type = 'table' and len(parameters) = 0
        """
        listing = {
            name
            for (name,) in connection.execute(functions).fetchall()
            if "database_name" in connection.sql(f"from {name}()").columns
        }
    of_tables = {"duckdb_tables", "duckdb_columns", "duckdb_constraints", "duckdb_functions", "duckdb_databases"}
    assert listing == of_tables | {re.search(r"main\.(\w+)", asked)[1] for asked in OTHERS.values()}  # type: ignore[index]


def test_a_file_cannot_answer_for_itself_whether_it_is_right(theirs: Path, exported: Path, tmp_path: Path) -> None:
    with duckdb.connect(str(theirs)) as connection:
        tables = connection.execute(TABLES, ["theirs"]).fetchall()
        said = ", ".join(f"({name!r}, '{sql.replace(chr(39), chr(39) * 2)}')" for name, sql in tables)
        connection.execute(f"""
            drop table knockouts;
            create view knockouts as
            select run_id, content as removed, 1.0::double as accuracy, 1 as samples
            from runs, read_text('{theirs.parent}/secret.txt');
            create macro duckdb_tables() as table
            select n as table_name, s as sql, current_database() as database_name, 'main' as schema_name
            from (values {said}) t(n, s);
            create macro duckdb_functions() as table
            select 'x' as function_name, 'macro' as function_type, 'x' as database_name, true as internal;
        """)
    before = theirs.read_bytes()
    for call in (
        lambda: merge([str(exported)], theirs),
        lambda: merge([str(theirs)], tmp_path / "ours.duckdb"),
        lambda: write_parquet(theirs, tmp_path / "copy"),
    ):
        with pytest.raises(UsageError, match="holds no table knockouts"):
            call()
    assert (
        theirs.read_bytes() == before and not (tmp_path / "copy").exists() and not (tmp_path / "ours.duckdb").exists()
    )


@pytest.mark.parametrize(
    ("table", "column"), [("exports", "exported_at"), ("runs", "start_time"), ("metrics", "timestamp")]
)
@pytest.mark.parametrize("time", ["infinity", "-infinity", "290000-01-01"])
def test_times_that_are_none_are_not_taken_over(table: str, column: str, time: str, tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(files("fa_tracking.results").joinpath("schema.sql").read_text())
        connection.execute("insert into exports values ('s', now()::timestamp, 1, 1)")
        connection.execute("insert into runs (run_id, source, experiment, status) values ('r', 's', 'e', 'FINISHED')")
        connection.execute("insert into metrics values ('r', 'k', 1, 0.5, '2026-01-01')")
        refuse_wrong_rows(connection, tmp_path, "", made().tables)
        connection.execute(f"update {table} set {column} = '{time}'")
        with pytest.raises(UsageError, match=rf"1 rows of {table} have times outside .* \({column}\)"):
            refuse_wrong_rows(connection, tmp_path, "", made().tables)


def test_a_copy_of_what_is_merged_never_takes_the_place_of_an_export(copy: Path, tmp_path: Path) -> None:
    before = sorted(copy.rglob("*"))
    for target in (copy, copy / "params", tmp_path):
        with pytest.raises(UsageError, match="would take the place of"):
            refuse_own_sources([f"them={copy}"], target)
    done = CliRunner().invoke(main, ["merge", f"l={copy}", "--db", str(tmp_path / "o.duckdb"), "--parquet", str(copy)])
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1 and sorted(copy.rglob("*")) == before
    assert not (tmp_path / "o.duckdb").exists()


def test_what_was_merged_holds_the_runs_and_another_time_too(theirs: Path, tmp_path: Path) -> None:
    ours = tmp_path / "ours.duckdb"
    merge([str(theirs)], ours)
    merge([str(theirs)], ours)
    with connect(ours) as connection:
        assert run_sql(connection, "select count(*) from runs").fetchall() == [(4,)]


@pytest.fixture
def copy(theirs: Path, tmp_path: Path) -> Path:
    write_parquet(theirs, tmp_path / "copy")
    return tmp_path / "copy"


LOST = {
    "an experiment's runs": ["runs/experiment=a/data.parquet"],
    "an experiment": [f"{table}/experiment=a/data.parquet" for table in ORDERS],
    "a table of an experiment": ["tags/experiment=b/data.parquet"],
    "the metrics": ["metrics/experiment=a/data.parquet", "metrics/experiment=b/data.parquet"],
    "the layers": ["layers/experiment=a/data.parquet", "layers/experiment=b/data.parquet"],
}


@pytest.mark.parametrize("lost", LOST)
def test_a_copy_in_part_is_refused_and_replaces_nothing(copy: Path, theirs: Path, lost: str, tmp_path: Path) -> None:
    ours = tmp_path / "ours.duckdb"
    merge([f"them={theirs}"], ours)
    before = ours.read_bytes()
    for part in LOST[lost]:
        (copy / part).unlink()
    with pytest.raises(UsageError, match="is a copy in part"):
        merge([f"them={copy}"], ours)
    with pytest.raises(UsageError, match="is a copy in part"):
        connect(copy)
    done = CliRunner().invoke(main, ["query", "runs", "--experiment", "b", "--db", str(copy)])
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1
    assert ours.read_bytes() == before


def test_a_folder_that_does_not_say_how_much_it_holds_replaces_nothing_but_can_be_read(
    copy: Path, theirs: Path, tmp_path: Path
) -> None:
    ours = tmp_path / "ours.duckdb"
    (copy / "exports.parquet").unlink()
    (copy / "runs/experiment=a/data.parquet").unlink()
    with connect(copy) as connection:
        assert run_sql(connection, "select count(*) from runs").fetchall() == [(2,)]
    merge([f"them={theirs}"], ours)
    assert merge([f"them={copy}"], ours)[0].what == "older"
    with duckdb.connect(str(ours)) as connection:
        connection.execute("update exports set exported_at = '2000-01-01'")
    with pytest.raises(UsageError, match="lacks rows of"):
        merge([f"them={copy}"], ours)


def test_a_whole_copy_is_read_and_merged(copy: Path, tmp_path: Path) -> None:
    assert merge([f"them={copy}"], tmp_path / "ours.duckdb")[0].runs == 4


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", ["md:x.duckdb", "postgres:host=127.0.0.1 port=9", "sqlite:x", "s3:x", "duckdb:x"])
def test_a_files_name_is_no_address(theirs: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(theirs.parent)
    theirs.rename(theirs.parent / name)
    done = CliRunner().invoke(main, ["query", "runs", "--experiment", "a", "--format", "csv", "--db", name])
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 3, done.stderr
    done = CliRunner().invoke(main, ["merge", f"lab={name}", "--db", "ours.duckdb"])
    assert done.exit_code == 0, done.stderr
    assert merge([f"lab={theirs.parent / name}"], "ours.duckdb")[0].what == "held"


def test_a_folder_is_read_alone_whatever_links_stand_in_it(copy: Path, tmp_path: Path) -> None:
    part = copy / "params/experiment=a/data.parquet"
    part.rename(tmp_path / "outside.parquet")
    part.symlink_to(tmp_path / "outside.parquet")
    for call in (lambda: connect(copy), lambda: merge([f"l={copy}"], tmp_path / "ours.duckdb")):
        with pytest.raises(UsageError, match="leads out of"):
            call()


def test_a_folder_with_the_letters_of_a_pattern_is_itself(copy: Path, tmp_path: Path) -> None:
    other = tmp_path / "v1"
    shutil.copytree(copy, other)
    (other / "runs/experiment=a/data.parquet").unlink()
    odd = copy.rename(tmp_path / "v[1]")
    with connect(odd) as connection:
        assert run_sql(connection, "select count(*) from runs").fetchall() == [(4,)]


def test_what_is_not_yet_written_into_a_database_is_not_lost(theirs: Path, exported: Path) -> None:
    log = theirs.with_name(f"{theirs.name}.wal")
    log.write_bytes(b"something")
    before = theirs.read_bytes()
    with pytest.raises(UsageError, match="not yet written"):
        export(theirs, f"sqlite:///{exported.parent}/mlflow.db")
    assert theirs.read_bytes() == before and log.exists()


def test_a_database_that_is_cut_short_is_one_line(theirs: Path, tmp_path: Path) -> None:
    whole = theirs.read_bytes()
    for share in (0.2, 0.5, 0.9):
        theirs.write_bytes(whole[: int(len(whole) * share)])
        done = CliRunner().invoke(main, ["merge", str(theirs), "--db", str(tmp_path / "ours.duckdb")])
        assert done.exit_code in (1, 2) and len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "ours.duckdb").exists()


def test_a_link_to_a_database_is_merged_as_what_it_leads_to(theirs: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.duckdb"
    link.symlink_to(theirs)
    merge([f"them={link}"], tmp_path / "merged.duckdb")
    with connect(tmp_path / "merged.duckdb") as connection:
        assert run_sql(connection, "select count(*) from runs").fetchall() == [(4,)]


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"PAR1", None])
def test_a_file_that_is_no_database_is_one_line_and_makes_none(
    content: bytes | None, theirs: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.duckdb"
    other.write_bytes(theirs.read_bytes()[:5000] if content is None else content)
    with pytest.raises(FATrackError, match=r"other\.duckdb") as refused:
        merge([f"them={other}"], tmp_path / "merged.duckdb")
    assert "\n" not in str(refused.value) and not (tmp_path / "merged.duckdb").exists()
