"""Compares two cells of the database on one metric: which runs are meant, and what their seeds allow to say."""

import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, starmap
from typing import TYPE_CHECKING, Any

from fa_tracking import cells
from fa_tracking.errors import UsageError, meant
from fa_tracking.results.database import refuse_unknown, run_sql
from fa_tracking.results.statistics import (
    INCONCLUSIVE,
    LEVEL,
    Difference,
    Summary,
    difference,
    holm,
    summarise,
    without_noise,
)
from fa_tracking.tracking import names

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SELECTED = """
with asked as (
    select *, bool_or(is_audited) over (partition by experiment) as is_of_audited
    from runs_of(coalesce($experiment, '~*'))
),
wanted as (
    select unnest(range(len($conditions))) as place, unnest($conditions) as pair
),
found as (
    select run_id, place, value = plain(pair[2], pair[1]) as is_exact
    from asked_params() join wanted on key = pair[1] and lower(value) = lower(plain(pair[2], pair[1]))
    where run_id in (select run_id from asked)
    qualify is_exact or not bool_or(is_exact) over (partition by place)
)
select r.run_id, r.sample, r.cell, if(r.is_of_audited and not r.is_audited, 'not audited', r.state),
    (select arg_max(m.value, m.step) from metrics m where m.run_id = r.run_id and m.key = $metric) as value
from asked r
where len($conditions) = (select count(*) from found f where f.run_id = r.run_id)
order by r.seed, r.run_id
"""
"""A value in other letters is found where no run asked for has the very one."""

COMPLETE = "complete"

QUOTED = r'"(?:[^"\\]|\\.)*"'
PAIR = re.compile(rf'({QUOTED}|[^",=]+)=({QUOTED}|[^",]*)(?=,|$)')
PLAIN = re.compile(r'[^",=\s]([^",=]*[^",=\s])?')

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
class ComparedCell:
    """The runs that a selection names: one value a seed, repeated runs of a seed averaged.

    Attributes:
        runs: those behind the values, as in the query ``cross_seed``: neither aborted nor diverged.
        left_out: how many of its runs were aborted, diverged or, where any of the experiment is, not audited.
    """

    selection: str
    runs: tuple[str, ...]
    values: dict[object, float]
    summary: Summary
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Two cells and their difference; None where their seeds allow none."""

    metric: str
    a: ComparedCell
    b: ComparedCell
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
    """``compare`` of A with each of the others; where there are several, with p adjusted by Holm's method.

    What is concluded of each follows from the adjusted p: an interval of one difference is none of a family.
    """
    found = [compare(connection, metric, a, b, experiment, threshold) for b in others]
    tested = {i: d for i, comparison in enumerate(found) if (d := comparison.difference) and d.p is not None}
    if len(tested) > 1:
        adjusted = holm([d.p for d in tested.values() if d.p is not None])
        for (i, d), p in zip(tested.items(), adjusted, strict=True):
            conclusion = d.conclusion if p < 1 - LEVEL else INCONCLUSIVE
            found[i] = replace(found[i], p_holm=p, difference=replace(d, conclusion=conclusion))
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
    if shared := {*first.runs} & {*second.runs}:
        same = "match the same runs" if first.runs == second.runs else f"share {len(shared)} of their runs"
        raise UsageError(f"{a!r} and {b!r} {same}: there is nothing to compare")
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


def _cell_of(connection: "DuckDBPyConnection", metric: str, text: str, experiment: str | None) -> ComparedCell:
    conditions = [[key, value] for key, value in _parse(text)]
    params = {"metric": metric, "experiment": experiment, "conditions": conditions}
    rows = run_sql(connection, SELECTED, params).fetchall()
    if not rows:
        known = {key for (key,) in run_sql(connection, "select distinct key from asked_params()").fetchall()}
        if unknown := [key for key, _ in _parse(text) if key not in known]:
            near = meant(unknown[0], known)
            raise UsageError(
                f"no run has a param named {' or '.join(unknown)}{near}; there are: {', '.join(sorted(known))}"
            )
        raise UsageError(
            f'no finished run matches {text!r}; `fa-track sql "select distinct cell from runs"` lists cells'
        )
    runs = [row[0] for row in rows if row[3] == COMPLETE]
    left_out = Counter(row[3] for row in rows if row[3] != COMPLETE)
    if not runs:
        raise UsageError(f"all runs of {text!r} {_left_out(left_out)}: they are in no comparison")
    rows = [row for row in rows if row[3] == COMPLETE]
    if len({row[2] for row in rows}) > 1:
        differing = run_sql(connection, DIFFERING, {"runs": runs}).fetchall()
        said = " and ".join(f"{key} ({values})" for key, values in differing)
        raise UsageError(
            f"{text!r} matches {len({row[2] for row in rows})} cells, which differ in {said}: "
            f"name one, as {shlex.quote(_narrowed(connection, text, runs, [key for key, _ in differing]))} does"
        )
    logged = [(seed, value) for _, seed, _, _, value in rows if value is not None]
    if not logged:
        raise UsageError(f"no run of {text!r} logs the metric {metric!r}")
    by_seed: dict[object, list[float]] = {}
    for seed, value in logged:
        by_seed.setdefault(seed, []).append(value)
    values = {seed: _mean([v for v in found if math.isfinite(v)]) for seed, found in by_seed.items()}
    return ComparedCell(text, tuple(runs), values, summarise(list(values.values())), dict(left_out))


def _mean(values: Sequence[float]) -> float:
    """NaN of none."""
    return math.fsum(values) / len(values) if values else math.nan


def _left_out(runs: Mapping[str, int]) -> str:
    return " and ".join(f"{state} ({n})" for state, n in sorted(runs.items()))


def _narrowed(connection: "DuckDBPyConnection", text: str, runs: Sequence[str], keys: Sequence[str]) -> str:
    """The selection ``text`` with what makes it one cell of those that it matches: the first that has most params.

    Where it says one of these itself, as in letters that two values share, the value takes its place.
    """
    rows = run_sql(connection, PARAMS, {"runs": runs, "keys": keys}).fetchall()
    found = [[(key, value) for _, key, value in pairs] for _, pairs in groupby(rows, key=lambda row: row[0])]
    first = min(found, key=lambda cell: (-len(cell), cell))
    cell = dict(first)
    said = {key: cell.pop(key, value) for key, value in _parse(text)}
    return ",".join(starmap(_pair, [*said.items(), *cell.items()]))


def _pair(key: str, value: str) -> str:
    return "=".join(part if PLAIN.fullmatch(part) else json.dumps(part, ensure_ascii=False) for part in (key, value))


def _parse(text: str) -> list[tuple[str, str]]:
    """Params and values; in double quotes, as in JSON, what holds a comma, a quote or an equals sign."""
    pairs = [found.groups() for found in PAIR.finditer(text)]
    try:
        if ",".join(found[0] for found in PAIR.finditer(text)) != text or not pairs:
            raise ValueError
        return [(_unquoted(key), _unquoted(value)) for key, value in pairs]
    except ValueError as error:
        raise UsageError(
            f"{text!r} is no selection: write params and values, such as method=dfa,penalty=0.01"
        ) from error


def _unquoted(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') else text.strip(cells.BLANKS)


def _cell(cell: ComparedCell) -> str:
    s = cell.summary
    out = {**cell.left_out, **({"without a finite value": s.n_diverged} if s.n_diverged else {})}
    diverged = f"; left out: {_left_out(out)}" if out else ""
    if s.mean is None:
        return f"{cell.selection}: no finite value{diverged}"
    if s.sd is None:
        return f"{cell.selection}: {s.mean:.4g} (n = 1 seed{diverged})"
    sd = without_noise(s.mean, s.sd)
    return f"{cell.selection}: {s.mean:.4g} ± {sd:.2g} (mean ± sample s.d., n = {s.n} seeds{diverged})"


def _difference(d: Difference, a: str, b: str) -> str:
    test = f"paired t over {d.n_a} common seeds" if d.paired else f"Welch's t, n = {d.n_a} and {d.n_b}"
    left = f"; left out: seed {', '.join(map(str, d.left_out))}" if d.left_out else ""
    if d.low is None or d.high is None or d.p is None:
        return (
            f"Difference, {a} less {b}: {d.mean:+z.4g}; the {d.n_a} differences are equal, so that they show no spread "
            f"and allow no interval ({test}{left}): {INCONCLUSIVE}."
        )
    interval = f"{LEVEL:.0%} interval [{d.low:+z.4g}, {d.high:+z.4g}]"
    against = f" {d.threshold:+z.4g}" if d.threshold else " zero"
    verdict = INCONCLUSIVE if d.conclusion == INCONCLUSIVE else f"{d.conclusion}{against}"
    return f"Difference, {a} less {b}: {d.mean:+z.4g}, {interval}, p = {d.p:.2g} ({test}{left}): {verdict}."
