"""The catalogue's answers on a small database written by hand, against the same computed in plain Python."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from conftest import empty_database

from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.protocol.diagnostics import frozen_control, grad_norm
from fa_tracking.results.database import ask, connect, create_views, explain_query, find_query, queries
from fa_tracking.results.statistics import summarise

REFERENCE = Path(__file__).parent.parent / "docs/reference-results"
NAN, INF = math.nan, math.inf
RATIO, FLOOR, CEILING, MARGIN = 50.0, 1e-7, 0.3, 2.0
ROUNDING = 2e-5

GROWTH, GRAD = "diagnostics/max_block_growth", "diagnostics/deepest_grad_norm"
GAIN, STABILITY, ACCURACY = "diagnostics/grad_gain", "diagnostics/stability", "accuracy/test"
STREAM, CHANCE = "diagnostics/stream_growth", "diagnostics/chance_error"


@dataclass(eq=False)
class Run:
    """One run as the tables hold it; ``series`` are its metrics, step by step, ``gamma`` its Γ by layer."""

    method: str
    seed: int | None
    accuracy: float | None = 0.5
    penalty: float = 0.0
    frozen: bool = False
    trained: int | None = None
    """The last blocks that are; None: none if ``frozen``, else all."""
    width: int = 256
    depth: int = 4
    architecture: str = "resmlp"
    experiment: str = "main"
    margin: float | None = None
    growth: float = 1.5
    grad: float | None = 1e-3
    gain: float | None = None
    stream: float | None = None
    chance: float | None = None
    stability: float = 0.1
    status: str = "FINISHED"
    aborted_at: int | None = None
    audited: bool = True
    series: dict[str, list[float]] = field(default_factory=dict)
    gamma: list[float | None] = field(default_factory=list)
    run_id: str = ""

    @property
    def fires(self) -> dict[str, bool | None]:
        """The protocol's flags, from its table."""
        alone = self.stream is not None and self.stream <= RATIO
        explained = self.gain is not None and self.gain * (0.95 if self.chance is None else self.chance) >= FLOOR
        measured = [self.growth, self.grad, self.stability, self.accuracy, self.stream]
        return {
            "n": any(v is not None and not math.isfinite(v) for v in measured),
            "a": self.growth > RATIO and not alone,
            "b": None if self.grad is None else self.grad < FLOOR and not explained,
            "c": self.stability > CEILING,
            "d": None if self.margin is None else self.margin < MARGIN - ROUNDING,
        }

    @property
    def norms(self) -> tuple[float, float]:
        """‖h_0‖ and ‖g_0‖ at the last epoch; those of layer l are l + 1 times as large."""
        assert self.grad is not None
        return 100 * self.growth, self.grad

    @property
    def params(self) -> dict[str, Any]:
        """As MLflow keeps them."""
        named = {"method": self.method, "architecture": self.architecture, "width": self.width, "depth": self.depth}
        named |= {"penalty": self.penalty, "trainable_blocks": self.k, "epochs": 4, "dataset": "digits"}
        return named | ({} if self.seed is None else {"seed": self.seed})

    @property
    def k(self) -> int:
        """How many blocks are trained."""
        return (0 if self.frozen else self.depth) if self.trained is None else self.trained

    @property
    def control(self) -> float | None:
        """The accuracy of its frozen control."""
        return None if self.margin is None or self.accuracy is None else self.accuracy - self.margin / 100

    @property
    def state(self) -> str:
        lost = "diverged" if self.audited and self.fires["n"] else None
        return lost or ("complete" if self.aborted_at is None else "aborted")

    @property
    def counts(self) -> bool:
        """Whether it is in a mean."""
        return self.audited and self.status == "FINISHED" and self.aborted_at is None and not self.fires["n"]


DEGENERATE: dict[str, Any] = {"growth": 400.0, "grad": 1e-8}

RUNS = [
    Run("bp", 1, 0.60, margin=20, gamma=[]),
    Run("bp", 2, 0.63, margin=22, stability=0.4),
    Run("bp", 3, 0.61, margin=21, grad=5e-8, gain=1e-3),  # a small gradient explained by a small error
    Run("bp", 1, 0.55, penalty=0.01, margin=15),
    Run("bp", 3, 0.51, penalty=0.01, margin=14),
    Run("dfa", 1, 0.30, margin=-1.0, **DEGENERATE, gamma=[0.4, -0.2, None], stability=0.5),
    Run("dfa", 1, 0.34, margin=3.0, **DEGENERATE, gamma=[0.2, None, None]),  # a repetition, not a second sample
    Run("dfa", 2, 0.33, margin=0.0, growth=51, grad=2e-8, gamma=[0.3, None, None]),
    Run("dfa", 3, 0.35, margin=1.0, growth=60, grad=9e-8, gain=1e-8, gamma=[0.1, 0.1, NAN]),
    Run("dfa", 4, 0.10, margin=-9.0, growth=NAN, grad=NAN, gamma=[0.9, 0.9, 0.9]),  # diverged at a finite accuracy
    Run("dfa", 5, 0.20, margin=-9.0, **DEGENERATE, aborted_at=2),
    Run("dfa", 1, 0.41, penalty=0.01, margin=2.5, gamma=[0.2, 0.3, -0.6]),
    Run("dfa", 2, 0.39, penalty=0.01, margin=1.9, gamma=[0.2, 0.3, 0.4]),
    Run("dfa", 8, 0.47, penalty=0.1, margin=9.0),  # shares no seed with the rest
    Run("dfa", 9, 0.45, penalty=0.1, margin=2.0),  # on the threshold: not below it
    Run("dfa", 1, 0.33, frozen=True),
    Run("dfa", 2, 0.35, frozen=True),
    Run("fa", 1, 0.50, growth=3.0, gamma=[0.3, 0.6, 0.5]),
    Run("fa", 2, 0.48, growth=2.0, gamma=[0.2, 0.5, 0.4]),
    Run("fa", 7, NAN, growth=2.0),
    Run("ep", 1, 0.28),
    Run("sb", 1, None, audited=False),
    Run("cb", None, 0.20, growth=INF),
    Run("drtp", None, 0.40),
    Run("drtp", None, 0.44),  # without a seed each run is a sample
    Run("bp", 6, 0.9, status="RUNNING", audited=False),
    Run("dfa", 1, 0.32, width=512, experiment="it's [two]", margin=0.0, **DEGENERATE),
    Run("dfa", 2, 0.31, width=512, experiment="it's [two]", margin=0.0, **DEGENERATE),
    Run("dfa", 3, 0.37, width=512, experiment="it's [two]", margin=2.0),
    Run("bp", 3, 0.61, width=512, experiment="it's [two]"),
    Run("fa", 3, 0.61, width=512, experiment="it's [two]"),
    Run("bp", 1, 0.52, depth=8, penalty=0.01, experiment="deep"),
    Run("bp", 3, 0.50, depth=8, penalty=0.01, experiment="deep"),
]

SMALL: dict[str, Any] = {"experiment": "token", "grad": 5e-8, "margin": 9.0}
TOKEN = [
    Run("bp", 1, experiment="token", growth=4e3, stream=1.2, margin=2 - 1e-6, stability=0.4),  # as good as 2
    Run("bp", 2, experiment="token", growth=4e3, stream=60, margin=1.9999),
    Run("bp", 3, experiment="token", growth=4e3, stream=NAN),  # explains nothing
    Run("bp", 4, experiment="token", growth=30, stream=400),
    Run("bp", 5, **SMALL, gain=1.02e-7, chance=0.9995),  # of a thousand classes
    Run("bp", 6, **SMALL, gain=1.2e-7, chance=0.7071),  # of two
    Run("bp", 7, **SMALL, gain=1e-3, chance=NAN),  # explains nothing
    Run("bp", 8, **SMALL, gain=1.1e-7),  # not known: 0.95
    Run("bp", 9, experiment="token", growth=NAN, stream=1.2),
    Run("bp", 10, experiment="token", grad=None, gain=1e-9),  # a gain judges nothing by itself
]

SERIES = {
    GROWTH: [1, 60, 40, 60, 60],
    GRAD: [1e-3, 5e-8, 5e-8, 5e-8, NAN],
    GAIN: [1e-3, 1e-3, 1e-8, 1e-8, NAN],
    STABILITY: [0.1, 0.1, 0.2, 0.4, 0.1],
    ACCURACY: [0.1, 0.3, 0.35, 0.33, 0.3],
}
TIMED = [
    Run("dfa", 1, 0.30, experiment="timed", series={**SERIES, GRAD: [1e-3, 5e-8, 5e-8, 5e-8, 5e-8]}),
    Run("dfa", 2, 0.32, experiment="timed", series={GROWTH: [1, 2, 3, INF, 70], ACCURACY: [0.1, 0.2, 0.3, 0.4, 0.2]}),
    Run("dfa", 3, 0.10, experiment="timed", growth=NAN, series=SERIES),  # diverged
    Run("dfa", 4, 0.10, experiment="timed", aborted_at=1, series={k: v[:2] for k, v in SERIES.items()}),
    Run("bp", 1, 0.60, experiment="timed", series={GROWTH: [1, 1, 1, 1, 1], ACCURACY: [0.1, 0.5, 0.5, 0.6, 0.6]}),
    Run("fa", 1, 0.60, experiment="timed", series={ACCURACY: [0.1, NAN]}, status="FAILED", audited=False),
]

TINY = [1e-3, 5e-8, 5e-8, 5e-8]
TIMED_TOKEN = {
    Run("bp", 1, experiment="timed token", series={GROWTH: [1, 60, 60, 60], STREAM: [1, 2, 60, 60]}): ("a", 2),
    Run("bp", 2, experiment="timed token", series={GROWTH: [1, 60, 60, 60], STREAM: [1, NAN, 1, 1]}): ("a", 1),
    Run("bp", 3, experiment="timed token", series={GROWTH: [60, 60, 1, 1], STREAM: [1, 1, 1, 1]}): ("a", None),
    Run(
        "bp", 4, experiment="timed token", series={GRAD: TINY, GAIN: [1.02e-7] * 4, CHANCE: [0.9995, 0.9995, 0.95, 1]}
    ): ("b", 2),
    Run("bp", 5, experiment="timed token", series={GRAD: TINY, GAIN: [1.2e-7] * 4, CHANCE: [0.7071] * 4}): ("b", 1),
    Run("bp", 6, experiment="timed token", series={GRAD: TINY, GAIN: [1e-3] * 4, CHANCE: [1, 1, NAN, 1]}): ("b", 2),
    Run("bp", 7, experiment="timed token", series={GRAD: TINY, GAIN: [1.1e-7] * 4}): ("b", None),
}
"""What the flag's first epoch is where the growth is of a class token, or the classes are not ten."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs above as an export would write them."""
    path = tmp_path_factory.mktemp("queries") / "r.duckdb"
    with empty_database(path) as connection:
        for number, run in enumerate([*RUNS, *TIMED, *TOKEN, *TIMED_TOKEN]):
            run.run_id = f"{number:032x}"
            write(connection, run)
    return path


def insert(connection: duckdb.DuckDBPyConnection, table: str, **row: Any) -> None:
    connection.execute(f"insert into {table} ({', '.join(row)}) values ({', '.join('?' * len(row))})", [*row.values()])


def write(connection: duckdb.DuckDBPyConnection, run: Run) -> None:
    cell = " ".join(f"{k}={v}" for k, v in sorted(run.params.items()) if k != "seed")
    about = {"run_id": run.run_id, "source": "s", "experiment": run.experiment, "status": run.status, "cell": cell}
    insert(connection, "runs", **about, **run.params, frozen_blocks=run.k == 0, aborted_at=run.aborted_at)
    for key, value in run.params.items():
        insert(connection, "params", run_id=run.run_id, key=key, value=str(value))
    if run.audited:
        flags = ",".join(f for f, fired in run.fires.items() if fired)
        verdict = f"needs walk-back: {flags}" if flags else "trustworthy"
        measured = {
            "control_accuracy": run.control,
            "headline_accuracy": run.accuracy,
            "margin_pp": run.margin,
            "max_block_growth": run.growth,
        }
        measured |= {"deepest_grad_norm": run.grad, "grad_gain": run.gain, "stability": run.stability}
        measured |= {"stream_growth": run.stream, "chance_error": run.chance}
        thresholds = {"h_norm_explosion_ratio": RATIO, "g_norm_floor": FLOOR}
        thresholds |= {"stability_drift_ceiling": CEILING, "frozen_acc_margin_pp": MARGIN}
        fires = {f"fires_{f}": fired for f, fired in run.fires.items()}
        insert(connection, "audits", run_id=run.run_id, verdict=verdict, flags=flags, **measured, **thresholds, **fires)
    for key, values in run.series.items():
        for step, value in enumerate(values):
            at = "2026-01-01 00:00:00"
            insert(connection, "metrics", run_id=run.run_id, key=key, step=step, value=value, timestamp=at)
    for layer, gamma in enumerate(run.gamma):
        null = None if gamma is None else 0.0
        pooled = None if gamma is None else gamma - 0.15
        for step in (3, 4):  # the answer is the last epoch's
            row = {"alignment": gamma if step == 4 else 0.99, "alignment_pooled": pooled}
            row |= {"alignment_null_mean": null, "alignment_null_sd": 0.125}
            norms = run.norms if step == 4 else (1.0, 1.0)
            row |= {"residual_norm": norms[0] * (layer + 1), "grad_norm": norms[1] * (layer + 1)}
            insert(connection, "layers", run_id=run.run_id, step=step, layer=layer, **row)
        for credit, does in (("rule", gamma), ("bp", 1.0), ("random", 0.0)):
            row = {"credit": credit, "alignment": gamma if credit == "rule" else None, "samples": 1280}
            row |= {"perturbation": does, "nudge": None if does is None else -does / (8 * (layer + 1))}
            if run.audited:
                insert(connection, "functional", run_id=run.run_id, layer=layer, **row)


@pytest.fixture(scope="module")
def answer(file: Path) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """The rows of a query, each a dict."""
    with connect(file) as connection:

        def rows(name: str, experiment: str = "main") -> list[dict[str, Any]]:
            relation = ask(connection, find_query(name), experiment)
            return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]

        yield rows


Key = tuple[Any, ...]


def cell_of(run: Run) -> Key:
    return (run.method, run.width, run.penalty, run.frozen)


def cell_in(row: dict[str, Any]) -> Key:
    return (row["method"], row["width"], row["penalty"], row["frozen_blocks"])


def by_cell(runs: list[Run], experiment: str = "main") -> dict[Key, list[Run]]:
    found: dict[Key, list[Run]] = {}
    for run in runs:
        if run.experiment == experiment and run.status == "FINISHED":
            found.setdefault(cell_of(run), []).append(run)
    return found


def by_seed(runs: list[Run], value: Callable[[Run], float | None]) -> dict[Any, float]:
    """One number a seed, repetitions averaged, of the runs that may be in a mean."""
    found: dict[Any, list[float]] = {}
    for run in runs:
        v = value(run)
        if run.counts and v is not None and math.isfinite(v):
            found.setdefault(run.run_id if run.seed is None else run.seed, []).append(v)
    return {seed: statistics.fmean(values) for seed, values in found.items()}


def accuracies(method: str, penalty: float = 0.0, width: int = 256, experiment: str = "main") -> dict[Any, float]:
    return by_seed(by_cell(RUNS, experiment)[method, width, penalty, False], lambda run: run.accuracy)


def less(a: dict[Any, float], b: dict[Any, float]) -> tuple[float, float | None, int]:
    """Difference in percentage points, its spread, and the seeds in common."""
    steps = [100 * (a[s] - b[s]) for s in a if s in b]
    if len(steps) < 2:
        return 100 * (statistics.fmean(a.values()) - statistics.fmean(b.values())), None, len(steps)
    return statistics.fmean(steps), statistics.stdev(steps), len(steps)


def sd(values: Any) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def close(expected: Any) -> Any:
    return None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-12)


def interval(values: Any) -> tuple[Any, Any]:
    """Student's t at 95 %, as scipy has it."""
    found = summarise(values)
    return tuple(None if v is None else pytest.approx(v, rel=1e-6, abs=1e-12) for v in (found.low, found.high))


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", queries())
def test_a_querys_header_agrees_with_the_engine_on_the_reference_results(name: str) -> None:
    query = find_query(name)
    (statement,) = duckdb.extract_statements(query.sql)
    assert statement.named_parameters == {"experiment"}
    with connect(REFERENCE) as connection:
        answers = [ask(connection, query, asked) for asked in ("reproduction", "~*")]
        assert [tuple(a.columns) for a in answers] == [query.columns] * 2
        one, every = (len(a.fetchall()) for a in answers)
        lacking = ("diverged", "width_scaling")  # none diverged; each network has one width
        lacking += ("functional_credit", "credit_ranking")  # they were audited before these were measured
        assert every >= one > 0 or name in lacking
    assert {"n", "n_runs", "n_layers", "n_methods", "samples", "run_id", "n_pairs", "fa_n"} & set(query.columns)


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", queries())
def test_the_explained_sql_gives_the_same_in_a_plain_client(name: str, file: Path) -> None:
    for experiment in ("main", "it's [two]", "timed"):
        with duckdb.connect(str(file), read_only=True) as plain:
            pasted = plain.sql(explain_query(find_query(name), experiment)).fetchall()
        with connect(file) as connection:
            assert shown(ask(connection, find_query(name), experiment).fetchall()) == shown(pasted)


def shown(rows: list[tuple]) -> list[list[str]]:
    """The rows as text, without the last digits of a sum, which hang on the order of its terms."""
    return [[f"{v:.9g}" if isinstance(v, float) else str(v) for v in row] for row in rows]


def test_cross_seed_averages_one_number_a_seed_and_no_run_that_diverged_or_was_aborted(answer: Any) -> None:
    rows, expected = {cell_in(r): r for r in answer("cross_seed")}, by_cell(RUNS)
    assert rows.keys() == expected.keys()
    for cell, runs in expected.items():
        row, values = rows[cell], [*by_seed(runs, lambda run: run.accuracy).values()]
        assert (row["n"], row["n_runs"]) == (len(values), len(runs))
        assert row["accuracy_mean"] == (close(np.mean(values)) if values else None)
        assert row["accuracy_sd"] == (None if len(values) < 2 else close(np.std(values, ddof=1)))
        margins = [*by_seed(runs, lambda run: run.margin).values()]
        assert (row["margin_pp_mean"], row["margin_pp_sd"]) == (
            close(np.mean(margins)) if margins else None,
            close(sd(margins)),
        )
        assert row["n_diverged"] == sum(run.audited and run.fires["n"] for run in runs)
        assert row["n_aborted"] == sum(run.aborted_at is not None for run in runs)
        assert row["n_unaudited"] == sum(not run.audited for run in runs)
    dfa = rows["dfa", 256, 0.0, False]
    assert (dfa["n"], dfa["n_runs"], dfa["n_diverged"], dfa["n_aborted"], dfa["seeds"]) == (3, 6, 1, 1, "1 2 3")
    assert dfa["verdict"].startswith("MIXED: 2 × ") and dfa["flags"] == "a×4 b×4 c×1 d×4 n×1"
    assert rows["drtp", 256, 0.0, False]["n"] == 2


def test_every_seed_stands_beside_its_cells_interval_and_what_was_lost_is_in_no_mean(answer: Any) -> None:
    rows = answer("seeds")
    for measure, column in (("accuracy", "accuracy"), ("margin_pp", "margin")):
        for cell, runs in by_cell(RUNS).items():
            found = [r for r in rows if cell_in(r) == cell and r["measure"] == measure]
            complete = [r for r in found if r["state"] == "complete"]
            expected = by_seed(runs, lambda run, column=column: getattr(run, column))
            assert {r["run_id"] if r["seed"] is None else r["seed"]: r["value"] for r in complete} == close(expected)
            lost = [r for r in runs if r.state != "complete" and getattr(r, column) is not None]
            shown = [(r["state"], r["seed"], str(r["value"])) for r in found if r["state"] != "complete"]
            assert Counter(shown) == Counter((r.state, r.seed, str(getattr(r, column))) for r in lost)
            values = [*expected.values()]
            for row in found:
                assert (row["n"], row["sd"]) == (len(values), close(sd(values)))
                assert row["mean"] == (close(np.mean(values)) if values else None)
                assert (row["low"], row["high"]) == interval(values)
    states = Counter(r["state"] for r in rows if r["measure"] == "accuracy")
    assert states == {"complete": 19, "diverged": 3, "aborted": 1}


def test_penalty_rescue_holds_each_seed_against_its_control(answer: Any) -> None:
    rows = answer("penalty_rescue")
    cells = {key: runs for key, runs in by_cell(RUNS).items() if key[0] in ("bp", "dfa") and not key[3]}
    assert {(r["method"], r["penalty"]) for r in rows} == {(method, penalty) for method, _, penalty, _ in cells}
    for (method, _, penalty, _), runs in cells.items():
        found = [r for r in rows if (r["method"], r["penalty"]) == (method, penalty)]
        complete = {r["seed"]: r for r in found if r["state"] == "complete"}
        values, controls = by_seed(runs, lambda run: run.accuracy), by_seed(runs, lambda run: run.control)
        assert {seed: r["accuracy"] for seed, r in complete.items()} == close(values)
        assert {seed: r["control"] for seed, r in complete.items()} == close(controls)
        assert {seed: r["passes_from"] for seed, r in complete.items()} == close(
            {s: c + 0.02 for s, c in controls.items()}
        )
        norms = [
            np.median(
                [np.multiply(run.norms, 3) for run in runs if run.counts and run.seed == seed and run.gamma], axis=0
            )
            for seed in sorted({run.seed for run in runs if run.counts and run.gamma})
        ]
        measured = [(r["residual_norm"], r["grad_norm_2"]) for r in complete.values() if r["residual_norm"] is not None]
        assert measured == [(close(h), close(g)) for h, g in norms]
        for row in found:
            assert (row["n"], row["accuracy_mean"]) == (len(values), close(np.mean([*values.values()])))
            assert (row["accuracy_low"], row["accuracy_high"]) == interval([*values.values()])
            h, g = np.median(norms, axis=0) if norms else (None, None)
            assert (row["n_norm"], row["residual_norm_median"]) == (len(norms), close(h))
            assert row["grad_norm_2_median"] == close(g)
    (lost,) = (r for r in rows if r["state"] == "diverged")
    assert (lost["method"], lost["seed"], lost["accuracy"]) == ("dfa", 4, 0.10) and math.isnan(lost["residual_norm"])


def test_width_scaling_has_the_seeds_of_what_was_trained_at_two_widths(answer: Any) -> None:
    rows = answer("width_scaling", "~[mi]*")
    assert {(r["method"], r["width"]) for r in rows} == {(m, d) for m in ("bp", "dfa", "fa") for d in (256, 512)}
    for method, width, experiment in (("dfa", 256, "main"), ("dfa", 512, "it's [two]"), ("bp", 512, "it's [two]")):
        runs = by_cell(RUNS, experiment)[method, width, 0.0, False]
        found = [r for r in rows if (r["method"], r["width"]) == (method, width)]
        complete = [r for r in found if r["state"] == "complete"]
        accuracy, growth = by_seed(runs, lambda run: run.accuracy), by_seed(runs, lambda run: run.growth)
        assert {r["seed"]: r["accuracy"] for r in complete} == close(accuracy)
        assert {r["seed"]: r["growth"] for r in complete} == close(growth)
        for row in found:
            assert (row["n"], row["accuracy_mean"]) == (len(accuracy), close(np.mean([*accuracy.values()])))
            assert (row["accuracy_low"], row["accuracy_high"]) == interval([*accuracy.values()])
            assert row["growth_median"] == close(np.median([*growth.values()]))
    assert Counter(r["state"] for r in rows)["aborted"] == 1
    assert answer("width_scaling") == []


def test_a_pattern_asks_several_experiments_and_an_exact_name_with_its_letters_one(answer: Any) -> None:
    assert {r["width"] for r in answer("cross_seed", "it's [two]")} == {512}
    rows = {cell_in(r): r for r in answer("cross_width", "~[mi]*")}
    wide, narrow = rows["dfa", 512, 0.0, False], rows["dfa", 256, 0.0, False]
    change, spread, pairs = less(accuracies("dfa", width=512, experiment="it's [two]"), accuracies("dfa"))
    assert (wide["change_pp"], wide["change_sd"], wide["n_pairs"]) == (close(change), close(spread), pairs)
    assert (narrow["change_pp"], narrow["n_widths"], wide["n_widths"], wide["same_verdict"]) == (None, 2, 2, False)
    alone = rows["bp", 512, 0.0, False]
    assert alone["change_pp"] == close(100 * (0.61 - np.mean([0.60, 0.63, 0.61])))  # one seed in common: of the means
    assert (alone["change_sd"], alone["n_pairs"], alone["n"]) == (None, 1, 1)
    with pytest.raises(
        UsageError, match=r"no experiment 'x\*'; it holds: deep, it's \[two\], main, timed, timed token, token"
    ):
        answer("runs", "x*")


def test_penalty_effects_are_paired_by_seed(answer: Any) -> None:
    rows = {(r["penalty"], r["contrast"]): r for r in answer("penalty_2x2")}
    bp, dfa = {p: accuracies("bp", p) for p in (0.0, 0.01)}, {p: accuracies("dfa", p) for p in (0.0, 0.01, 0.1)}
    expected = {
        (0.01, "bp + λ less bp"): (bp[0.01], bp[0.0]),
        (0.01, "dfa + λ less dfa"): (dfa[0.01], dfa[0.0]),
        (0.1, "dfa + λ less dfa"): (dfa[0.1], dfa[0.0]),
        (0.01, "bp less dfa"): (bp[0.0], dfa[0.0]),
        (0.1, "bp less dfa"): (bp[0.0], dfa[0.0]),
        (0.01, "bp less dfa + λ"): (bp[0.0], dfa[0.01]),
        (0.1, "bp less dfa + λ"): (bp[0.0], dfa[0.1]),
        (0.01, "bp + λ less dfa + λ"): (bp[0.01], dfa[0.01]),
    }
    assert rows.keys() == expected.keys()
    for key, (a, b) in expected.items():
        row, (mean, spread, pairs) = rows[key], less(a, b)
        assert (row["difference_pp"], row["sd"], row["n_pairs"]) == (close(mean), close(spread), pairs)
        assert (row["n_a"], row["n_b"]) == (len(a), len(b))
        assert (row["mean_a"], row["mean_b"]) == (close(np.mean([*a.values()])), close(np.mean([*b.values()])))


def test_a_penalty_is_mixed_where_its_seeds_disagree(answer: Any) -> None:
    rows = {(r["method"], r["penalty"], r["seed"]): r for r in answer("penalty_sweep")}
    assert {key[0] for key in rows} == {"bp", "dfa"}
    assert {seed for method, penalty, seed in rows if (method, penalty) == ("dfa", 0.0)} == {"1", "2", "3", "all"}
    said = {key: row["d_verdict"] for key, row in rows.items()}
    assert (said["dfa", 0.01, "1"], said["dfa", 0.01, "2"], said["dfa", 0.01, "all"]) == ("passes", "fires", "MIXED")
    assert (said["dfa", 0.0, "1"], said["dfa", 0.0, "2"], said["dfa", 0.1, "all"]) == ("MIXED", "fires", "passes")
    plain = accuracies("dfa")
    for seed, value in accuracies("dfa", 0.01).items():
        assert rows["dfa", 0.01, str(seed)]["gain_pp"] == close(100 * (value - plain[seed]))
    mean, spread, pairs = less(accuracies("dfa", 0.01), plain)
    whole = rows["dfa", 0.01, "all"]
    assert (whole["gain_pp"], whole["gain_sd"], whole["n_pairs"]) == (close(mean), close(spread), pairs)
    assert (whole["n"], whole["n_margin"], whole["margin_pp"]) == (2, 2, close(2.2))
    assert (rows["dfa", 0.1, "8"]["gain_pp"], rows["dfa", 0.1, "all"]["n_pairs"]) == (None, 0)


def test_fa_and_dfa_are_paired_and_a_gamma_below_the_floor_is_no_zero(answer: Any) -> None:
    (row,) = answer("fa_vs_dfa")
    mean, spread, pairs = less(accuracies("fa"), accuracies("dfa"))
    assert (row["difference_pp"], row["difference_sd"], row["n_pairs"]) == (close(mean), close(spread), pairs)
    assert (row["fa_n"], row["dfa_n"]) == (2, 3)
    assert (row["fa_deep_alignment"], row["fa_n_aligned"]) == (close(np.mean([0.55, 0.45])), 2)
    assert (row["dfa_deep_alignment"], row["dfa_n_aligned"]) == (close(np.mean([-0.2, 0.1])), 2)


def firsts(run: Run) -> dict[str, int | None]:
    """The first step at which each flag fires, point by point."""
    found: dict[str, int | None] = dict.fromkeys("nabc")
    steps = max(map(len, run.series.values()))
    for step in reversed(range(steps)):
        at = {key: values[step] for key, values in run.series.items() if step < len(values)}
        growth, grad, gain = at.get(GROWTH, 0.0), at.get(GRAD, 1.0), at.get(GAIN, 0.0)
        fired = {
            "n": not all(math.isfinite(value) for key, value in at.items() if key != CHANCE),
            "a": growth > RATIO and not at.get(STREAM, INF) <= RATIO,
            "b": grad < FLOOR and not gain * at.get(CHANCE, 0.95) >= FLOOR,
            "c": at.get(STABILITY, 0.0) > CEILING,
        }
        found |= {flag: step for flag, fires in fired.items() if fires}
    return found


def test_the_first_flag_is_found_step_by_step(answer: Any) -> None:
    rows = {r["run_id"]: r for r in answer("first_flag", "timed")}
    audited = [run for run in TIMED if run.audited]
    assert rows.keys() == {run.run_id for run in audited}
    for run in audited:
        row, first = rows[run.run_id], firsts(run)
        names = {"a": "growth_epoch", "b": "grad_floor_epoch", "c": "drift_epoch", "n": "not_finite_epoch"}
        assert {flag: row[name] for flag, name in names.items()} == first
        stop = min((first[f] for f in "abn" if first[f] is not None), default=None)
        assert row["first_epoch"] == stop
        assert row["accuracy_at_first"] == (None if stop is None else run.series[ACCURACY][stop])
        assert row["epochs_saved"] == (None if stop is None else close(1 - stop / 4))
    assert [rows[run.run_id]["first_epoch"] for run in audited] == [1, 3, 1, 1, None]


def test_at_each_epoch_a_class_token_may_grow_alone_and_a_small_error_is_that_of_its_classes(answer: Any) -> None:
    rows = {r["run_id"]: r for r in answer("first_flag_timeline", "timed token")}
    for run, (flag, epoch) in TIMED_TOKEN.items():
        assert {f: rows[run.run_id][f"{f}_epoch"] for f in "nabc"} == firsts(run)
        assert firsts(run)[flag] == epoch


def test_saved_compute_is_over_seeds_and_its_accuracies_leave_the_diverged_out(answer: Any) -> None:
    rows = {(r["method"], r["rule"]): r for r in answer("saved_compute", "timed")}
    assert rows.keys() == {("dfa", rule) for rule in ("a", "b", "c", "n", "a, b or n")} | {("bp", "a, b or n")}
    whole = rows["dfa", "a, b or n"]
    assert (whole["n"], whole["n_flagged"], whole["n_aborted"], whole["n_accuracy"]) == (3, 3, 1, 2)
    shares = [1 - 1 / 4, 1 - 3 / 4, 1 - 1 / 4]
    assert (whole["share_saved_mean"], whole["share_saved_sd"]) == (
        close(np.mean(shares)),
        close(np.std(shares, ddof=1)),
    )
    assert (whole["first_epoch_min"], whole["first_epoch_max"]) == (1, 3)
    changes = [100 * (0.3 - 0.3), 100 * (0.2 - 0.4)]
    assert (whole["change_pp"], whole["change_sd"]) == (close(np.mean(changes)), close(np.std(changes, ddof=1)))
    assert (rows["dfa", "b"]["n_flagged"], rows["dfa", "b"]["first_epoch_min"]) == (2, 2)
    never = rows["bp", "a, b or n"]
    assert (never["n"], never["n_flagged"], never["share_saved_mean"]) == (1, 0, None)


MEASURES: dict[str, tuple[Callable[[Run], float | None], float, int]] = {
    "a": (lambda run: run.growth if run.stream is None else least(run.growth, run.stream), RATIO, 1),
    "b": (lambda run: None if run.grad is None else max(run.grad, at_chance(run)), FLOOR, -1),
    "c": (lambda run: run.stability, CEILING, 1),
    "d": (lambda run: run.margin, MARGIN, -1),
}


def least(growth: float, stream: float) -> float:
    return growth if math.isnan(growth) or math.isnan(stream) else min(growth, stream)


def at_chance(run: Run) -> float:
    """‖g_L‖ were the error that of a uniform output; 0 where it is not known."""
    found = 0.0 if run.gain is None else run.gain * (0.95 if run.chance is None else run.chance)
    return 0.0 if math.isnan(found) else found


def is_degenerate(run: Run) -> bool:
    return any(run.fires[flag] for flag in "abn")


@pytest.mark.parametrize("experiment", ["main", "token"])
@pytest.mark.parametrize("flag", MEASURES)
def test_thresholds_inside_the_range_keep_the_verdicts_and_those_outside_change_them(
    flag: str, experiment: str, answer: Any
) -> None:
    measure, used, sign = MEASURES[flag]
    asked = [r for r in [*RUNS, *TOKEN] if r.experiment == experiment]
    judged = [r for r in asked if r.audited and not r.frozen and r.aborted_at is None]
    finite = [(run, v) for run in judged if (v := measure(run)) is not None and math.isfinite(v)]
    rows = [r for r in answer("threshold_sensitivity", experiment) if r["flag"] == flag]
    rounding = ROUNDING if flag == "d" else 0.0

    def flagged(threshold: float) -> list[bool]:
        return [sign * (v + rounding) > sign * threshold for _, v in finite]

    assert flagged(used) == [run.fires[flag] for run, _ in finite]
    for row, decade in zip(rows, range(-3, 4), strict=True):
        threshold = used * 10.0**decade
        assert (row["used"], row["threshold"], row["n"]) == (used, close(threshold), len(finite))
        assert row["n_not_finite"] == sum(v is not None and not math.isfinite(v) for v in map(measure, judged))
        assert row["n_flagged"] == sum(flagged(threshold))
        assert row["n_changed"] == sum(x != y for x, y in zip(flagged(threshold), flagged(used), strict=True))
    low, high = rows[0]["same_from"], rows[0]["same_to"]
    inside, width = np.linspace(low, high, 7)[1:-1], high - low
    assert low <= used <= high and all(flagged(t) == flagged(used) for t in inside)
    assert flagged(low - width * 1e-6) != flagged(used) != flagged(high + width * 1e-6)
    groups = {is_bad: [v for run, v in finite if is_degenerate(run) == is_bad] for is_bad in (0, 1)}
    healthy, degenerate = max(groups[0], key=lambda v: sign * v), min(groups[1], key=lambda v: sign * v)
    assert (rows[0]["healthy_edge"], rows[0]["degenerate_edge"]) == (close(healthy), close(degenerate))
    assert rows[0]["separates"] == (sign * healthy < sign * degenerate)
    assert rows[0]["n_degenerate"] == len(groups[1])


def test_each_strategy_walks_back_the_methods_whose_runs_it_flags(answer: Any) -> None:
    rows = {r["strategy"]: r for r in answer("decision_utility")}

    def gamma(run: Run) -> bool | None:
        values = [v for v in run.gamma if v is not None and math.isfinite(v)]
        return statistics.fmean(values) <= 0 if values else None

    def either(*parts: bool | None) -> bool | None:
        return True if any(parts) else None if None in parts else False

    def bad(run: Run) -> bool | None:
        return None if run.accuracy is None else not math.isfinite(run.accuracy)

    strategies: dict[str, Callable[[Run], bool | None]] = {
        "accuracy": bad,
        "accuracy + Γ": lambda run: either(bad(run), gamma(run)),
        **{f"accuracy + ({f})": lambda run, f=f: either(bad(run), run.fires[f]) for f in "abcd"},
        "all": lambda run: any(run.fires.values()),
    }
    assert rows.keys() == strategies.keys()
    for name, judge in strategies.items():
        decisions = {}
        for (method, _, penalty, frozen), runs in by_cell(RUNS).items():
            said = [judge(run) for run in runs if run.audited and run.aborted_at is None]
            if said and not frozen:
                known = [s for s in said if s is not None]
                label = method if not penalty else f"{method} λ={penalty}"
                decisions[label] = None if not known else sum(known) / len(known)
        walked = sorted(m for m, share in decisions.items() if share == 1)
        mixed = sorted(m for m, share in decisions.items() if share not in (None, 0, 1))
        row = rows[name]
        assert (row["walked_back"], row["mixed"]) == (", ".join(walked), ", ".join(mixed)), name
        assert row["n_methods"] == len(decisions)
        assert row["n_not_measured"] == sum(share is None for share in decisions.values())
        assert row["n_kept"] + row["n_walked_back"] + row["n_mixed"] + row["n_not_measured"] == row["n_methods"]
    assert rows["accuracy"]["walked_back"] == "" and "dfa" in rows["accuracy + (a)"]["mixed"]


def test_alignment_is_of_the_last_epoch_and_missing_is_counted(answer: Any) -> None:
    rows = {(*cell_in(r | {"width": 256}), r["layer"]): r for r in answer("alignment_by_layer")}
    for cell, runs in by_cell(RUNS).items():
        for layer in range(3):
            measured = by_seed(runs, lambda run, at=layer: run.gamma[at] if run.gamma else None)
            seeds = {run.seed for run in runs if run.counts and run.gamma}
            if not seeds:
                assert (*cell, layer) not in rows
                continue
            row, values = rows[(*cell, layer)], [*measured.values()]
            assert (row["n"], row["n_missing"]) == (len(values), len(seeds) - len(values))
            assert (row["mean"], row["sd"]) == (close(np.mean(values)) if values else None, close(sd(values)))
            assert (row["low"], row["high"]) == interval(values)
            has_null = any(run.gamma[layer] is not None for run in runs if run.counts and run.gamma)
            assert (row["null_low"], row["null_high"]) == ((-0.25, 0.25) if has_null else (None, None))
            assert row["n_beyond_null"] == sum(abs(v) > 0.25 for v in values)
    assert rows["dfa", 256, 0.0, False, 2]["mean"] is None and rows["dfa", 256, 0.0, False, 2]["n_missing"] == 3


def test_four_aggregations_of_one_network_and_the_change_of_sign(answer: Any) -> None:
    rows = {r["run_id"]: r for r in answer("aggregation_spread")}
    with_gamma = [run for run in RUNS if run.gamma and run.counts and run.experiment == "main"]
    assert rows.keys() == {run.run_id for run in with_gamma}
    for run in with_gamma:
        row, every = rows[run.run_id], [v for v in run.gamma if v is not None and math.isfinite(v)]
        deep = [v for v in run.gamma[1:] if v is not None and math.isfinite(v)]
        four = [np.mean(v) - pooled for v in (every, deep) if v for pooled in (0.0, 0.15)]
        assert (row["n_layers"], row["n_deep"]) == (len(every), len(deep))
        assert row["mean_all"] == close(four[0]) and row["pooled_all"] == close(four[1])
        assert row["mean_deep"] == (close(np.mean(deep)) if deep else None)
        assert row["spread"] == close(max(four) - min(four))
        assert row["sign_changes"] == (min(four) < 0 < max(four))
    assert Counter(r["sign_changes"] for r in rows.values()) == {True: 2, False: 6}


def test_stability_is_drift_or_noise_within_each_regime(answer: Any) -> None:
    rows = {(r["method"], r["penalty"], r["regime"]): r for r in answer("stability_submodes") if not r["frozen_blocks"]}
    dfa = rows["dfa", 0.0, "degenerate"]
    assert (dfa["n"], dfa["n_drift"], dfa["n_noise"], dfa["submode"]) == (3, 0, 3, "noise")
    assert dfa["stability_mean"] == close(np.mean([(0.5 + 0.1) / 2, 0.1, 0.1]))
    assert dfa["by_seed"] == "1: 0.30, 2: 0.10, 3: 0.10"
    bp = rows["bp", 0.0, "healthy"]
    assert (bp["n"], bp["n_drift"], bp["submode"]) == (3, 1, "MIXED")
    assert rows["ep", 0.0, "healthy"]["stability_sd"] is None


def test_equal_means_share_a_rank_and_only_the_trusted_have_a_second(answer: Any) -> None:
    rows = answer("leaderboard", "it's [two]")
    assert [(r["method"], r["rank"], r["trusted_rank"]) for r in rows] == [("bp", 1, 1), ("fa", 1, 1), ("dfa", 3, None)]
    last = answer("leaderboard")[-2:]
    assert {r["method"] for r in last} == {"cb", "sb"}
    assert [(r["n"], r["rank"], r["trusted_rank"], r["accuracy_mean"]) for r in last] == [(0, None, None, None)] * 2


def test_diverged_runs_of_any_status_are_listed_with_where_it_began(answer: Any) -> None:
    rows = {r["run_id"]: r for r in answer("diverged", "timed")}
    lost = {run.run_id: run for run in TIMED if not all(math.isfinite(v) for s in run.series.values() for v in s)}
    assert rows.keys() == lost.keys()
    for run_id, run in lost.items():
        points = sorted((i, k) for k, s in run.series.items() for i, v in enumerate(s) if not math.isfinite(v))
        row = rows[run_id]
        assert (row["first_epoch"], row["first_metric"], row["n_points"]) == (*points[0], len(points))
        assert row["n_metrics"] == len({key for _, key in points})
        assert row["accuracy_before"] == run.series[ACCURACY][points[0][0] - 1]
    assert {r["first_epoch"] for r in answer("diverged")} == {None}  # found by the audit alone
    assert len(answer("diverged")) == sum(r.fires["n"] and r.experiment == "main" for r in RUNS)


def test_every_run_is_listed_whatever_its_status(answer: Any) -> None:
    rows = {r["run_id"]: r for r in answer("runs", "~*")}
    assert {k: r["status"] for k, r in rows.items()} == {
        run.run_id: run.status for run in [*RUNS, *TIMED, *TOKEN, *TIMED_TOKEN]
    }
    failed = rows[TIMED[-1].run_id]
    assert (failed["last_epoch"], failed["verdict"]) == (1, "not audited") and math.isnan(failed["accuracy"])


def test_architectures_and_depths_stand_beside_each_other(answer: Any) -> None:
    rows = {(r["method"], r["width"]): r for r in answer("cross_architecture", "~[mi]*") if r["penalty"] == 0}
    assert rows["dfa", 512]["n_architectures"] == 1 and not rows["dfa", 512]["same_verdict"]
    assert rows["ep", 256]["same_verdict"]
    rows = {(cell_in(r), r["depth"]): r for r in answer("cross_depth", "~[dm]*")}
    deep = rows[("bp", 256, 0.01, False), 8]
    change, spread, pairs = less({1: 0.52, 3: 0.5}, accuracies("bp", 0.01))
    assert (deep["change_pp"], deep["change_sd"], deep["n_pairs"]) == (close(change), close(spread), pairs)
    assert (deep["n_depths"], deep["same_verdict"]) == (2, True)


def test_sql_and_report_round_a_margin_and_guess_an_error_alike() -> None:
    assert (frozen_control.ROUNDING_PP, grad_norm.CHANCE_ERROR) == (ROUNDING, 0.95)


def test_a_folder_of_an_earlier_version_is_asked_alone_and_beside_a_later_one(file: Path, tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"attach '{file}' as held (read_only)")
        connection.execute("use held")
        for folder, experiment, columns in (
            ("old", "main", "* exclude (stream_growth, chance_error, reference)"),
            ("new", "token", "*"),
        ):
            (tmp_path / folder).mkdir()
            runs = f"from runs where experiment = '{experiment}'"
            connection.execute(f"copy ({runs}) to '{tmp_path / folder}/runs.parquet'")
            audits = f"select {columns} from audits where run_id in (select run_id {runs})"
            connection.execute(f"copy ({audits}) to '{tmp_path / folder}/audits.parquet'")
    known = "select count(*), count(stream_growth), count(chance_error), count(reference) from audits"
    audited = sum(run.experiment == "main" and run.audited for run in RUNS)
    for path, expected in ((tmp_path / "old", (audited, 0, 0, 0)), (tmp_path, (audited + len(TOKEN), 5, 3, 0))):
        with connect(path) as connection:
            assert connection.sql(known).fetchall() == [expected]
            assert ask(connection, find_query("threshold_groups"), "main").fetchall()


def test_macros_of_others_in_a_database_that_is_written_are_made_anew(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "r.duckdb")) as connection:
        connection.execute(files("fa_tracking.results").joinpath("schema.sql").read_text(encoding="utf-8"))
        create_views(connection)
        connection.execute("create or replace macro share_saved(epoch, planned) as 7")
        create_views(connection)
        assert connection.execute("select share_saved(1, 4)").fetchall() == [(0.75,)]


def test_a_database_without_the_macros_is_named(file: Path, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "old.duckdb")) as connection:
        connection.execute(files("fa_tracking.results").joinpath("schema.sql").read_text())
    with connect(tmp_path / "old.duckdb") as connection, pytest.raises(FATrackError, match="fa-track export"):
        ask(connection, find_query("runs"), "main")
