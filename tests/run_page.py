"""Runs the blocks of a page in order: ``python run_page.py BLOCKS.json``, a list of [kind, code].

Those of Python share their names, as in a notebook; those of the shell share the folder. A block of plain `fa-track`
lines is run in this process, which has imported the libraries: most of a small command's time is its imports.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

INSTALLS = "python -m zipfile -e wheels/"
"""What installs a package of the page's (see pages.py): this process has looked for entry points before."""
OF_THE_SHELL = set("|&;<>$`*?[]{}()~!'\"")


def plain(code: str) -> list[list[str]]:
    """Give the words of each line where all of them are `fa-track WORD …` without a meaning to the shell."""
    lines = [line for line in code.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    if not all(line.startswith("fa-track ") and OF_THE_SHELL.isdisjoint(line.partition(" #")[0]) for line in lines):
        return []
    return [shlex.split(line, comments=True) for line in lines]


def command_line(words: list[str]) -> int:
    import mlflow

    from fa_tracking.cli import main

    folder, environment = Path.cwd(), dict(os.environ)
    try:
        main(words, prog_name="fa-track")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        mlflow.set_tracking_uri(None)
        sys.stdout.flush()
    return 0


def run(blocks: list[tuple[str, str]]) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    is_fresh = True
    for number, (kind, code) in enumerate(blocks, start=1):
        print(f"--- block {number}\n{code}---", flush=True)
        is_fresh = is_fresh and INSTALLS not in code
        if kind != "sh":
            exec(compile(code, f"<block {number}>", "exec"), names)
        elif (lines := plain(code)) and is_fresh:
            for words in lines:
                if ended := command_line(words[1:]):
                    sys.exit(f"{shlex.join(words)} ended with {ended}")
        else:
            subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True)


if __name__ == "__main__":  # workers of a study import this file again
    run(json.loads(Path(sys.argv[1]).read_text()))
