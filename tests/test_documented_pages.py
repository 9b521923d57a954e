"""The how-to pages that begin with nothing, typed as a user would (see pages.py)."""

from itertools import filterfalse
from pathlib import Path

import pytest
from pages import PAGES, needs_demo, type_page


@pytest.mark.parametrize("page", filterfalse(needs_demo, PAGES), ids=lambda page: page.stem)
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    type_page(page, tmp_path / "fa-track")
