"""Looks for the pitfalls in files of Python code and in notebooks; nothing of them is imported or run."""

import ast
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fa_tracking.errors import FATrackError
from fa_tracking.pitfalls import catalogue
from fa_tracking.pitfalls._source import Source

SUFFIXES = (".py", ".ipynb")
SKIPPED = {"__pycache__", "node_modules", "site-packages"}
_VERSION = ".".join(map(str, sys.version_info[:2]))
IGNORE = re.compile(r"#\s*fa-track:\s*ignore\b")


@dataclass(frozen=True)
class Finding:
    """A line that holds a pitfall; line and column count from 1, in a notebook within the cell."""

    path: str
    cell: int | None
    line: int
    column: int
    pitfall: str
    code: str
    reason: str
    fix: str

    @property
    def where(self) -> str:
        cell = "" if self.cell is None else f"cell {self.cell}:"
        return f"{self.path}:{cell}{self.line}:{self.column}"


def files(path: Path) -> Iterator[Path]:
    """The file itself, or all Python files and notebooks in a folder.

    Hidden folders are left out, and so are installed packages and virtual environments inside it.
    """
    if not path.is_dir():
        yield path
        return
    for folder, inside, names in os.walk(path):
        inside[:] = sorted(d for d in inside if not _is_skipped(Path(folder, d)))
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(SUFFIXES))


def _is_skipped(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name in SKIPPED or (folder / "pyvenv.cfg").is_file()


@dataclass(frozen=True)
class Piece:
    """A file's code, or that of a notebook's cell; ``first`` counts the lines of the cells before it."""

    cell: int | None
    tree: ast.Module
    lines: list[bytes]
    first: int


def check(path: Path) -> tuple[list[Finding], list[str]]:
    """The findings of one file in the order of its lines, and what of it could not be read, a line each."""
    pieces: list[Piece] = []
    problems = []
    try:
        for cell, code in _pieces(path):
            try:
                pieces.append(_parsed(str(path), cell, code, sum(len(piece.lines) for piece in pieces)))
            except FATrackError as error:
                problems.append(str(error))
    except FATrackError as error:
        problems.append(str(error))
    return _findings(str(path), pieces), problems


def _pieces(path: Path) -> Iterator[tuple[int | None, bytes]]:
    """The code of a file with the number of its cell in a notebook."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FATrackError(f"{path}: {error.strerror}") from None
    if path.suffix == ".ipynb":
        yield from ((number, cell.encode()) for number, cell in _cells(path, content))
    else:
        yield None, content


def _cells(path: Path, content: bytes) -> Iterator[tuple[int, str]]:
    """The code cells, counted from 1 among all cells; lines for the shell and for IPython are left empty."""
    try:
        cells = json.loads(content)["cells"]
        sources = [("".join(c["source"]) if c["cell_type"] == "code" else "") for c in cells]
    except (ValueError, KeyError, TypeError):
        raise FATrackError(f"{path}: no notebook of version 4") from None
    for number, source in enumerate(sources, 1):
        if not source.startswith("%%"):
            yield number, re.sub(r"^\s*[%!?].*$", _nothing, source, flags=re.M)


def _nothing(line: re.Match[str]) -> str:
    """A statement that does nothing, indented as the line was, so that a block is not left empty."""
    return re.sub(r"[%!?].*", "pass", line[0])


def _parsed(path: str, cell: int | None, content: bytes, first: int) -> Piece:
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f"{path}:cell {cell}" if cell else path
        line = getattr(error, "lineno", None)
        raise FATrackError(f"{where}{f':{line}' if line else ''}: no Python {_VERSION}: {_message(error)}") from None
    return Piece(cell, tree, content.splitlines(), first)


def _findings(path: str, pieces: list[Piece]) -> list[Finding]:
    """The cells of a notebook share their names, so they are read as one module."""
    for piece in pieces:
        if piece.first:
            ast.increment_lineno(piece.tree, piece.first)
    source = Source(ast.Module([statement for piece in pieces for statement in piece.tree.body], []))
    lines = [line for piece in pieces for line in piece.lines]
    found: dict[tuple[int, int, str], Finding] = {}
    for name, pitfall in catalogue().items():
        for node, reason in pitfall.find(source) if hasattr(pitfall, "find") else ():
            if not any(IGNORE.search(_text(line)) for line in lines[node.lineno - 1 : node.end_lineno]):
                piece = next(piece for piece in reversed(pieces) if piece.first < node.lineno)
                line = lines[node.lineno - 1]
                column, number = len(_text(line[: node.col_offset])) + 1, node.lineno - piece.first
                finding = Finding(path, piece.cell, number, column, name, _text(line).strip(), reason, pitfall.FIX)
                found.setdefault((node.lineno, column, name), finding)
    return [found[where] for where in sorted(found)]


def _text(line: bytes) -> str:
    return line.decode(errors="replace")


def _message(error: Exception) -> str:
    return (error.msg if isinstance(error, SyntaxError) else str(error)) or type(error).__name__
