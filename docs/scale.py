"""Writes below each command of docs/scale.md what it prints now: on a machine that does nothing else.

STORE=postgresql://user@host/database python docs/scale.py
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(```sh\n(.*?)\n```\n)(?:\n```text\n.*?```\n)?", re.DOTALL)


def fill_in(page: Path) -> None:
    """Run the commands of a page, and write below each what it printed."""
    page.write_text(BLOCK.sub(with_output, page.read_text()))


def with_output(block: re.Match[str]) -> str:
    done = subprocess.run(block[2], shell=True, check=True, text=True, stdout=subprocess.PIPE, cwd=ROOT)
    return f"{block[1]}\n```text\n{done.stdout.strip()}\n```\n"


if __name__ == "__main__":
    fill_in(Path(__file__).with_suffix(".md"))
