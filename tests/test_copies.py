"""Folders of Parquet: read by their own names alone, and refused where a copy lost something or holds too much."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import pytest

from fa_tracking.errors import UsageError
from fa_tracking.results.export.parquet import ORDERS, WHOLE, write_parquet
from fa_tracking.results.export.replace import replacing
from fa_tracking.results.folders import find_folders, open_folders

ASKED = """
select r.run_id, experiment, method, seed, p.value, m.value
from runs r join params p using (run_id) join metrics m using (run_id) order by all
"""
ROWS = [("r1", "a", "dfa", 1, "dfa", 0.5), ("r2", "b", "dfa", 2, "dfa", 0.5)]


def write_database(path: Path, experiments: Sequence[str] = ("a", "b")) -> Path:
    with replacing(path) as connection:
        for number, experiment in enumerate(experiments, 1):
            run = f"r{number}"
            connection.execute(
                "insert into runs (run_id, source, experiment, status, method, seed, start_time) "
                "values ($1, 'store', $2, 'FINISHED', 'dfa', $3, '2026-01-01')",
                [run, experiment, number],
            )
            connection.execute("insert into params values ($1, 'method', 'dfa')", [run])
            connection.execute("insert into metrics values ($1, 'accuracy/test', 1, 0.5, '2026-01-01')", [run])
        number = len(experiments)
        connection.execute("insert into exports values ('store', '2026-01-01', $1, $1)", [number])
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("copies")
    write_parquet(write_database(here / "db.duckdb"), here / "copy")
    return here


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written / "copy", tmp_path / "copy"))


def asked(path: Path, sql: str = ASKED) -> list[tuple]:
    with open_folders(find_folders(path)) as connection:
        return connection.execute(sql).fetchall()


def rewrite(part: Path, columns: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"create table t as select {columns} from read_parquet('{part}', hive_partitioning = false)")
        connection.execute(f"copy t to '{part}' (format parquet)")


@pytest.mark.parametrize(
    "above", ["value=0.99", "seed=99/method=zzz", "experiment=zzz", "run_id=zzz", "key=k/step=7", "a?b*[c]"]
)
@pytest.mark.parametrize("is_flat", [False, True])
def test_names_of_folders_above_change_no_number(written: Path, above: str, is_flat: bool, tmp_path: Path) -> None:
    place = tmp_path / above / "copy"
    if is_flat:
        place.mkdir(parents=True)
        with duckdb.connect(str(written / "db.duckdb"), read_only=True) as connection:
            for table in (*ORDERS, *WHOLE):
                connection.execute(f"copy {table} to $1", [str(place / f"{table}.parquet")])
    else:
        shutil.copytree(written / "copy", place)
    assert asked(place) == ROWS


def test_the_experiment_is_that_of_the_folder_whatever_the_file_says(copy: Path) -> None:
    rewrite(copy / "runs/experiment=a/data.parquet", "*, 'zzz' as experiment")
    assert asked(copy) == ROWS


def test_an_experiment_of_any_name_comes_back_from_its_copy(tmp_path: Path) -> None:
    names = ["NULL", "__HIVE_DEFAULT_PARTITION__", "a%b", "..", "ä/ö=x", "", "a+b", "a b", "'"]
    write_parquet(write_database(tmp_path / "x.duckdb", names), tmp_path / "x")
    told = "select experiment from runs order by seed"
    assert asked(tmp_path / "x", told) == [(name,) for name in names]
    others = (
        f"from read_parquet('{tmp_path}/x/runs/*/*.parquet', hive_partitioning = true, hive_types_autocast = false)"
    )
    assert duckdb.sql(f"select experiment {others} order by seed").fetchall() == [(name,) for name in names]


def with_copied_file(copy: Path, table: str) -> Iterator[Path]:
    part = copy / table / "experiment=a/data.parquet"
    yield Path(shutil.copy(part, part.with_name("data (1).parquet")))
    yield Path(shutil.copy(part, copy / f"{table}.parquet"))
    yield Path(shutil.copy(part, copy / f"{table} (1).parquet"))
    for name in ("experiment=a copy", "experiment=%61", "experiment=a/experiment=a"):
        yield Path(shutil.copytree(copy / table / "experiment=b", copy / table / name))


@pytest.mark.parametrize("table", ["runs", "params", "layers", "audits", "metrics"])
def test_a_file_that_no_copy_has_is_refused_by_name(copy: Path, table: str) -> None:
    for added in with_copied_file(copy, table):
        with pytest.raises(UsageError, match=r"holds too much|is a copy in part"):
            asked(copy)
        shutil.rmtree(added) if added.is_dir() else added.unlink()
    assert asked(copy) == ROWS


@pytest.mark.parametrize("are_counted", [True, False])
def test_rows_that_stand_there_twice_are_too_many(copy: Path, are_counted: bool) -> None:
    for table in ORDERS:
        shutil.copytree(copy / table / "experiment=a", copy / table / "experiment=a copy")
    if not are_counted:
        (copy / "exports.parquet").unlink()
    with pytest.raises(UsageError, match="holds too much"):
        asked(copy)


def test_a_folder_among_others_that_lost_its_runs_is_a_copy_in_part(copy: Path, tmp_path: Path) -> None:
    shutil.copytree(copy, tmp_path / "all/a")
    shutil.copytree(copy, tmp_path / "all/b")
    shutil.rmtree(tmp_path / "all/b/runs")
    for path in (tmp_path / "all", tmp_path / "all/*", tmp_path / "all/b"):
        with pytest.raises(UsageError, match="all/b is a copy in part"):
            asked(path)


@pytest.mark.parametrize(
    ("part", "columns", "said"),
    [
        ("runs/experiment=a/data.parquet", "* replace (null::varchar as source)", "1 rows of runs have no source"),
        ("runs/experiment=a/data.parquet", "* replace (null::varchar as run_id)", "1 rows of runs have no run_id"),
        ("params/experiment=a/data.parquet", "* replace (null::varchar as key)", "1 rows of params have no key"),
        ("exports.parquet", "* replace (null::varchar as source)", "1 rows of exports have no source"),
        ("exports.parquet", "* replace ('infinity'::timestamp as exported_at)", "times outside the years"),
        ("exports.parquet", "* replace ('9000-01-01'::timestamp as exported_at)", "yet to come"),
        ("runs/experiment=b/data.parquet", "* replace ('-infinity'::timestamp as start_time)", "times outside"),
    ],
)
def test_a_key_that_is_empty_or_a_time_that_is_none_is_one_line(copy: Path, part: str, columns: str, said: str) -> None:
    rewrite(copy / part, columns)
    with pytest.raises(UsageError, match=said):
        asked(copy)


def test_the_reference_results_are_read_with_the_study_that_stands_in_them() -> None:
    folder = Path(__file__).parents[1] / "docs/reference-results"
    assert asked(folder, "select count(*) > 0 from runs") == [(True,)]
    assert asked(folder / "study", "select count(*) > 0 from runs") == [(True,)]
