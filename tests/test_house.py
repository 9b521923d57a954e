"""The house holds: who imports whom, one file an item, the wheel carries everything, the documents name every item."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fa_tracking import catalogue, importers
from fa_tracking.results.database import queries
from fa_tracking.trainers import datasets, methods, models
from fa_tracking.trainers.study import grid

ROOT = Path(__file__).parent.parent

BROKEN = [
    ("fa_tracking/tracking/late.py", "fa_tracking.results.database", "Folders import those below them"),
    ("fa_tracking/results/late.py", "fa_tracking.trainers.data", "Folders import those below them"),
    ("fa_tracking/new_folder/__init__.py", "math", "Folders import those below them"),
    ("fa_tracking/tracking/address.py", "fa_tracking.tracking.store", "No circles inside a folder"),
    ("fa_tracking/plugin/late.py", "fa_tracking.importers", "The command line alone trains"),
    ("fa_tracking/publishing/late.py", "fa_tracking.executors", "Who audits, trains or takes commands"),
    ("fa_tracking/protocol/late.py", "pandas", "The protocol is torch"),
    ("dashboards/late.py", "fa_tracking.protocol.probe", "Who does not measure"),
    ("fa_tracking/auditor/late.py", "fa_tracking.results.statistics", "The auditor measures"),
    ("fa_tracking/checks/late.py", "torch", "Checks read finished verdicts"),
    ("fa_tracking/pitfalls/late.py", "mlflow", "Pitfalls are shown in torch alone"),
    ("trainers/methods/late.py", "fa_tracking.tracking.names", "An epoch, its rules"),
    ("trainers/loop.py", "mlflow", "An epoch, its rules"),
    ("dashboards/charts/late.py", "fa_tracking.results.database", "A chart draws rows"),
]
"""What breaks the house: a file, what it imports, and how the contract begins that says so."""


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def sources() -> list[tuple[str, Path]]:
    tops = {"fa_tracking": "", "trainers": "fa_tracking.", "dashboards": "fa_tracking."}
    return [
        (above + ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), p)
        for top, above in tops.items()
        for p in sorted((ROOT / top).rglob("*.py"))
        if not any(folder.is_symlink() for folder in p.parents)
    ]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code that a test may break, and mends."""
    copy = tmp_path_factory.mktemp("house")
    for name in ("fa_tracking", "trainers", "dashboards"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


@pytest.mark.parametrize(("file", "imported", "contract"), BROKEN)
def test_an_import_that_goes_the_wrong_way_breaks_its_contract(
    file: str, imported: str, contract: str, house: Path
) -> None:
    path = house / file
    before = path.read_text() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{before or ''}\n\ndef late() -> None:\n    import {imported}\n")
    done = lint_imports(house)
    if before is not None:
        path.write_text(before)
    elif path.name == "__init__.py":
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    broken = [line for line in done.stdout.splitlines() if " BROKEN" in line]
    assert done.returncode == 1 and any(line.startswith(contract) for line in broken), done.stdout + done.stderr


def test_every_contract_between_the_folders_is_kept() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command as run; run()"
    env = {**os.environ, "COLUMNS": "200", "PYTHONPATH": ""}  # the folder's own code is looked at
    command = [sys.executable, "-c", program, "--no-cache"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_private_parts_of_mlflow_are_touched_in_one_module() -> None:
    private = re.compile(r"^mlflow\.(store|server|tracking)\.|^mlflow\..*\._|^mlflow\.server$")
    for module, path in sources():
        if module.startswith(("fa_tracking.tracking", "fa_tracking.plugin")) and path.name != "_mlflow_compat.py":
            assert not [name for name in imported(path) if private.search(name)], module


def test_metric_names_are_spelled_in_one_place() -> None:
    for _, path in sources():
        if path.name != "names.py":
            assert "residual_norm/h" not in path.read_text(), path


WIDEST_GAP = (
    "from fa_tracking.protocol.table import Threshold\n"
    'ORDER, FLAG, TITLE, WORDING, REQUIRED = 9, "w", "widest gap", "the gap is wide", False\n'
    'THRESHOLD = Threshold("widest_gap_ceiling", 5.0, "above", "--widest-gap", "this gap", least=0)\n'
    "def measure(captures): return {'widest_gap': float(len(captures))}\n"
    "def value(report): return report.extra.get('widest_gap')\n"
    "def fires(report): return value(report) is not None and value(report) > report.thresholds.at(THRESHOLD)\n"
    "def explain(report): return [f'gap {value(report)}']\n"
)


def with_widest_gap(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program with a diagnostic from outside the package."""
    outside = folder / "outside"
    outside.mkdir()
    (outside / "widest_gap.py").write_text(WIDEST_GAP)
    begin = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})\n"
    begin += f"from fa_tracking.protocol import diagnostics; diagnostics.__path__.append({str(outside)!r})\n"
    (folder / "program.py").write_text(begin + program)
    command = [sys.executable, str(folder / "program.py"), str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_new_diagnostic_is_one_new_file(tmp_path: Path) -> None:
    program = (
        "from test_diagnose import Hooked, float_batches\nfrom fa_tracking import diagnose\n"
        "from fa_tracking.protocol.thresholds import DiagnosticThresholds\n"
        "from fa_tracking.protocol.report import DiagnosticReport\n"
        "from fa_tracking.cli.audit import command\n"
        "assert '--widest-gap' in [o for p in command.params for o in p.opts]\n"
        "import torch; torch.manual_seed(0)\n"  # else (c) fires alone now and then, and says so first
        "higher = DiagnosticThresholds.of({'widest_gap_ceiling': 1e9})\n"
        "report = diagnose(Hooked(), float_batches(), thresholds=higher)\n"
        "assert 'w' not in report.flags and report.thresholds.extra == {'widest_gap_ceiling': 1e9}\n"
        "assert DiagnosticReport.from_dict(report.to_dict()) == report\n"
        "assert 'widest_gap_ceiling 1e+09, not 5' in report.caveats[0]\n"
        "print(diagnose(Hooked(), float_batches()))"
    )
    done = with_widest_gap(tmp_path, program)
    assert done.returncode == 0, done.stderr
    assert "FLAG: the gap is wide" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("the gap is wide")


AUDITED = """
import json, sys
from pathlib import Path
import fa_tracking
from mlflow import MlflowClient
from fa_tracking.protocol.thresholds import DiagnosticThresholds
from fa_tracking.results.database import ask, connect, find_query
from fa_tracking.results.export.export import export

folder = Path(sys.argv[1])
uri, database = f"sqlite:///{folder / 'mlflow.db'}", folder / "r.duckdb"
client = MlflowClient(uri)
experiment = client.create_experiment("gaps")

def run(gap):
    run_id = client.create_run(experiment).info.run_id
    for key, value in {"residual_norm/h0": 1.0, "residual_norm/h1": 2.0, "diagnostics/widest_gap": gap}.items():
        client.log_metric(run_id, key, value, step=3)
    client.set_terminated(run_id)
    return run_id

def told():
    export(database, uri)
    with connect(database) as connection:
        asked = "select run_id, flags, extra['widest_gap'], unnest(further, recursive := true) from audits"
        stored = connection.sql(asked)
        rows = {run_id: list(row) for run_id, *row in stored.fetchall()}
        groups = ask(connection, find_query("threshold_groups"), "gaps").df().query("flag == 'w'").set_index("run_id")
        swept = ask(connection, find_query("threshold_sensitivity"), "gaps").df().query("flag == 'w'")
        verdicts = dict(connection.sql("select run_id, verdict from runs_of('gaps')").fetchall())
        return rows, groups["state"].to_dict(), sorted(swept["n_flagged"].unique()), verdicts

wide, narrow, early = run(7.0), run(0.5), run(6.0)
fa_tracking.audit("gaps", uri, pictures=False)
measured = json.loads(client.get_run(early).data.tags["fa.measured"])
del measured["further"]  # as an audit stored it before
client.set_tag(early, "fa.measured", json.dumps(measured))
rows, states, flagged, verdicts = told()
assert rows[wide] == ["w", 7.0, "w", 7.0, 5.0, True, "exact"], rows
assert rows[narrow] == ["", 0.5, "w", 0.5, 5.0, False, "exact"], rows
assert rows[early] == ["w", 6.0, "w", None, None, True, "exact"], rows
assert states == {wide: "flagged", narrow: "passing"} and flagged == [0, 1, 2], (states, flagged)
assert verdicts[wide] == "needs walk-back: the gap is wide", verdicts
fa_tracking.audit("gaps", uri, thresholds=DiagnosticThresholds.of({"widest_gap_ceiling": 0.1}), pictures=False)
rows, states, _, verdicts = told()
assert rows[narrow] == ["w", 0.5, "w", 0.5, 0.1, True, "exact"] and states[narrow] == "flagged", (rows, states)
assert verdicts[narrow] == "needs walk-back: the gap is wide (other thresholds)", verdicts
"""


def test_what_a_new_diagnostic_finds_reaches_the_table_of_audits_and_the_queries(tmp_path: Path) -> None:
    done = with_widest_gap(tmp_path, AUDITED)
    assert done.returncode == 0, done.stderr


@pytest.mark.wheel
def test_the_wheel_carries_queries_schema_and_studies_and_finds_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"fa_tracking/queries/{name}.sql" for name in queries()} <= names
    assert {"fa_tracking/results/schema.sql", "fa_tracking/results/derive.sql", "fa_tracking/py.typed"} <= names
    assert {f"fa_tracking/trainers/studies/{p.name}" for p in (ROOT / "trainers/studies").glob("*.yaml")} <= names
    for folder in ("fa_tracking/dashboards/assets", "fa_tracking/templates"):
        assert {f"{folder}/{p.name}" for p in (ROOT / folder).iterdir()} <= names
    assert {name.partition("/")[0] for name in names} == {"fa_tracking", wheel.name.partition("-py3")[0] + ".dist-info"}
    program = f"import sys; sys.path.insert(0, {str(tmp_path / 'x')!r})\n"
    program += "import fa_tracking\nfrom fa_tracking.results.database import queries\n"
    program += "print(len(queries()), fa_tracking.__file__)"
    zipfile.ZipFile(wheel).extractall(tmp_path / "x")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == [str(len(queries())), str(tmp_path / "x/fa_tracking/__init__.py")]
    _must_work_beside_folders_of_these_names(tmp_path / "x", tmp_path / "mine")


def _must_work_beside_folders_of_these_names(wheel: Path, folder: Path) -> None:
    """In a script, by ``-c`` as in a notebook, and by ``-m``, from a folder with the user's own packages."""
    for name in ("trainers", "dashboards", "queries"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise RuntimeError('the user's own')\n")
    (folder / "queries/board.sql").write_text("select 'the user''s own'\n")
    program = (
        "import fa_tracking\nfrom fa_tracking.results.database import find_query\n"
        "(audited,) = fa_tracking.audit('mine', pictures=True).runs\n"
        "print(audited.problem, \"user''s own\" in find_query('board').sql, fa_tracking.__file__)\n"
    )
    (folder / "script.py").write_text(program)
    env = {**os.environ, "PYTHONPATH": str(wheel), "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    tiny = ["train", "bp", "--experiment", "mine", "--dataset", "digits", "--width", "8", "--depth", "1"]
    typed = [
        [*tiny, "--epochs", "1"],
        ["audit", "--experiment", "mine", "--no-pictures"],
        ["export"],
        ["query", "cross_seed", "--experiment", "mine"],
        ["dashboard", "--experiment", "mine", "-o", "mine.html"],
        ["chart", "seeds", "--experiment", "mine", "-o", "mine.png"],
    ]
    for words in (*(["-m", "fa_tracking", *each] for each in typed), ["script.py"], ["-c", program]):
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        if "-m" not in words:
            assert done.stdout.split() == ["None", "False", str(wheel / "fa_tracking/__init__.py")]


@pytest.mark.parametrize("name", grid.studies())
def test_every_study_can_be_enumerated_and_names_what_exists(name: str) -> None:
    whole = grid.load(name)
    for form in (whole, whole.smaller()) if whole.reduced else (whole,):
        found = form.configs()
        assert len({c.digest for c in found}) == len(found) >= len(form.seeds)
        for config in found:
            assert config.method in catalogue.names(methods)
            assert config.architecture in catalogue.names(models)


def test_every_chart_names_a_query_and_every_item_stands_in_the_documents() -> None:
    from fa_tracking import pitfalls
    from fa_tracking.dashboards import charts
    from fa_tracking.protocol.diagnostics import catalogue as diagnostics

    for name in catalogue.names(charts):
        assert catalogue.load(charts, name).QUERY in queries()
    documents = "\n".join(p.read_text() for p in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    items = [
        *queries(),
        *grid.studies(),
        *catalogue.names(charts),
        *catalogue.names(methods),
        *catalogue.names(models),
        *catalogue.names(datasets),
        *catalogue.names(importers),
        *catalogue.names(pitfalls),
    ]
    items += [d.__name__.rpartition(".")[2] for d in diagnostics()]
    assert [item for item in items if f"`{item}`" not in documents] == []
