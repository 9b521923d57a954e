"""Compares two cells of the database on one metric: which runs are meant, and what their seeds allow to say."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from fa_tracking.errors import UsageError
from fa_tracking.results.database import refuse_unknown, run_sql
from fa_tracking.results.statistics import LEVEL, Difference, Summary, difference, holm, summarise
from fa_tracking.results.tables import without_noise
from fa_tracking.tracking import names

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SELECTED = """
select r.run_id, coalesce(cast(r.seed as varchar), r.run_id) as seed, r.cell,
    (select arg_max(m.value, m.step) from metrics m where m.run_id = r.run_id and m.key = $metric) as value
from runs r
where r.status = 'FINISHED' and is_asked(r.experiment, coalesce($experiment, '*')) and len($conditions) = (
    select count(*) from asked_params() p join (select unnest($conditions) as wanted) on p.key = wanted[1]
    where p.run_id = r.run_id
        and (lower(p.value) = lower(wanted[2]) or try_cast(p.value as double) = try_cast(wanted[2] as double))
)
order by r.seed, r.run_id
"""

DIFFERING = """
select key, string_agg(distinct value, ', ' order by value) as found
from asked_params()
where list_contains($runs, run_id) and key <> 'seed' and not (key = 'frozen_blocks' and says_blocks(key, value))
group by key having count(distinct value) > 1 or count(*) < len($runs)
order by key
"""

PARAMS = """
select run_id, key, value from asked_params() where list_contains($runs, run_id) and list_contains($keys, key)
order by run_id, key
"""


@dataclass(frozen=True)
class Cell:
    """The runs that a selection names: one value a seed, repeated runs of a seed averaged."""

    selection: str
    runs: tuple[str, ...]
    values: dict[object, float]
    summary: Summary


@dataclass(frozen=True)
class Comparison:
    """Two cells and their difference; None where their seeds allow none."""

    metric: str
    a: Cell
    b: Cell
    difference: Difference | None
    also_differ: tuple[str, ...]
    p_holm: float | None = None
    """p adjusted for the other comparisons of its family; None where it stands alone."""

    def sentence(self) -> str:
        """What a paper could say."""
        said = [f"{self.metric}: {_cell(self.a)}; {_cell(self.b)}."]
        if self.difference is None:
            said.append("Fewer than two seeds a cell: no difference can be tested.")
        else:
            said.append(_difference(self.difference, self.a.selection, self.b.selection))
        if self.p_holm is not None:
            said.append(f"Adjusted for the family (Holm): p = {self.p_holm:.2g}.")
        if self.also_differ:
            said.append(f"The cells also differ in {', '.join(self.also_differ)}.")
        return " ".join(said)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, NaN and infinities as strings."""
        from pydantic_core import to_jsonable_python

        plain: dict[str, Any] = to_jsonable_python(asdict(self), inf_nan_mode="strings")
        return plain


def compare_family(
    connection: "DuckDBPyConnection",
    metric: str,
    a: str,
    others: Sequence[str],
    experiment: str | None = None,
    threshold: float = 0.0,
) -> list[Comparison]:
    """``compare`` of A with each of the others; where there are several, with p adjusted by Holm's method."""
    found = [compare(connection, metric, a, b, experiment, threshold) for b in others]
    tested = [i for i, comparison in enumerate(found) if comparison.difference]
    if len(tested) > 1:
        adjusted = holm([found[i].difference.p for i in tested])  # type: ignore[union-attr]
        for i, p in zip(tested, adjusted, strict=True):
            found[i] = replace(found[i], p_holm=p)
    return found


def compare(
    connection: "DuckDBPyConnection", metric: str, a: str, b: str, experiment: str | None = None, threshold: float = 0.0
) -> Comparison:
    """A less B at the last logged step of ``metric``.

    Args:
        a, b: selections such as ``method=dfa,penalty=0.01``: params and their values.
        threshold: what the difference is asked to exceed.

    Raises:
        UsageError: a selection is malformed, matches no run or several cells, or no run of it logs the metric; both
            match the same runs; the database holds no such experiment; the threshold is not finite.
    """
    if not math.isfinite(threshold):
        raise UsageError(f"a threshold of {threshold} can be neither exceeded nor missed: give a number")
    if experiment is not None:
        refuse_unknown(connection, experiment)
    first, second = (_cell_of(connection, metric, text, experiment) for text in (a, b))
    if first.runs == second.runs:
        raise UsageError(f"{a!r} and {b!r} match the same runs: there is nothing to compare")
    named = {key for text in (a, b) for key, _ in _parse(text)}
    differing = dict(run_sql(connection, DIFFERING, {"runs": [*first.runs, *second.runs]}).fetchall())
    if names.FROZEN_BLOCKS in named and "0" in differing.get(names.TRAINABLE_BLOCKS, "").split(", "):
        named.add(names.TRAINABLE_BLOCKS)  # one is frozen and the other is not, in other words
    named |= {by for of, by in (("architecture", "definition"), ("method", "rule_definition")) if of in named}
    try:
        found = difference(first.values, second.values, threshold)
    except ValueError:
        found = None
    return Comparison(metric, first, second, found, tuple(key for key in differing if key not in named))


def _cell_of(connection: "DuckDBPyConnection", metric: str, text: str, experiment: str | None) -> Cell:
    conditions = [[key, value] for key, value in _parse(text)]
    params = {"metric": metric, "experiment": experiment, "conditions": conditions}
    rows = run_sql(connection, SELECTED, params).fetchall()
    if not rows:
        known = {key for (key,) in run_sql(connection, "select distinct key from asked_params()").fetchall()}
        if unknown := [key for key, _ in _parse(text) if key not in known]:
            raise UsageError(f"no run has a param named {' or '.join(unknown)}; there are: {', '.join(sorted(known))}")
        raise UsageError(
            f'no finished run matches {text!r}; `fa-track sql "select distinct cell from runs"` lists cells'
        )
    runs = [row[0] for row in rows]
    if len({row[2] for row in rows}) > 1:
        differing = run_sql(connection, DIFFERING, {"runs": runs}).fetchall()
        said = " and ".join(f"{key} ({values})" for key, values in differing)
        raise UsageError(
            f"{text!r} matches {len({row[2] for row in rows})} cells, which differ in {said}: "
            f"name one, as {shlex.quote(_narrowed(connection, text, runs, [key for key, _ in differing]))} does"
        )
    logged = [(seed, value) for _, seed, _, value in rows if value is not None]
    if not logged:
        raise UsageError(f"no run of {text!r} logs the metric {metric!r}")
    by_seed: dict[object, list[float]] = {}
    for seed, value in logged:
        by_seed.setdefault(seed, []).append(value)
    values = {seed: math.fsum(v) / len(v) if all(map(math.isfinite, v)) else math.nan for seed, v in by_seed.items()}
    return Cell(text, tuple(runs), values, summarise(list(values.values())))


def _narrowed(connection: "DuckDBPyConnection", text: str, runs: Sequence[str], keys: Sequence[str]) -> str:
    """The selection ``text`` with what makes it one cell of those that it matches: the first that has most params."""
    rows = run_sql(connection, PARAMS, {"runs": runs, "keys": keys}).fetchall()
    cells = [[f"{key}={value}" for _, key, value in pairs] for _, pairs in groupby(rows, key=lambda row: row[0])]
    return ",".join([text, *min(cells, key=lambda cell: (-len(cell), cell))])


def _parse(text: str) -> list[tuple[str, str]]:
    pairs = [part.partition("=") for part in text.split(",")]
    if any(not key.strip() or not sign for key, sign, _ in pairs):
        raise UsageError(f"{text!r} is no selection: write params and values, such as method=dfa,penalty=0.01")
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def _cell(cell: Cell) -> str:
    s = cell.summary
    diverged = f", {s.n_diverged} more diverged" if s.n_diverged else ""
    if s.mean is None:
        return f"{cell.selection}: no finite value{diverged}"
    if s.sd is None:
        return f"{cell.selection}: {s.mean:.4g} (n = 1 seed{diverged})"
    sd = without_noise(s.mean, s.sd)
    return f"{cell.selection}: {s.mean:.4g} ± {sd:.2g} (mean ± sample s.d., n = {s.n} seeds{diverged})"


def _difference(d: Difference, a: str, b: str) -> str:
    test = f"paired t over {d.n_a} common seeds" if d.paired else f"Welch's t, n = {d.n_a} and {d.n_b}"
    left = f"; left out: seed {', '.join(map(str, d.left_out))}" if d.left_out else ""
    interval = f"{LEVEL:.0%} interval [{d.low:+.4g}, {d.high:+.4g}]"
    against = f" {d.threshold:+.4g}" if d.threshold else " zero"
    verdict = "inconclusive" if d.conclusion == "inconclusive" else f"{d.conclusion}{against}"
    return f"Difference, {a} less {b}: {d.mean:+.4g}, {interval}, p = {d.p:.2g} ({test}{left}): {verdict}."
