"""Every chart of the catalogue draws what its query answers, all of it and nothing else, in the size of a paper."""

import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import empty_database
from test_queries import INF, NAN, REFERENCE, Run, write

from fa_tracking import catalogue
from fa_tracking.dashboards import charts, draw, theme

METHODS = {"bp": (0.6, 1.5, 1e-3), "dfa": (0.3, 400.0, 1e-8), "fa": (0.5, 3.0, 1e-4)}

SERIES = {"diagnostics/max_block_growth": [1.0, 60.0, 80.0], "accuracy/test": [0.1, 0.3, 0.35]}


def of(method: str, seed: int, **changes: Any) -> Run:
    """A run of a small study, with Γ at three layers and a few epochs."""
    accuracy, growth, grad = METHODS[method]
    usual: dict[str, Any] = {"accuracy": accuracy + seed / 100, "growth": growth * seed, "grad": grad / seed}
    gamma = [] if method == "bp" else [0.2, 0.3, None if method == "dfa" else -0.1]
    usual |= {"gamma": gamma, "series": SERIES, "margin": 100 * (accuracy - 0.32), "experiment": "study"}
    return Run(method, seed, **{**usual, **changes})


STUDY = [
    *(of(method, seed, width=width) for width in (64, 256) for method in METHODS for seed in (1, 2, 3)),
    *(of("dfa", seed, penalty=penalty) for penalty in (1e-3, 1e-2) for seed in (1, 2)),
    of("bp", 1, penalty=1e-2),
    *(of("dfa", seed, frozen=True, margin=None) for seed in (1, 2)),
]
DIVERGED = [
    of("dfa", 7, accuracy=NAN, growth=INF, grad=NAN, gamma=[NAN, NAN, NAN]),
    of("dfa", 8, accuracy=0.1, growth=NAN, grad=0.0, width=64),
    of("dfa", 9, accuracy=NAN, growth=INF, grad=-INF, penalty=1e-2),
    of("fa", 9, accuracy=0.2, aborted_at=1),
    of("bp", 9, accuracy=None, audited=False),
]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Path]]:
    """Experiment and database of each store: several cells, the same with diverged runs, one run, the reference's."""
    folder = tmp_path_factory.mktemp("charts")
    known = {"reference": ("~reproduction*", REFERENCE)}
    for name, runs in {"study": STUDY, "diverged": [*STUDY, *DIVERGED], "one run": [of("dfa", 1)]}.items():
        path = folder / f"{name}.duckdb"
        with empty_database(path) as connection:
            for number, run in enumerate(runs):
                run.run_id = f"{number:032x}"
                write(connection, run)
        known[name] = ("study", path)
    return known


@pytest.fixture(scope="module")
def drawn(stores: dict[str, tuple[str, Path]]) -> Iterator[Any]:
    """drawn(chart, store): each is drawn once."""
    found: dict[tuple[str, str], draw.Drawn] = {}

    def one(chart: str, store: str) -> draw.Drawn:
        if (chart, store) not in found:
            with draw.answers(*stores[store]) as answer:
                found[chart, store] = draw.draw(chart, stores[store][0], answer)
        return found[chart, store]

    yield one


def size(svg: str) -> tuple[float, float]:
    found = re.search(r'<svg [^>]*width="([\d.]+)" height="([\d.]+)"', svg)
    assert found
    return float(found[1]), float(found[2])


def is_same(shown: Any, value: Any) -> bool:
    """What an axis cannot hold is spelled, or a gap beside a row that spells it."""
    if isinstance(value, float) and (shown is None or not math.isfinite(value)):
        return shown in (theme.spelled(value), None) and theme.spelled(value, log=True) != ""
    if isinstance(value, float | int) and isinstance(shown, float | int):
        return math.isclose(shown, value, rel_tol=1e-12)
    return shown == value or (value is not None and str(shown) == str(value))


CHARTS = catalogue.names(charts)


@pytest.mark.sample(4)
@pytest.mark.parametrize("store", ["study", "diverged", "one run", "reference"])
@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_drawn_on_every_store_within_the_width_of_a_page(name: str, store: str, drawn: Any) -> None:
    chart = drawn(name, store)
    if chart.specification is None:
        assert chart.rows.empty and store in ("one run", "reference")
        return
    width, _ = size(draw.render(chart, "svg").decode())
    assert 150 < width <= theme.FULL_WIDTH + 5
    assert "description" in chart.specification


@pytest.mark.parametrize("store", ["study", "diverged"])
@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_shows_the_rows_of_its_query_and_no_others(name: str, store: str, drawn: Any) -> None:
    chart = drawn(name, store)
    rows, columns = chart.rows.to_dict("records"), {*chart.rows.columns}
    shown = [row for data in chart.specification["datasets"].values() for row in data if columns & row.keys()]
    assert shown
    for row in shown:
        about = (columns & row.keys()) - {"cell"}  # there it is the cell's name on an axis
        assert any(all(is_same(row[c], known[c]) for c in about) for known in rows), row
    if "run_id" in columns:
        numbers = {key for row in shown for key in row if key in columns} - {"penalty", "lr"}
        measured = {row["run_id"] for row in rows if any(isinstance(row[c], float) for c in numbers)}
        told = {row["run_id"] for row in shown if "run_id" in row}
        assert measured <= told <= {row["run_id"] for row in rows}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_told_in_words_with_its_numbers(name: str, drawn: Any) -> None:
    before, after = drawn(name, "study").description, drawn(name, "diverged").description
    for description in (before, after):
        assert description.endswith(".") and re.search(r"\d", description)
    is_told = before != after  # the diverged runs are told of, or change a number
    assert is_told or drawn(name, "study").rows.equals(drawn(name, "diverged").rows)


@pytest.mark.parametrize("name", ["seeds", "width_scaling", "penalty_rescue"])
def test_what_diverged_is_spelled_and_in_no_mean(name: str, drawn: Any) -> None:
    svg = draw.render(drawn(name, "diverged"), "svg").decode()
    assert ">NaN</text>" in svg and ">NaN</text>" not in draw.render(drawn(name, "study"), "svg").decode()
    assert "diverged" in drawn(name, "diverged").description
    column = "mean" if name == "seeds" else "accuracy_mean"
    means = []
    for store in ("study", "diverged"):
        data = drawn(name, store).specification["datasets"].values()
        means.append({(r["label"], r["width"], r[column]) for rows in data for r in rows if column in r})
    assert means[0] == means[1] and len(means[0]) > 3


def test_a_layer_without_a_measurement_is_a_cross_and_no_value(drawn: Any) -> None:
    chart = drawn("alignment_by_layer", "study")
    data = [row for rows in chart.specification["datasets"].values() for row in rows]
    without = {(r["method"], r["width"], r["layer"]) for r in data if "n_missing" in r}
    assert {(method, layer) for method, _, layer in without} == {("dfa", 2)}
    assert all(r["mean"] is not None for r in data if "mean" in r)
    svg = draw.render(chart, "svg").decode()
    assert svg.count(">×</text>") == (chart.rows["n"] == 0).sum() > 0


def test_one_seed_has_a_point_and_no_interval_and_the_chart_says_so(drawn: Any) -> None:
    chart = drawn("seeds", "one run")
    assert "n = 1, no interval" in chart.description
    assert ">n=1</text>" in draw.render(chart, "svg").decode()
    means = [r for rows in chart.specification["datasets"].values() for r in rows if "low" in r]
    assert {(r["n"], r["low"], r["high"]) for r in means} == {(1, None, None)}


def test_a_pdf_and_a_png_are_as_wide_as_a_page_of_two_columns(drawn: Any) -> None:
    chart = drawn("seeds", "study")
    width, height = size(draw.render(chart, "svg").decode())
    inches = width * 7 / theme.FULL_WIDTH
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", draw.render(chart, "pdf"))
    assert box and float(box[1]) == pytest.approx(72 * inches, abs=1)
    assert float(box[2]) == pytest.approx(float(box[1]) * height / width, abs=1)
    png = draw.render(chart, "png")
    pixels, dots = struct.unpack(">I", png[16:20])[0], png.index(b"pHYs") + 4
    assert pixels == pytest.approx(300 * inches, abs=2)
    assert struct.unpack(">I", png[dots : dots + 4])[0] == round(300 / 0.0254)  # to the metre
