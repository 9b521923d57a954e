"""Writes docs/reference/: a page from each file of docs/reference_pages/, out of the code that it documents.

python docs/reference.py [FOLDER]
"""

import sys
from pathlib import Path

import reference_pages

from fa_tracking import catalogue

HERE = Path(__file__).parent


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in catalogue.names(reference_pages):
        text = catalogue.load(reference_pages, name).page()
        (folder / f"{name}.md").write_text(f"{text.strip()}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "reference")
