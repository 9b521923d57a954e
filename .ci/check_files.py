"""Finds what no file of the repository may be.

That is above 1 MB, half merged, without a last line end, or with white space at a line's end; in Markdown two spaces
there break a line.

python .ci/check_files.py FILE…
"""

import re
import sys
from pathlib import Path

LARGEST = 1_000_000
SPACE = re.compile(r"[ \t]+$", re.MULTILINE)
WRONG = {
    "a mark of a merge": re.compile(r"^(<<<<<<< |>>>>>>> )", re.MULTILINE),
    "white space at a line's end": SPACE,
    "no line end behind the last line": re.compile(r"[^\n]\Z"),
}


def faults(file: Path) -> list[str]:
    """What is wrong with a file; a link and what is no text have no lines to look at."""
    if file.is_symlink() or not file.is_file():
        return []
    content = file.read_bytes()
    found = [f"{len(content):,} bytes, more than {LARGEST:,}"] if len(content) > LARGEST else []
    if b"\0" in content or file.suffix in (".svg", ".parquet", ".png"):
        return found
    text = content.decode(errors="replace")
    for fault, pattern in WRONG.items():
        if pattern is SPACE and file.suffix == ".md":
            continue
        if wrong := pattern.search(text):
            found.append(f"line {text.count(chr(10), 0, wrong.start()) + 1}: {fault}")
    return found


if __name__ == "__main__":
    said = [f"{file}: {fault}" for file in sys.argv[1:] for fault in faults(Path(file))]
    print("\n".join(said) or "no fault", file=sys.stderr if said else sys.stdout)
    sys.exit(bool(said))
