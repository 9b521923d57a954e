"""What `fa-track demo` has found, from the export: a row a cell, and two sentences."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fa_tracking.publishing.publication import mean_and_sd
from fa_tracking.publishing.tables import text_table
from fa_tracking.results.database import run_sql
from fa_tracking.spelled import short
from fa_tracking.tracking import names

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LETTERS = ("n", "a", "b", "c", "d")
CELLS = f"""
select
    method, coalesce(penalty, 0) as penalty, coalesce(frozen_blocks, false) as is_control, count(*) as n,
    avg(accuracy) filter (isfinite(accuracy)) as accuracy, stddev_samp(accuracy) filter (isfinite(accuracy)) as sd,
    avg(margin_pp) filter (isfinite(margin_pp)) as margin_pp,
    median(growth) filter (isfinite(growth)) as growth, median(grad_norm) filter (isfinite(grad_norm)) as grad_norm,
    avg(stability) filter (isfinite(stability)) as stability,
    count(*) filter (verdict = 'trustworthy') as trustworthy, count(*) filter (flags <> '') as flagged,
    [{", ".join(f"count(*) filter (fires_{letter})" for letter in LETTERS)}] as fired
from runs_of($experiment)
where run_id in (select run_id from tags where key = '{names.TAG_CONFIG_SHA256}' and list_contains($digests, value))
group by all order by method, penalty, is_control
"""
"""Of the runs of these configs alone: the experiment may hold others, such as those of an earlier version's demo."""


@dataclass(frozen=True)
class CellScores:
    """A cell over its seeds: means of accuracy, margin and stability, medians of growth and gradient norm.

    Attributes:
        n: runs; ``trustworthy`` and ``flagged`` are how many of them have that verdict.
        fired: how many runs each of ``LETTERS`` flags.
    """

    method: str
    penalty: float
    is_control: bool
    n: int
    accuracy: float | None
    sd: float | None
    margin_pp: float | None
    growth: float | None
    grad_norm: float | None
    stability: float | None
    trustworthy: int
    flagged: int
    fired: list[int]

    @property
    def name(self) -> str:
        return f"{self.method}{f' λ={self.penalty:g}' if self.penalty else ''}{' control' if self.is_control else ''}"


def cells(connection: "DuckDBPyConnection", experiment: str, digests: Collection[str]) -> list[CellScores]:
    """The cells of an experiment's finished runs that have one of these configs."""
    found = run_sql(connection, CELLS, {"experiment": experiment, "digests": [*digests]})
    return [CellScores(*row) for row in found.fetchall()]


def table(found: list[CellScores], room: int) -> str:
    """A row a cell, in ``room`` columns of text."""
    columns = ("runs", "accuracy", "(a)_growth", "(b)_‖g‖", "(c)_cosine", "(d)_margin_pp", "verdicts")
    rows = [
        (
            cell.name,
            mean_and_sd(cell.accuracy, cell.sd),
            *(_digits(v) for v in (cell.growth, cell.grad_norm, cell.stability, cell.margin_pp)),
            _counted(cell),
        )
        for cell in found
    ]
    return text_table(columns, rows, room, "fa-track query cross_seed")


def sentences(found: list[CellScores]) -> tuple[str, str]:
    """What became of DFA, and of BP and DFA with the penalty, as the numbers say it."""
    by_name = {cell.name: cell for cell in found}
    of = {(cell.method, bool(cell.penalty)): cell for cell in by_name.values() if not cell.is_control}
    dfa, bp, helped = (of.get(key) for key in (("dfa", False), ("bp", False), ("dfa", True)))
    numbers = [
        f"its residual stream grows {_spelled(dfa.growth)} times within a block" if dfa and dfa.growth else "",
        f"its deepest gradient norm is {_spelled(dfa.grad_norm)}" if dfa and dfa.grad_norm is not None else "",
    ]
    told = " and ".join(filter(None, numbers))
    first = _said("DFA", dfa) + (f"; {told}" if told else "")
    return f"{first}.", f"{_said('BP', bp)}; {_said('DFA with the penalty', helped)}."


def _said(name: str, cell: CellScores | None) -> str:
    """How far a cell has come, and what its verdicts are."""
    if cell is None:
        return f"{name} was not run"
    reached = f"{name} diverged" if cell.accuracy is None else f"{name} reached {100 * cell.accuracy:.1f} %"
    if cell.margin_pp is not None:
        side = "below" if cell.margin_pp < 0 else "above"
        reached += f", {abs(cell.margin_pp):.1f} pp {side} its control with frozen blocks,"
    return f"{reached} and is {_verdicts(cell)}"


def _verdicts(cell: CellScores) -> str:
    fired = [f"({letter}) on {k}" for letter, k in zip(LETTERS, cell.fired, strict=True) if k]
    said = {
        f"trustworthy on {cell.trustworthy}": cell.trustworthy,
        f"flagged on {cell.flagged}": cell.flagged,
        f"inconclusive on {(rest := cell.n - cell.trustworthy - cell.flagged)}": rest,
    }
    counts = " and ".join(text for text, number in said.items() if number)
    seeds = f" of {cell.n} seed{'' if cell.n == 1 else 's'}"
    return counts + seeds + (f", by {', '.join(fired)}" if fired else "")


def _counted(cell: CellScores) -> str:
    rest = cell.n - cell.trustworthy - cell.flagged
    fired = " ".join(f"{letter}×{k}" for letter, k in zip(LETTERS, cell.fired, strict=True) if k)
    marks = {"✓": cell.trustworthy, "⚑": cell.flagged, "?": rest}
    return " ".join([*(f"{k}{mark}" for mark, k in marks.items() if k), *filter(None, [fired])])


def _digits(value: float | None) -> float | None:
    """A number with three significant digits."""
    return None if value is None else float(f"{value:.3g}")


def _spelled(value: float) -> str:
    """The same as a sentence has it."""
    digits = float(f"{value:.3g}")
    return f"{digits:,.0f}" if digits >= 100 else short(digits)
