"""Writes below each command of docs/scale.md what it prints now: on a machine that does nothing else.

STORE=postgresql://user@host/database python docs/scale.py
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(```sh\n(.*?)\n```\n)", re.DOTALL)


def fill_in(page: Path) -> None:
    """Run the commands of a page, and write below each what it printed, as soon as it has."""
    for block, command in BLOCK.findall(page.read_text()):
        printed = re.compile(re.escape(block) + r"(?:\n```text\n.*?```\n)?", re.DOTALL)
        text = with_output(block, command)
        page.write_text(printed.sub(lambda _, text=text: text, page.read_text(), count=1))


def with_output(block: str, command: str) -> str:
    done = subprocess.run(command, shell=True, check=True, text=True, stdout=subprocess.PIPE, cwd=ROOT)
    return f"{block}\n```text\n{done.stdout.rstrip()}\n```\n"


if __name__ == "__main__":
    fill_in(Path(__file__).with_suffix(".md"))
