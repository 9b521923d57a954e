"""Files and texts that others wrote: read within stated bounds, shown as one line that does nothing.

What is read here raises ValueError or OSError and nothing else, whatever the file holds.
"""

import json
from pathlib import Path
from typing import Any

LARGEST_TEXT = 2**20
"""Bytes of a JSON or YAML file: the configuration of a model or a study has thousands."""
MOST_NODES = 100_000
"""Values of a YAML file once its aliases are written out: a few bytes of them can stand for 10^12."""
LONGEST_INTEGER = 30
"""Characters of an integer in YAML: of the form 1:1:1… one takes the square of its length to read."""


def read_bytes(path: Path, largest: int = LARGEST_TEXT) -> bytes:
    """The content of a regular file: not of a pipe, which may never end, nor of one larger than ``largest``.

    Raises:
        ValueError: it is none, or is larger.
        OSError: it cannot be read.
    """
    refuse_large(path, largest)
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it has more than {largest} bytes")
    return content


def refuse_large(path: Path, largest: int) -> None:
    """Refuse a path that is no regular file, or one of more than ``largest`` bytes.

    Raises:
        ValueError: it is so.
        OSError: it is missing.
    """
    size = path.stat().st_size
    if not path.is_file():
        raise ValueError("it is no regular file")
    if size > largest:
        raise ValueError(f"it has {size} bytes, and {largest} are the most")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it is no JSON, or nested too deeply; or as ``read_bytes``.
    """
    return parse_json(read_bytes(path).decode())


def parse_json(text: str) -> Any:
    """What JSON says.

    Raises:
        ValueError: it is none, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_yaml(path: Path) -> Any:
    """What a YAML file holds: plain values alone.

    Raises:
        ValueError: it is no YAML, is nested too deeply, or stands for more than ``MOST_NODES`` values; or as
            ``read_bytes``.
    """
    import yaml

    try:
        return _parse_yaml(read_bytes(path).decode())
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _parse_yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
        if len(node.value) > LONGEST_INTEGER:
            raise ValueError(f"an integer of {len(node.value)} characters")
        return int(loader.construct_yaml_int(node))

    Loader.add_constructor("tag:yaml.org,2002:int", integer)
    loader = Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _refuse_many(root)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _refuse_many(root: Any) -> None:
    waiting, seen = [root], 0
    while waiting:
        node = waiting.pop()
        seen += 1
        if not isinstance(node.value, str):  # a list, or a mapping's pairs
            waiting += [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        if seen + len(waiting) > MOST_NODES:
            raise ValueError(f"with its aliases written out it holds more than {MOST_NODES} values")


def is_inside(name: str) -> bool:
    """Whether a relative path stays in the folder that it is taken in, as text alone tells."""
    parts = name.split("/")
    return "\0" not in name and "\\" not in name and "" not in parts and ".." not in parts


def one_line(text: str) -> str:
    """A text as one line that does nothing to a terminal or a page's direction."""
    return printable(" ".join(text.split()))


def printable(line: str) -> str:
    """A line in which what cannot be printed is replaced: escape sequences, marks that turn it from right to left."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def printable_lines(text: str) -> str:
    """The same of a text of several lines, which stay apart."""
    return "\n".join(map(printable, text.split("\n")))
