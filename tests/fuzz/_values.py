"""What is fed: values, texts and files as somebody who means harm would make them."""

import json
from typing import Any

from hypothesis import strategies as st

PATHS = ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a/../b", "C:\\x", "file:///etc/passwd", "\\\\host\\share"]
TEXTS = [
    *PATHS,
    "\0",
    "\x1b]0;title\x07\x1b[2J",
    "\u202egnp.exe",
    "<script>alert(1)</script>",
    "=HYPERLINK(1)",
    "{{7*7}}",
    "%2000000000d",
    "$(touch x)",
    "trainers:../x",
    "os:system",
    "nan",
    "Infinity",
    "1e400",
    "9" * 5000,
    "x" * 20_000,
    "é" * 300,
    "[" * 3000,
    "*" * 2000,
    "(" * 500,
]
NUMBERS = [0, -1, 1, 2**31, 2**63, 10**12, -(10**12), 10**40, 10**400, 0.5, -0.0, 1e308, 5e-324]
NOT_FINITE = [float("nan"), float("inf"), float("-inf")]

texts = st.sampled_from(TEXTS) | st.text(max_size=30)
scalars = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(NOT_FINITE) | st.integers() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)


def changed(document: Any, inner: st.SearchStrategy[Any] = values) -> st.SearchStrategy[Any]:
    """The document with a few of its parts replaced or left out."""
    places = list(_places(document))

    def change(picks: list[tuple[int, bool, Any]]) -> Any:
        whole = json.loads(json.dumps(document))
        for which, leaves_out, value in picks:
            at, parent = places[which % len(places)], whole
            try:
                for key in at[:-1]:
                    parent = parent[key]
                if leaves_out:
                    del parent[at[-1]]
                else:
                    parent[at[-1]] = value
            except (KeyError, IndexError, TypeError):
                continue  # an earlier change has taken the place away
        return whole

    return st.lists(st.tuples(st.integers(0, 1000), st.booleans(), inner), max_size=3).map(change)


def _places(value: Any, at: tuple[Any, ...] = ()) -> Any:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*at, key)
        yield from _places(item, (*at, key))


def edited(seed: bytes, words: list[bytes] | None = None) -> st.SearchStrategy[bytes]:
    """The bytes with a few places overwritten, cut out, repeated or filled with ``words``."""
    payload = st.binary(max_size=12) | st.sampled_from(words or [b"\xff" * 8, b"\0" * 64, b"[" * 2000])
    edit = st.tuples(st.integers(0, max(len(seed), 1)), st.sampled_from("oicr"), payload, st.integers(0, 64))

    def apply(edits: list[tuple[int, str, bytes, int]]) -> bytes:
        content = seed
        for at, kind, what, length in edits:
            head, tail = content[:at], content[at:]
            match kind:
                case "o":
                    content = head + what + tail[len(what) :]
                case "i":
                    content = head + what + tail
                case "c":
                    content = head + tail[length:]
                case "r":
                    content = head + tail[:length] * 50 + tail
        return content

    return st.lists(edit, max_size=4).map(apply)


def as_json(value: Any) -> bytes:
    """JSON, surrogates and numbers of 400 digits and all."""
    return json.dumps(value).encode()


def yaml_text(value: Any) -> bytes:
    """JSON is YAML."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n".encode() for i in range(12)
)
"""Nine to the twelfth values."""
