"""What the documents tell a user to do, done."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fa_tracking.results.database import connect

DOCS = Path(__file__).parent.parent / "docs"


def printed(program: str) -> str:
    command = [sys.executable, str(DOCS / program)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.site
def test_the_page_of_the_reproduction_is_what_its_command_writes_from_the_reference_results() -> None:
    said = printed("reproduction.py")
    assert said == (DOCS / "reproduction.md").read_text()
    assert "{{" not in said


@pytest.mark.site
def test_the_page_of_the_study_is_what_its_command_writes_from_its_results() -> None:
    said = printed("study.py")
    assert said == (DOCS / "study.md").read_text()
    assert "## Missing" in said


@pytest.mark.site
def test_the_table_of_readings_is_what_its_command_prints() -> None:
    said = printed("readings.py")
    page = (DOCS / "explanation" / "methods.md").read_text()
    assert said.strip() == page.split("<!-- readings -->")[1].split("<!-- /readings -->")[0].strip()
    assert said.count("|") > 50


def test_the_reference_results_are_small_and_name_no_machine() -> None:
    files = list((DOCS / "reference-results").glob("*.parquet"))
    tables = {"runs", "tags", "params", "metrics", "layers", "knockouts", "audits"}
    assert {f.stem for f in files} - {"functional"} == tables  # which no run of theirs has
    assert sum(f.stat().st_size for f in (DOCS / "reference-results").rglob("*") if f.is_file()) < 5_000_000
    for folder in (DOCS / "reference-results", DOCS / "reference-results" / "study"):
        with connect(folder) as connection:
            for name in ("runs", "tags", "params"):
                text = str(connection.sql(f"select * from {name}").fetchall())
                assert not re.search(r"(?<![\w.])/(work|home|root|tmp|Users)/|sqlite:|\.\./", text), (folder, name)
