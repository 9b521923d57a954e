"""Writes below each command of docs/scale.md what it prints now: on a machine that does nothing else.

STORE=postgresql://user@host/database python docs/scale.py [PART …]

PART: of a command, to run those alone that hold it. A block is written as soon as its command has ended, so that a page
may hold blocks of several days: the last line of each names its machine. Where a command fails, its block stays as it is.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(```sh\n(.*?)\n```\n)", re.DOTALL)
NOT_MEASURED = "not measured"
"""What a benchmark says that lacks its peer."""


def fill_in(page: Path, usage: str | None) -> None:
    """Run the commands of a page, or those that are asked for, and write below each what it printed."""
    arguments = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("parts", nargs="*", metavar="PART")
    parts = arguments.parse_args().parts
    blocks = [(block, command) for block, command in BLOCK.findall(page.read_text()) if _is_asked(command, parts)]
    if not blocks:
        arguments.error(f"no command of {page.name} holds {' or '.join(parts)}")
    began = time.monotonic()
    failed = [command for block, command in blocks if not _write(page, block, command)]
    print(f"{len(blocks) - len(failed)} of {len(blocks)} written, {(time.monotonic() - began) / 60:.1f} min")
    sys.exit(1 if failed else 0)


def _is_asked(command: str, parts: list[str]) -> bool:
    return not parts or any(part in command for part in parts)


def _write(page: Path, block: str, command: str) -> bool:
    print(command, end=" … ", flush=True)
    began = time.monotonic()
    done = subprocess.run(command, shell=True, check=False, text=True, capture_output=True, cwd=ROOT)
    is_whole = done.returncode == 0 and NOT_MEASURED not in done.stdout
    print(
        f"{time.monotonic() - began:.0f} s" if is_whole else f"failed:\n{done.stdout}{done.stderr[-2000:]}", flush=True
    )
    if is_whole:
        printed = re.compile(re.escape(block) + r"(?:\n```text\n.*?```\n)?", re.DOTALL)
        text = f"{block}\n```text\n{done.stdout.rstrip()}\n```\n"
        page.write_text(printed.sub(lambda _: text, page.read_text(), count=1))
    return is_whole


if __name__ == "__main__":
    fill_in(Path(__file__).with_suffix(".md"), __doc__)
