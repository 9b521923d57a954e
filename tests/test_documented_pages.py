"""The how-to pages that begin with nothing, typed as a user would (see pages.py)."""

from pathlib import Path

import pytest
from pages import PAGES, TUTORIAL, needs_demo, type_page

MINUTES = ("torchvision-model", "remote-server", "mlflow", "run-a-study", "add-an-architecture")
"""Pages that take minutes together: networks of the size that people use, servers, studies."""
TYPED = [
    pytest.param(page, id=page.stem, marks=[pytest.mark.long] if page.stem in MINUTES else [])
    for page in PAGES
    if page != TUTORIAL and not needs_demo(page)
]


@pytest.mark.parametrize("page", TYPED)
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    type_page(page, tmp_path / "fa-track")
