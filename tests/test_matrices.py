"""The queries behind the charts of runs, cells and strategies, and what these charts draw of edge cases."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import empty_database
from test_queries import (
    ACCURACY,
    CEILING,
    FLOOR,
    GRAD,
    GROWTH,
    INF,
    MARGIN,
    MEASURES,
    NAN,
    RATIO,
    STABILITY,
    Run,
    close,
    firsts,
    insert,
    is_degenerate,
    write,
)

from fa_tracking.dashboards import draw, theme
from fa_tracking.dashboards.charts.cross_architecture import MOST

EXPLODED: dict[str, Any] = {"growth": 400.0, "grad": 1e-8}
DFA = [0.1, 0.2, 0.3, 0.3, 0.3]

RUNS = [
    Run("bp", 1, 0.60, margin=20, series={ACCURACY: [0.1, 0.5, 0.6, 0.6, 0.6], GROWTH: [1, 1, 1, 1, 1]}),
    Run("bp", 2, 0.64, margin=22, series={ACCURACY: [0.1, 0.4, 0.5, 0.6, 0.64]}, stability=0.4),
    Run("dfa", 1, 0.30, margin=-1, **EXPLODED, series={ACCURACY: DFA, GROWTH: [1, 9, 60, 60, 60]}, gamma=[0.4, -0.9]),
    Run("dfa", 1, 0.36, margin=3, growth=30, grad=2e-7, series={ACCURACY: DFA, STABILITY: [0.1, 0.5, 0.5, 0.5, 0.5]}),
    Run("dfa", 2, 0.10, margin=NAN, growth=NAN, grad=NAN, series={ACCURACY: DFA, GRAD: [1e-3, 1e-8, NAN, NAN, NAN]}),
    Run("dfa", 3, 0.10, margin=-9, growth=INF, grad=0.0, series={ACCURACY: DFA, GROWTH: [1, 2, 3, INF, INF]}),
    Run("fa", 1, 0.40, aborted_at=2, growth=90, series={ACCURACY: [0.1, 0.2, 0.3], GROWTH: [1, 30, 90]}),
    Run("fa", 2, 0.41, frozen=True),
    Run("sb", None, 0.45, architecture="</script>", width=64),
    Run("sb", None, 0.44, architecture="</script>", width=64, growth=77),
    Run("cb", 1, None, audited=False, architecture="vit_mini"),
    Run("alone", 1, 0.4, experiment="one", series={ACCURACY: [0.4]}),
    Run("dfa", 1, None, audited=False, experiment="unaudited"),
]
MAIN = [run for run in RUNS if run.experiment == "main"]
JUDGED = [run for run in MAIN if run.audited and run.aborted_at is None and not run.frozen]


def norms(run: Run) -> list[float]:
    """‖h_L‖ by epoch, told from the run's number: infinite from epoch 3 where the run's growth is."""
    number = int(run.run_id, 16)
    lasts = len(run.series.get(ACCURACY, []))
    return [INF if math.isinf(run.growth) and epoch > 2 else 10.0 + number * epoch for epoch in range(lasts)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("matrices") / "r.duckdb"
    with empty_database(path) as connection:
        for number, run in enumerate(RUNS):
            run.run_id, gamma, run.gamma = f"{number:032x}", run.gamma, []
            write(connection, run)
            for step, norm in enumerate(norms(run)):
                row = {"residual_norm": norm, "grad_norm": 1e-3, "alignment": gamma[1] if gamma else None}
                insert(connection, "layers", run_id=run.run_id, step=step, layer=4, **row)
    return path


@pytest.fixture
def answer(file: Path) -> Iterator[Callable[..., pd.DataFrame]]:
    with draw.answers("main", file) as main:
        yield main


def test_every_strategy_says_of_every_cell_what_its_runs_say(answer: Any) -> None:
    rows = answer("decision_matrix")
    told = {(r.method, r.strategy): (r.decision, r.n_walked_back, r.n_measured, r.n) for r in rows.itertuples()}
    cells = {run.method for run in JUDGED}
    assert len(told) == len(rows) == 7 * len(cells)
    for method in cells:
        runs = [run for run in JUDGED if run.method == method]
        for flag in "abcd":
            said = [run.fires[flag] for run in runs if run.fires[flag] is not None]
            decision = "MIXED" if 0 < sum(said) < len(said) else "walked back" if any(said) else "kept"
            expected = (decision if said else "not measured", sum(said), len(said), len(runs))
            assert told[method, f"accuracy + ({flag})"] == expected
        assert told[method, "all"][1] == sum(any(run.fires.values()) for run in runs)
    assert told["dfa", "accuracy + Γ"] == ("walked back", 1, 1, 4)
    assert told["sb", "accuracy + (a)"][0] == "MIXED" and told["sb", "accuracy + (d)"][0] == "not measured"


@pytest.mark.parametrize("flag", MEASURES)
def test_every_run_stands_in_its_group_with_what_was_measured_of_it(flag: str, answer: Any) -> None:
    measure, used, sign = MEASURES[flag]
    rows = answer("threshold_groups").query("flag == @flag").set_index("run_id")
    assert {*rows.index} == {run.run_id for run in JUDGED}
    for run in JUDGED:
        row, value = rows.loc[run.run_id], measure(run)
        assert row["is_degenerate"] == is_degenerate(run)
        assert row["value"] == value or (math.isnan(value) and math.isnan(row["value"]))
        finite = value is not None and math.isfinite(value)
        passing = "flagged" if finite and sign * value > sign * used else "passing"
        assert row["state"] == (passing if finite else "not measured" if value is None else "not finite")
    sweep = answer("threshold_sensitivity").query("flag == @flag").iloc[0]
    for column in ("used", "n", "n_not_finite", "same_from", "same_to", "healthy_edge", "degenerate_edge", "separates"):
        assert (rows[column] == sweep[column]).all() or (sweep[column] is None and rows[column].isna().all())


def test_runs_of_one_cell_and_seed_are_counted_and_none_hides_another(answer: Any) -> None:
    rows = answer("verdict_matrix")
    assert {*rows["run_id"]} == {run.run_id for run in MAIN}
    frame = pd.DataFrame([{"id": run.run_id, "cell": str({**run.params, "seed": 0}), "seed": run.seed} for run in MAIN])
    sizes = frame.groupby(["cell", "seed"], dropna=False)["id"].transform("size").set_axis(frame["id"])
    assert dict(zip(rows["run_id"], rows["n"], strict=True)) == sizes.to_dict()
    together = rows.query("method == 'dfa' and seed == 1")
    assert [*together["n"]] == [2, 2] and [*together["place"]] == [1, 2]
    drawn = draw.draw("verdict_matrix", "main", answer)
    marks = [point for point in points(drawn) if point["run_id"] in {*together["run_id"]}]
    assert len({(m["cell"], m["column"]) for m in marks}) == 1 and {m["shift"] for m in marks} == {0.25, 0.75}
    assert "4 share cell and seed with another" in drawn.description
    assert {m["state"] for m in points(drawn)} == {"trustworthy", "flagged", "not audited"}


def test_the_timeline_says_where_flags_first_fire_in_a_run_and_in_its_cell(answer: Any) -> None:
    rows = answer("first_flag_timeline").set_index("run_id")
    timed = [run for run in MAIN if run.audited and run.series]
    assert {*rows.index} == {run.run_id for run in timed}
    for run in timed:
        row, first = rows.loc[run.run_id], firsts(run)
        assert {flag: row[f"{flag}_epoch"] for flag in "nabc"} == first
        stop = min((first[f] for f in "abn" if first[f] is not None), default=None)
        assert (row["first_epoch"], row["planned"]) == (stop, 4)
        assert row["share_saved"] == (None if stop is None else close(1 - stop / 4))
    cells = {r["method"]: (r["fired"], r["n_flagged"], r["n"]) for _, r in rows.iterrows()}
    assert cells == {"bp": ("", 0, 2), "dfa": ("b 1, c 1, a 2–3, n 2–3", 3, 4), "fa": ("a 2", 1, 1)}
    bars = {(p["run_id"], p["part"]): (p["epoch"], p["until"]) for p in points(drawing("first_flag", answer), "part")}
    assert bars[timed[0].run_id, "needed"] == (0, 4) and (timed[0].run_id, "saved") not in bars
    exploded = next(run for run in timed if run.growth == 400)
    assert (bars[exploded.run_id, "needed"], bars[exploded.run_id, "saved"]) == ((0, 2), (2, 4))


def test_training_by_cell_is_the_median_and_range_of_the_seeds_that_are_finite(answer: Any) -> None:
    rows = answer("training_by_cell").set_index(["method", "quantity", "epoch"])
    dfa = [run for run in MAIN if run.method == "dfa"]
    for epoch in range(5):
        values = pd.DataFrame([{"seed": run.seed, "value": norms(run)[epoch]} for run in dfa])
        finite = values[np.isfinite(values["value"])].groupby("seed")["value"].mean()
        row = rows.loc["dfa", "residual_norm", epoch]
        assert (row["n"], row["n_not_finite"]) == (len(finite), 1 if epoch > 2 else 0)
        expected = (finite.median(), finite.min(), finite.max())
        assert (row["median"], row["lowest"], row["highest"]) == tuple(map(close, expected))
    assert ("fa", "accuracy", 2) in rows.index and ("fa", "accuracy", 3) not in rows.index
    counts = [p for p in points(drawing("cross_architecture", answer), "edge") if p["method"] == "dfa"]
    assert [(p["edge"], p["epoch"]) for p in counts] == [("n×1", 3)]


def test_a_matrix_tells_its_decisions_apart_by_letter(answer: Any) -> None:
    said = {(p["method"], p["added"]): p["mark"] for p in points(drawing("decision_utility", answer), "mark")}
    assert (said["bp", "+ (a)"], said["bp", "+ Γ"], said["bp", "+ (c)"]) == ("K", "–", "M 1/2")
    assert (said["dfa", "+ (a)"], said["dfa", "+ Γ"]) == ("M 2/4", "W n=1")


def test_a_threshold_chart_spells_what_its_axis_cannot_hold_and_says_what_separates(answer: Any) -> None:
    drawn = drawing("threshold_sensitivity", answer)
    spelled = {(p["run_id"], p["edge"]) for p in points(drawn, "edge") if p["edge"]}
    lost = {run.run_id: "NaN" if math.isnan(run.growth) else "+∞" for run in JUDGED if not math.isfinite(run.growth)}
    assert {*lost.items()} <= spelled and any(edge == "0" for _, edge in spelled)
    assert f"used {RATIO:g}, groups apart: gap 30 to 77" in drawn.description
    assert all(f"used {used:g}" in drawn.description for used in (FLOOR, CEILING, MARGIN))


@pytest.mark.parametrize("name", ["cross_architecture", "trajectories", "audit_panels", "verdict_matrix", "first_flag"])
def test_text_of_a_run_is_data_and_no_expression(name: str, answer: Any) -> None:
    specification = dict(drawing(name, answer).specification)
    datasets = specification.pop("datasets")
    assert "</script>" not in json.dumps(expressions(specification)) and datasets


def expressions(node: Any) -> list[str]:
    if isinstance(node, dict):
        here = [v for k, v in node.items() if k in ("expr", "test", "labelExpr", "calculate") and isinstance(v, str)]
        return here + [e for v in node.values() for e in expressions(v)]
    return [e for v in node for e in expressions(v)] if isinstance(node, list) else []


def test_a_name_says_what_is_unusual_and_never_joins_two_cells(answer: Any) -> None:
    rows = answer("audit_table")
    identity = ["method", "architecture", "width", "penalty", "frozen_blocks"]
    assert theme.cell_labels(rows).groupby([rows[c] for c in identity]).nunique().eq(1).all()
    assert theme.cell_labels(rows).nunique() == len(rows.drop_duplicates(identity))
    alike = pd.concat([rows.iloc[:1].assign(also="decay=0.1"), rows.iloc[:1].assign(also="decay=0.2")])
    assert [*theme.cell_labels(alike)] == ["bp decay=0.1", "bp decay=0.2"] == [*theme.variant_labels(alike)]


@pytest.mark.matrix
@pytest.mark.parametrize("experiment", ["one", "unaudited"])
def test_one_run_is_drawn_and_what_was_not_audited_has_no_decision(experiment: str, file: Path) -> None:
    with draw.answers(experiment, file) as answer:
        names = ("verdict_matrix", "decision_utility", "threshold_sensitivity", "first_flag")
        drawn = {name: draw.draw(name, experiment, answer) for name in names}
    audited = experiment == "one"
    assert {name for name, d in drawn.items() if d.specification} == ({*names} if audited else {"verdict_matrix"})
    for each in drawn.values():
        assert each.specification is None or draw.render(each, "svg").startswith(b"<svg")


def drawing(name: str, answer: Any) -> draw.Drawn:
    return draw.draw(name, "main", answer)


def points(drawn: draw.Drawn, having: str = "run_id") -> list[dict[str, Any]]:
    """The data of the chart's marks, those that have the field ``having``."""
    assert drawn.specification is not None
    return [row for rows in drawn.specification["datasets"].values() for row in rows if having in row]


@pytest.mark.matrix
def test_of_many_networks_the_first_are_drawn_and_the_chart_says_so(answer: Any) -> None:
    rows = answer("training_by_cell")
    many = pd.concat([rows.assign(architecture=f"net_{i:02}") for i in range(MOST + 2)])
    drawn = draw.draw("cross_architecture", "main", lambda query: many)
    assert drawn.specification is not None
    assert len(drawn.specification["hconcat"]) == MOST
    assert f"the first {MOST} of {MOST + 2} networks" in str(drawn.specification)
