"""Names of cells, networks and methods as a chart can show them: in the room and in the fonts that there are.

Two that differ never look the same: what is cut is cut in the middle, and numbered where that leaves them alike.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any
from xml.sax.saxutils import escape

from fa_tracking.dashboards import theme

ROOM = 16.0
"""Times the size of its letters that a name may be wide: 160 units of text of 10."""
FIELDS = ("cell", "label", "line", "network", "variant", "method", "architecture")
"""What holds such names in the rows that a chart draws."""
CUT = "…"
NARROW, WIDE = set("fijlrtI.,:;'|!()[]/\\-` "), set("mwMW@%")
NO_GLYPH = "\U0010fffd"
"""A character that no font has: how it is drawn is how what a font lacks is drawn."""


def width(text: str) -> float:
    """How wide a text is, in sizes of its letters: a little more than Helvetica and Arial make it."""
    return sum(map(_advance, text))


def _advance(character: str) -> float:
    if character in NARROW:
        return 0.34
    if character in WIDE:
        return 0.95
    if character.isascii():
        return 0.72 if character.isupper() else 0.58
    return 1.0 if unicodedata.east_asian_width(character) in "WF" else 0.75


def fitted(texts: Iterable[str], room: float = ROOM) -> dict[str, str]:
    """What to show of each of ``texts``: itself, or less of it; of two that differ never the same.

    Args:
        room: as ``width`` counts it; a number behind what is cut counts too.
    """
    whole = dict.fromkeys(texts)
    shown = {text: _cut(text, room) for text in whole}
    for same in [name for name, n in Counter(shown.values()).items() if n > 1]:
        taken, number = {*shown.values()}, 0
        for text in [text for text in whole if shown[text] == same and text != same]:
            while shown[text] in taken:
                number += 1
                mark = f" #{number}"
                shown[text] = _cut(text, room - width(mark)) + mark
            taken.add(shown[text])
    return shown


def _cut(text: str, room: float) -> str:
    """The text, or its beginning and its end, as much of both as there is room for; a letter of each in any case."""
    if width(text) <= room:
        return text
    head, tail = 1, 1
    while width(text[: head + 1] + CUT + text[-tail:]) <= room:
        head += 1
        if width(text[:head] + CUT + text[-tail - 1 :]) <= room:
            tail += 1
    return text[:head] + CUT + text[-tail:]


def with_fitted(specification: dict[str, Any]) -> dict[str, Any]:
    """A chart whose names fit, in its rows and wherever else it has them: in the order of an axis, as a title."""
    rows = [row for data in specification["datasets"].values() for row in data]
    found = (row.get(field) for row in rows for field in FIELDS)
    shorter = {text: cut for text, cut in fitted(t for t in found if isinstance(t, str)).items() if cut != text}
    exchanged: dict[str, Any] = _exchanged(specification, shorter) if shorter else specification
    return exchanged


def _exchanged(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _exchanged(held, names) for key, held in value.items()}
    if isinstance(value, list):
        return [_exchanged(held, names) for held in value]
    return names.get(value, value) if isinstance(value, str) else value


class Glyphs:
    """What the fonts of a picture lack, which is replaced by its number: ``<U+53CD>``.

    Attributes:
        lacking: the characters that have been replaced, in the order in which they came.
    """

    def __init__(self) -> None:
        self.lacking: dict[str, None] = {}
        self._known: dict[str, bool] = {}

    def replace(self, text: str) -> str:
        """The text with a stand-in for each character that would be drawn as an empty box."""
        if text.isascii():
            return text
        missing = {c for c in dict.fromkeys(text) if not self._is_there(c)}
        self.lacking |= dict.fromkeys(c for c in text if c in missing)
        return "".join(stand_in(c) if c in missing else c for c in text)

    def _is_there(self, character: str) -> bool:
        if character not in self._known:
            self._known[character] = character.isascii() or _picture(character) != _picture(NO_GLYPH)
        return self._known[character]


def stand_in(character: str) -> str:
    """What stands in the place of a character without a glyph."""
    return f"<U+{ord(character):04X}>"


def said(lacking: Collection[str]) -> str:
    """What a person is told of characters that were replaced."""
    return f"no font of this machine has {' '.join(lacking)}: shown as {', '.join(map(stand_in, lacking))}"


def _picture(text: str) -> bytes:
    """How the fonts of a chart draw a text."""
    import vl_convert

    family = escape(re.sub('"', "'", theme.FONT))
    drawn = f'<text x="5" y="30" font-size="20" font-family="{family}">{escape(text)}</text>'
    return vl_convert.svg_to_png(f'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40">{drawn}</svg>')
