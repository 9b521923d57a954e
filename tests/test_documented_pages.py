"""The how-to pages that begin with nothing, typed as a user would (see pages.py)."""

from pathlib import Path

import pytest
from pages import PAGES, TUTORIAL, needs_demo, type_page


@pytest.mark.parametrize("page", [p for p in PAGES if p != TUTORIAL and not needs_demo(p)], ids=lambda page: page.stem)
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    type_page(page, tmp_path / "fa-track")
