"""Runs the blocks of a page in order: ``python run_page.py BLOCKS.json``, a list of [kind, code].

Those of Python share their names, as in a notebook; those of the shell share the folder.
"""

import json
import subprocess
import sys
from pathlib import Path

names: dict[str, object] = {"__name__": "__main__"}
for number, (kind, code) in enumerate(json.loads(Path(sys.argv[1]).read_text()), start=1):
    print(f"--- block {number}\n{code}---", flush=True)
    if kind == "sh":
        subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True)
    else:
        exec(compile(code, f"<block {number}>", "exec"), names)
