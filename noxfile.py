"""What is checked, as sessions in the active environment; plain nox runs lint, types and fast."""

import os
import sys
import tempfile
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "fast"]
ROOT = Path(__file__).parent
PYTHON = sys.executable
USERS_OWN = """
import fa_tracking
import fa_tracking.dashboards.charts
import fa_tracking.trainers.methods.dfa
import trainers

assert trainers.MINE, "the user's own folder is found"
print("imported", fa_tracking.__file__)
"""


def _python(session: nox.Session, *words: str) -> None:
    session.run(PYTHON, "-m", *words, external=True)


@nox.session
def fast(session: nox.Session) -> None:
    """Run the fast tests."""
    _python(session, "pytest", *session.posargs)


@nox.session
def rest(session: nox.Session) -> None:
    """Run the tests that the fast run leaves out: servers, browsers, a cluster, pages, killed processes."""
    _python(session, "pytest", "-m", "not fast", *session.posargs)


@nox.session
def full(session: nox.Session) -> None:
    """Run every test: the fast ones, then the rest."""
    session.notify("fast")
    session.notify("rest")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, files and, where contracts are configured, who imports whom."""
    _python(session, "ruff", "check", ".")
    _python(session, "ruff", "format", "--check", ".")
    files = session.run("git", "ls-files", external=True, silent=True)
    session.run(PYTHON, ".ci/check_files.py", *str(files).splitlines(), external=True)
    if "[tool.importlinter]" in (ROOT / "pyproject.toml").read_text():
        session.run("lint-imports", external=True)


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    _python(session, "mypy", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Write the reference's tables, and build the site; nothing is fetched."""
    session.run(PYTHON, "docs/reference.py", external=True)
    session.run("git", "diff", "--exit-code", "docs/reference", external=True)
    with tempfile.TemporaryDirectory() as folder:
        session.env["NO_MKDOCS_2_WARNING"] = "1"
        _python(session, "mkdocs", "build", "--strict", "--site-dir", folder)


@nox.session
def bench(session: nox.Session) -> None:
    """Run a benchmark: nox -s bench -- NAME [OPTION…], without a name that of start-up."""
    name, *options = session.posargs or ["start_up"]
    session.run(PYTHON, f"benchmarks/{name}.py", *options, external=True)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it into a clean environment, and import it beside a user's own trainers/."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _python(session, "build", "--wheel", "--no-isolation", "--outdir", name, str(ROOT))
        session.run(PYTHON, "-m", "venv", str(folder / "venv"), external=True)
        python = folder / "venv/bin/python"
        (built,) = folder.glob("*.whl")
        pins = ["-c", str(ROOT / "constraints.txt")]
        session.run("uv", "pip", "install", "-q", "--python", str(python), *pins, str(built), external=True)
        (folder / "mine/trainers").mkdir(parents=True)
        (folder / "mine/trainers/__init__.py").write_text("MINE = True\n")
        (folder / "mine/script.py").write_text(USERS_OWN)
        with session.chdir(folder / "mine"):
            clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
            session.run(str(python), "script.py", external=True, env=clean, include_outer_env=False)
            for words in (["--version"], ["query"], ["chart"]):
                command = [str(python), "-m", "fa_tracking", *words]
                session.run(*command, external=True, env=clean, include_outer_env=False)
