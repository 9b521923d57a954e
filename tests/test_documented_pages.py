"""The how-to pages that begin with nothing, typed as a user would (see pages.py)."""

from pathlib import Path

import pytest
from pages import PAGES, TUTORIAL, needs_demo, type_page

pytestmark = pytest.mark.pages

TYPED = [pytest.param(page, id=page.stem) for page in PAGES if page != TUTORIAL and not needs_demo(page)]


@pytest.mark.parametrize("page", TYPED)
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    type_page(page, tmp_path / "fa-track")
