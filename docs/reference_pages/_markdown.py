"""Docstrings and signatures as Markdown."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from fa_tracking import markdown

WIDTH = 100
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns):\n((?:(?:    .*)?\n)+)", re.MULTILINE)
ENTRY = re.compile(r"^([*\w., ]+): ")


def prose(text: str) -> str:
    """Plain text with ``code`` in it: what Markdown would take for its own is escaped, indented blocks stay."""
    lines = text.replace("``", "`").splitlines()
    lines = [line.replace("`", "") if line.startswith("    ") else _escaped(line) for line in lines]
    return "\n".join(lines)


def _escaped(line: str) -> str:
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(part if part.startswith("`") else re.sub(r"([*<]|\[(?=\w*\]\())", r"\\\1", part) for part in parts)


def docstring(documented: Any) -> str:
    """The docstring, its sections as lists."""
    text, told = f"{inspect.getdoc(documented) or ''}\n", []
    end = 0
    for section in SECTION.finditer(text):
        told += [prose(text[end : section.start()]), f"**{section[1]}**\n\n{_entries(section[2])}"]
        end = section.end()
    return "\n\n".join(part.strip() for part in [*told, prose(text[end:])] if part.strip())


def _entries(block: str) -> str:
    """``name: text`` as the items of a list; what has no name is a paragraph."""
    found: list[list[str]] = []
    for line in textwrap.dedent(block).strip().splitlines():
        if line.startswith(" ") and found:
            found[-1].append(line.strip())
        else:
            found.append([line])
    if not all(ENTRY.match(entry[0]) for entry in found):
        return prose(textwrap.dedent(block))
    return "\n".join(_item(entry) for entry in found)


def _item(lines: list[str]) -> str:
    name, text = "\n".join(lines).split(": ", 1)
    return f"- `{name}`: " + "\n  ".join(prose(text).splitlines())


def signature(documented: Any, name: str) -> str:
    """How ``documented`` is called, with the annotations as they stand in the source, in a block of code."""
    node = ast.parse(textwrap.dedent(inspect.getsource(documented))).body[0]
    if isinstance(node, ast.ClassDef):
        shown, returned = [*_fields(documented)], ""
    else:
        assert isinstance(node, ast.FunctionDef)
        shown = [*_arguments(node.args)]
        returned = f" -> {_plain(node.returns)}" if node.returns and name != "__init__" else ""
    line = f"{name}({', '.join(shown)}){returned}"
    if len(line) > WIDTH:
        line = f"{name}(\n    " + ",\n    ".join(shown) + f",\n){returned}"
    return f"```python\n{line}\n```"


def _fields(documented: type) -> Iterator[str]:
    """The fields of a class and of those that it is made of, in the order in which they are given."""
    found: dict[str, ast.AnnAssign] = {}
    for part in reversed([c for c in documented.__mro__ if c.__module__.startswith("fa_tracking")]):
        node = ast.parse(textwrap.dedent(inspect.getsource(part))).body[0]
        assert isinstance(node, ast.ClassDef)
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and not ast.unparse(field.annotation).startswith("ClassVar"):
                found[ast.unparse(field.target)] = field
    for name, field in found.items():
        default = f" = {ast.unparse(field.value)}" if field.value and not isinstance(field.value, ast.Call) else ""
        if isinstance(field.value, ast.Attribute) and isinstance(number := getattr(documented, name, None), float):
            default = f" = {number:g}"
        yield f"{name}: {_plain(field.annotation)}{default or ' = …' * bool(field.value)}"


def _arguments(given: ast.arguments) -> Iterator[str]:
    positional = [a for a in (*given.posonlyargs, *given.args) if a.arg not in ("self", "cls")]
    without = len(positional) - len(given.defaults)
    yield from (_argument(a, d) for a, d in zip(positional, [None] * without + given.defaults, strict=True))
    if given.vararg or given.kwonlyargs:
        yield f"*{_argument(given.vararg) if given.vararg else ''}"
    yield from (_argument(a, d) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True))
    if given.kwarg:
        yield f"**{_argument(given.kwarg)}"


def _argument(argument: ast.arg, default: ast.expr | None = None) -> str:
    annotation = f": {_plain(argument.annotation)}" if argument.annotation else ""
    equals = " = " if annotation else "="
    return f"{argument.arg}{annotation}{equals + ast.unparse(default) if default else ''}"


def _plain(annotation: ast.expr) -> str:
    """An annotation without quotes, and without what ``Annotated`` says to a validator."""
    text = annotation.value if isinstance(annotation, ast.Constant) and annotation.value else ast.unparse(annotation)
    return re.sub(r"Annotated\[([^,\[\]]+), [^\[\]]*\]", r"\1", str(text))


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table; a cell is Markdown of one line."""
    cells = [[str(cell).strip() for cell in row] for row in rows]
    return markdown.table([*head], cells, is_markdown=True).rstrip("\n")
