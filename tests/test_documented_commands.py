"""The tutorial, and the pages that begin where its demo has been run, typed as a user would (see pages.py)."""

from pathlib import Path

import pytest
from pages import PAGES, TUTORIAL, needs_demo, type_page

pytestmark = pytest.mark.pages


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every block of the tutorial has been run."""
    folder = tmp_path_factory.mktemp("tutorial") / "fa-track"
    type_page(TUTORIAL, folder)
    return folder


def test_every_block_of_the_tutorial_runs(tutorial: Path) -> None:
    assert (tutorial / "rescue.pdf").is_file()


@pytest.mark.parametrize("page", filter(needs_demo, PAGES), ids=lambda page: page.stem)
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path, tutorial: Path) -> None:
    type_page(page, tmp_path / "fa-track", tutorial)
