"""What the README, the tutorial and the how-to pages tell a user to type, typed: block by block, as a user would.

A page is done in a fresh copy of this repository, as by someone who has cloned and installed it. Its sh blocks are run
by bash, which stops at the first command that fails (but see run_page.py); its python blocks share their names, as in
a notebook. `mlflow ui` and `mlflow server` run until the page ends, and a package that the page writes is installed
into the page's folder.

``WITH_DEMO`` and ``NOT_TYPED`` hold what the tests know of a page and its readers need not.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from servers import free_port
from stores import new_store

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "docs/tutorial.md"
PAGES = [ROOT / "README.md", TUTORIAL, *sorted((ROOT / "docs/how-to").glob("*.md"))]
WITH_DEMO = ("README", "add-a-chart", "add-a-query", "figure-for-a-paper", "gate-and-report", "traceable-numbers")
"""The pages that begin where the tutorial ends: `fa-track demo` has been run in their folder."""
NOT_TYPED = {
    "README": {
        "&& fa-track demo": "the tests have their environment, and the demo is the tutorial's",
        "&& python -m pytest": "it is this",
    },
    "tutorial": {"python -m venv": "the tests have their environment"},
    "killed-runs": {"fa-track resume RUN_ID": "it needs a killed training: tests/test_resume.py kills some"},
    "remote-server": {"postgresql://": "tests/faults/server.py starts all three and does the path on them"},
    "scale-out": {
        "MLFLOW_TRACKING_URI=https:": "it needs a server that other machines reach",
        "ray start": "it needs Ray: tests/test_executors.py starts it",
        "--executor slurm": "it needs Slurm",
    },
}
"""By page, the blocks that are not run: a piece of the block's code, and the reason."""
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALLED = re.compile(r"^python -m pip install \./(\w+)$", re.MULTILINE)
SERVER = re.compile(r"^(mlflow (?:ui|server)\b[^\n#]*)[^\n]*", re.MULTILINE)
USUAL_PORT = 5000
LONGEST = 900


def needs_demo(page: Path) -> bool:
    return page.stem in WITH_DEMO


def typed_blocks(page: Path) -> list[tuple[str, str]]:
    """Each block's language and code, without the blocks that ``NOT_TYPED`` names."""
    text = page.read_text()
    found = BLOCK.findall(text)
    assert len(found) == len(re.findall(r"^\s*```(?:sh|python)$", text, re.MULTILINE))
    for piece in NOT_TYPED.get(page.stem, ()):
        kept = [block for block in found if piece not in block[1]]
        assert len(kept) == len(found) - 1, f"{page}: {piece!r} names {len(found) - len(kept)} blocks, not one"
        found = kept
    return found


def type_page(page: Path, folder: Path, begun: Path | None = None) -> None:
    """Run the blocks of a page in ``folder``: a copy of ``begun``, where another page has been typed, else of the
    repository, with a demo that is shortened."""
    blocks = typed_blocks(page)
    if begun:
        shutil.copytree(begun, folder, symlinks=True)
    else:
        copy_of_the_repository(folder)
        shorten_the_demo(folder)
        new_store(folder)
    ports: dict[str, int] = {}
    typed = [(kind, on_free_ports(code, ports)) for kind, code in blocks]
    run([(kind, SERVER.sub(awaited, INSTALLED.sub(beside, code))) for kind, code in typed], folder)


def copy_of_the_repository(folder: Path) -> None:
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name, follow_symlinks=False)


def shorten_the_demo(code: Path) -> None:
    """Of a copy of this repository: what its commands do with the demo's runs is the same after fewer epochs."""
    study = code / "trainers/studies/demo.yaml"
    whole = study.read_text()
    assert "epochs: 24," in whole
    study.write_text(whole.replace("epochs: 24,", "epochs: 3,"))


def beside(install: re.Match[str]) -> str:
    """The package in the page's folder, which its programs find, and not in the environment of the tests."""
    name = install[1]
    return f"python -m build --wheel --no-isolation -o wheels {name} && python -m zipfile -e wheels/{name}-*.whl ."


def on_free_ports(code: str, ports: dict[str, int]) -> str:
    """The code, with a free port for each that its servers listen on: other pages are typed at the same time."""
    code = SERVER.sub(lambda server: server[0] if "--port" in server[1] else f"{server[1]} --port {USUAL_PORT}", code)
    for server in SERVER.finditer(code):
        if port := re.search(r"--port[ =](\d+)", server[1]):
            ports.setdefault(port[1], free_port())
    for port, free in ports.items():
        code = re.sub(rf"\b{port}\b", str(free), code)
    return code


def awaited(server: re.Match[str]) -> str:
    """The command in the background, and a loop that waits until it answers."""
    port = re.search(r"--port[ =](\d+)", server[1])
    assert port
    answers = f"(: < /dev/tcp/127.0.0.1/{port[1]}) 2> /dev/null"
    return f"{server[1]} > server.log 2>&1 &\nuntil {answers}; do kill -0 $! || exit 1; sleep 0.1; done"


def run(blocks: list[tuple[str, str]], folder: Path) -> None:
    """Run blocks in ``folder``, by the copy of this repository that it is."""
    paths = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(folder),  # what an editable installation of this copy does
    }
    clean = {k: v for k, v in os.environ.items() if k not in ("FA_TRACK_DATA", "FA_TRACK_DB", "MLFLOW_TRACKING_URI")}
    (folder / "blocks.json").write_text(json.dumps(blocks))
    log = folder / "output.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "run_page.py"), "blocks.json"],
            cwd=folder,
            env={**clean, **paths},
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=LONGEST)
        finally:
            with suppress(ProcessLookupError):  # where the page has started no server, all are gone
                os.killpg(process.pid, signal.SIGKILL)
    assert code == 0, log.read_text()[-6000:]
