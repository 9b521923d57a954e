"""Names in charts: two that differ never look the same, and what no font can draw is replaced and told."""

from itertools import product
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from conftest import empty_database
from test_charts import CHARTS, of
from test_queries import write

from fa_tracking.dashboards import draw, names

LONG = "meta-llama-style/feedback-alignment-with-very-long-descriptive-run-name-and-hyperparameters-lr0.001-wd0.01-"
ALIKE = [f"{LONG}{middle}-{LONG}" for middle in "ABC"]
RARE = [
    chr(code) for start in (0x13000, 0x12000, 0x1F9E0, 0x16800, 0x4E00, 0x1B000) for code in range(start, start + 9)
]
"""Hieroglyphs, cuneiform, emoji, Bamum, Chinese and kana: few machines have fonts for all of them."""
UNKNOWN = "".join([c for c in RARE if names.Glyphs().replace(c) != c][:2])


@pytest.mark.parametrize("room", [1.0, 4.0, 10.0, names.ROOM])
@pytest.mark.parametrize(
    "texts",
    [
        [LONG + "A", LONG + "B"],
        ["A" + LONG, "B" + LONG],
        ALIKE,
        [*ALIKE, f"{ALIKE[0][:3]}…{ALIKE[0][-3:]}"],
        [
            "bp",
            "dfa λ=0.01",
            *("反馈对齐" * n for n in (9, 10)),
            "DFA 🧠" * 12,
            *("обратная_связь" * n for n in (4, 5)),
        ],
        ["x" * n for n in range(1, 60)],
    ],
    ids=["last letter", "first letter", "in the middle", "like a cut one", "scripts", "lengths"],
)
def test_names_that_differ_are_never_shown_alike(texts: list[str], room: float) -> None:
    shown = names.fitted(texts, room)
    assert len({*shown.values()}) == len({*texts}) == len(shown)
    for text, said in shown.items():
        assert said == text or names.width(text) > room or said.partition(" #")[2]
        assert said[0] == text[0]


@pytest.mark.parametrize("text", [LONG, "反馈对齐" * 20, "W" * 50, "i" * 99])
def test_a_name_that_is_cut_fills_its_room_and_keeps_both_its_ends(text: str) -> None:
    said = names.fitted([text])[text]
    head, _, tail = said.partition(names.CUT)
    assert text.startswith(head) and text.endswith(tail) and abs(len(head) - len(tail)) <= 1
    assert names.ROOM - 2 < names.width(said) <= names.ROOM


def test_a_name_with_room_stays_as_it_is() -> None:
    texts = ["bp", "dfa λ=0.01 frozen", ""]
    assert names.fitted(texts) == {text: text for text in texts}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of methods with long names, and one that no font can draw."""
    path = tmp_path_factory.mktemp("names") / "odd.duckdb"
    told: dict[str, Any] = {"accuracy": 0.5, "growth": 2.0, "grad": 1e-3, "gamma": [0.1, 0.2, 0.3], "margin": 5.0}
    with empty_database(path) as connection:
        for number, (method, seed) in enumerate(product([LONG + "A", LONG + "B", f"x{UNKNOWN}"], (1, 2))):
            run = of("fa", seed, **told)
            run.method, run.run_id = method, f"{number:032x}"
            write(connection, run)
    return path


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_shows_long_names_apart_and_within_the_page(name: str, odd: Path) -> None:
    with draw.answers("study", odd) as answer:
        chart = draw.draw(name, "study", answer)
    if chart.specification is None:
        return
    rows = [row for data in chart.specification["datasets"].values() for row in data]
    for field in names.FIELDS:
        shown = {row[field] for row in rows if field in row}
        assert all(names.width(text) <= names.ROOM for text in shown if isinstance(text, str))
    methods = {row["method"] for row in rows if "method" in row}
    assert not methods or len(methods) == 3


@pytest.mark.skipif(not UNKNOWN, reason="the fonts of this machine have every script that was tried")
def test_what_no_font_can_draw_is_replaced_in_pictures_alone_and_told_once(odd: Path) -> None:
    glyphs = names.Glyphs()
    svg = {}
    for where, replacing in (("still", glyphs), ("page", None)):
        with draw.answers("study", odd, replacing) as answer:
            svg[where] = draw.render(draw.draw("seeds", "study", answer), "svg").decode()
    stands_in = "".join(map(names.stand_in, UNKNOWN))
    assert f">x{escape(stands_in)}<" in svg["still"] and f">x{UNKNOWN}<" in svg["page"]
    assert [*glyphs.lacking] == [*UNKNOWN]
    said = names.said(glyphs.lacking)
    assert all(names.stand_in(c) in said for c in UNKNOWN) and "\n" not in said


def test_what_the_fonts_of_a_picture_have_is_left_alone() -> None:
    glyphs = names.Glyphs()
    assert glyphs.replace("dfa λ=0.01 → é об ±") == "dfa λ=0.01 → é об ±" and not glyphs.lacking
