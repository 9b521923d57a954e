"""The documents as a whole: they build, load nothing from elsewhere, every link arrives, the reference is current."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest

import fa_tracking
from fa_tracking.cli import main

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = sorted(p for p in DOCS.rglob("*.md") if not p.name.endswith(".template.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *DOCUMENTS]
LINK = re.compile(r"(?<!\\)\[[^\[\]]*\]\(([^)\s]+)\)")
PART = re.compile(r"^<!-- (\w+) -->$", re.MULTILINE)
LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=quiet)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_has_a_page_for_every_document(site: Path) -> None:
    for page in DOCUMENTS:
        name = page.relative_to(DOCS).with_suffix("")
        assert (site / (name.parent if name.name == "index" else name) / "index.html").is_file(), page


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loads = {page: loaded(page.read_text()) for page in site.rglob("*.html")}
    assert all(any(each.endswith(".js") for each in found) for found in loads.values())
    assert {each for found in loads.values() for each in found if re.match(r"(https?:)?//", each)} == set()
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text()), sheet


def loaded(page: str) -> list[str]:
    """What a browser fetches when it shows the page."""
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            given = dict(attrs)
            if given.get("rel") not in ("canonical", "next", "prev"):
                found.append(given.get(LOADS.get(tag, "")) or "")

    Reader().feed(page)
    return found


def test_the_reference_has_every_public_name_and_every_command(site: Path) -> None:
    python, cli = ((site / f"reference/{name}/index.html").read_text() for name in ("python", "cli"))
    assert [name for name in fa_tracking.__all__ if f'id="fa_tracking.{name}"' not in python] == []
    assert [name for name in commands(main, "fa-track") if f'id="{name}"' not in cli] == []
    assert "<p>Example:</p>\n<div" in cli, "an example is a block of code"


def commands(command: click.Command, name: str) -> Iterator[str]:
    yield name
    if isinstance(command, click.Group):
        context = click.Context(command)
        for inner in command.commands or command.list_commands(context):  # a pitfall's is told by its own page
            found = command.get_command(context, inner)
            assert found
            yield from commands(found, f"{name}-{inner}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_arrives(page: Path) -> None:
    for link in LINK.findall(without_code(page.read_text())):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.is_file(), f"{link}: no such file"
        assert file.is_relative_to(DOCS) or page.parent == ROOT, f"{link}: the site ends at docs/"
        assert not anchor or anchor in anchors(file.read_text()), f"{link}: no such heading"


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(text: str) -> set[str]:
    """The headings of a page as a forge spells them in a link."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.site
def test_the_reference_is_what_its_command_writes(tmp_path: Path) -> None:
    made = set(re.findall(r'^    "(\w+)": ', (DOCS / "reference.py").read_text(), re.MULTILINE))
    marked = [part for page in (DOCS / "reference").glob("*.md") for part in PART.findall(page.read_text())]
    assert sorted(marked) == sorted(made), "each part that docs/reference.py makes stands in one page"
    subprocess.run([sys.executable, str(DOCS / "reference.py"), str(tmp_path)], check=True)
    now = {page.name: page.read_text() for page in tmp_path.glob("*.md")}
    stands = {page.name: page.read_text() for page in (DOCS / "reference").glob("*.md")}
    stale = sorted(name for name in now.keys() | stands.keys() if now.get(name) != stands.get(name))
    assert stale == [], "bring docs/reference/ up to date with: python docs/reference.py"
