"""What a contributor meets: the five steps, the layers as the code has them, the hooks, an archive that builds."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
THINGS = ("method", "network", "data set", "diagnostic", "query", "chart")


@pytest.mark.parametrize("thing", THINGS)
def test_each_thing_that_is_one_file_has_five_steps_and_a_page(thing: str) -> None:
    section = CONTRIBUTING.split(f"\n## Add a {thing}\n")[1].split("\n## ")[0]
    assert re.findall(r"^(\d)\. ", section, re.MULTILINE) == list("12345")
    (page,) = re.findall(r"\((docs/how-to/add-an?-[\w-]+\.md)\)", section)
    assert (ROOT / page).is_file()
    (folder,) = set(re.findall(r"^1\. Write `([\w/]+/)NAME\.\w+`", section, re.MULTILINE))
    assert (ROOT / folder).is_dir() and f"{folder}" in (ROOT / page).read_text()
    for file in re.findall(r"(?:tests|docs)/\w+\.py", section):
        assert (ROOT / file).is_file(), file


def rows() -> dict[str, int]:
    """The rooms of the architecture's table, each with its row."""
    page = (ROOT / "docs/developers/architecture.md").read_text()
    return {room: int(row) for row, room in re.findall(r"^\| (\d) \| `([\w.]+)` \|", page, re.MULTILINE)}


def test_imports_point_down_the_rows_of_the_architecture() -> None:
    folders = [p for p in (ROOT / "fa_tracking").iterdir() if any(p.glob("*.py"))]
    assert sorted(rows()) == sorted(f"fa_tracking.{folder.name}" for folder in folders)
    for folder in folders:
        room = f"fa_tracking.{folder.name}"
        for file in folder.resolve().rglob("*.py"):
            if (folder.name, file.name) == ("trainers", "__main__.py"):  # a door of the command line
                continue
            above = {name for name in imported(file) & rows().keys() - {room} if rows()[name] <= rows()[room]}
            assert not above, f"{file.relative_to(ROOT)} imports {above}, which stand in no row below {room}"


def imported(file: Path) -> set[str]:
    """What a file imports of fa_tracking, by its first two names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {".".join(name.split(".")[:2]) for name in found}


def test_the_picture_of_the_layers_has_the_rooms_of_the_table() -> None:
    picture = (ROOT / "docs/images/layers.svg").read_text()
    drawn = re.findall(r'<rect x="\S+" y="(\d+)".*\n<text [^>]*>(\w+)<', picture)
    ranks = {height: rank for rank, height in enumerate(sorted({int(y) for y, _ in drawn}), 1)}
    assert {f"fa_tracking.{name}": ranks[int(y)] for y, name in drawn} == rows()


def test_hooks_and_workflows_fetch_nothing_but_what_they_name() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [(repo["repo"], hook["language"]) for repo in hooks for hook in repo["hooks"]] == [("local", "system")] * 3
    for file in (ROOT / ".github").rglob("*.yml"):
        assert yaml.safe_load(file.read_text())
    said = "".join(p.read_text() for p in (ROOT / ".github").rglob("*") if p.is_file())
    assert not re.search(r"https?://|@[\w-]+\.\w+|\b\d+\.\d+\.\d+\.\d+\b", said), "no address, private or not"


def test_every_session_that_contributing_names_exists() -> None:
    sessions = set(re.findall(r"^@nox\.session\ndef (\w+)", (ROOT / "noxfile.py").read_text(), re.MULTILINE))
    assert sessions == {"fast", "rest", "full", "docs", "bench", "lint", "types", "wheel"}
    assert all(re.search(rf"\b{name}\b", CONTRIBUTING.split("nox -s", 1)[1].split("\n\n")[0]) for name in sessions)


@pytest.mark.parametrize(
    ("text", "fault"),
    [("a = 1 \n", "white space"), ("a = 1", "no line end"), ("<<<<<<< HEAD\n", "merge"), ("#" * 1_000_001, "bytes")],
)
def test_a_file_that_should_not_be_committed_is_named_with_its_fault(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "right.py").write_text("a = 1\n")
    (tmp_path / "wrong.py").write_text(text)
    command = [sys.executable, str(ROOT / ".ci/check_files.py"), "right.py", "wrong.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and fault in done.stderr and "right.py" not in done.stderr


def test_an_archive_without_git_builds_under_the_fallback_version(tmp_path: Path) -> None:
    fallback = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["version"]["fallback-version"]
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    packed = ["tar", "-c", "--null", "-T", "-"]
    archive = subprocess.run(packed, cwd=ROOT, input=files.encode(), capture_output=True, check=True).stdout
    (tmp_path / "source").mkdir()
    subprocess.run(["tar", "-x"], cwd=tmp_path / "source", input=archive, check=True)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(tmp_path / "source")]
    subprocess.run(build, check=True, capture_output=True)  # the sdist, and the wheel from it
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"fa_track-{fallback}-") and (tmp_path / f"fa_track-{fallback}.tar.gz").is_file()
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"fa_tracking/{p}py.typed" for p in ("", "trainers/", "dashboards/")} <= set(names)


def test_the_citation_names_the_version_and_the_study() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert f"## [{cited['version']}]" in (ROOT / "CHANGELOG.md").read_text()
    (study,) = cited["references"]
    assert [a["family-names"] for a in study["authors"]] == ["Hao", "Wan", "Zhai"]
    assert study["title"].startswith("What Accuracy and Gradient Cosine Miss") and "2606.21126" in study["url"]
