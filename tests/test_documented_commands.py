"""The README, the tutorial and the pages that begin where the demo ends, typed as a user would (see pages.py)."""

from pathlib import Path

import pytest
from pages import PAGES, copy_of_the_repository, needs_demo, run, shorten_the_demo, type_page


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `fa-track demo` has been run."""
    code, folder = tmp_path_factory.mktemp("code"), tmp_path_factory.mktemp("demo")
    copy_of_the_repository(code)
    shorten_the_demo(code)
    run([("sh", "fa-track demo\n")], folder, code)
    return folder


@pytest.mark.parametrize("page", filter(needs_demo, PAGES), ids=lambda page: page.stem)
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path, demo: Path) -> None:
    type_page(page, tmp_path / "fa-track", demo)
