"""What the documents tell a user to do, done."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from conftest import Cli

from fa_tracking.results.database import connect

DOCS = Path(__file__).parent.parent / "docs"


def test_a_model_of_ones_own_can_be_audited_as_the_document_says(workspace: Path, cli: Cli, tmp_path: Path) -> None:
    text = (DOCS / "how-to/audit-your-own.md").read_text()
    module, script = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    package = tmp_path / "package"
    package.mkdir()
    (package / "mynets.py").write_text(module)
    (package / "pyproject.toml").write_text(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0])
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(package)]
    subprocess.run(build, check=True, capture_output=True)
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(tmp_path / "installed")
    path = os.pathsep.join([str(tmp_path / "installed"), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", script], cwd=workspace, check=True, env={**os.environ, "PYTHONPATH": path})
    done = cli("audit", "--experiment", "mine", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "my_rule mynet 4×32, seed 1" in done.stdout


def test_the_page_of_the_reproduction_is_what_its_command_writes_from_the_reference_results() -> None:
    done = subprocess.run([sys.executable, str(DOCS / "reproduction.py")], capture_output=True, text=True, check=True)
    assert done.stdout == (DOCS / "reproduction.md").read_text()
    assert "{{" not in done.stdout


def test_the_reference_results_are_small_and_name_no_machine() -> None:
    files = list((DOCS / "reference-results").glob("*.parquet"))
    assert {f.stem for f in files} == {"runs", "tags", "params", "metrics", "layers", "knockouts", "audits"}
    assert sum(f.stat().st_size for f in files) < 5_000_000
    with connect(DOCS / "reference-results") as connection:
        for name in ("runs", "tags", "params"):
            text = str(connection.sql(f"select * from {name}").fetchall())
            assert not re.search(r"(?<![\w.])/(work|home|root|tmp|Users)/|sqlite:|\.\./", text), name
