"""Reads the cells of an experiment out of the database, each with its runs, their layers and their controls."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from statistics import fmean
from typing import TYPE_CHECKING, Any

from fa_tracking import cells
from fa_tracking.errors import UsageError
from fa_tracking.results.database import refuse_unknown, run_sql
from fa_tracking.tracking import names

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Row = dict[str, Any]

FINISHED = "FINISHED"
FREE = ("method", "architecture", "dataset")
"""The params that the name of a cell always holds; of the others, those that set it apart."""

RUNS = """
select
    r.* replace (coalesce(r.cell, '') as cell), sample_of(r.run_id, r.seed) as sample,
    a.* exclude (run_id) replace (shown_verdict(
        a.verdict, a.h_norm_explosion_ratio, a.g_norm_floor, a.stability_drift_ceiling, a.frozen_acc_margin_pp,
        further := a.further
    ) as verdict), a.run_id is not null as is_audited,
    coalesce(a.fires_n, false) or coalesce(not isfinite(a.headline_accuracy), false) as is_diverged,
    (select arg_max(value, step) from metrics m where m.run_id = r.run_id and key = $accuracy) as last_accuracy,
    (select max(timestamp) from metrics m where m.run_id = r.run_id and key in ($accuracy, $norm)) as logged_at,
    exists (from metrics m where m.run_id = r.run_id and key = $missing) as has_credit,
    (select map_from_entries(list((key, value))) from params p where p.run_id = r.run_id) as params,
    (select map_from_entries(list((key, value))) from tags t where t.run_id = r.run_id) as tags
from runs r left join audits a using (run_id)
where {which}
order by
    coalesce(frozen_blocks, false), method, architecture, width, depth, epochs, lr, penalty, cell, seed, start_time,
    run_id
"""

LAYERS = """
select l.*, r.sample
from layers l
join (
    select run_id, sample_of(run_id, seed) as sample, epoch
    from runs left join audits using (run_id) where list_contains($ids, run_id)
) r using (run_id)
where step = coalesce(r.epoch, (select max(step) from layers o where o.run_id = l.run_id))
order by r.run_id, layer
"""

SIZES = """
select coalesce(cell, '') as cell, count(*) as n
from runs semi join (select distinct experiment from runs where list_contains($ids, run_id)) using (experiment)
group by all
"""


@dataclass(frozen=True)
class Cell:
    """The runs that differ in their seed alone.

    Attributes:
        name: method, architecture, data, and the params that set the cells read together apart.
        runs: of any status, by seed: the columns of runs and audits, ``params`` and ``tags``.
        layers: of the audited epoch of each finished run, else of its last.
        controls: the runs of the database that stand in ``control_runs``, by id.
        serves: names of the cells whose audits name a run of this one as their control.
        others: how many more runs the cell has that were not asked for.
    """

    name: str
    runs: list[Row]
    layers: list[Row]
    controls: dict[str, Row]
    serves: list[str]
    others: int

    @property
    def first(self) -> Row:
        return self.runs[0]

    @property
    def params(self) -> dict[str, str]:
        """Whatever its runs log but the seed: one may leave out what another says in so many words."""
        return {key: value for run in self.runs for key, value in run["params"].items() if key != cells.SEED}

    @property
    def finished(self) -> list[Row]:
        return [run for run in self.runs if run["status"] == FINISHED]

    @property
    def planned(self) -> list[Row]:
        """The finished runs that went to their end: the cell's verdict is theirs."""
        return [run for run in self.finished if run["aborted_at"] is None]

    @property
    def measured(self) -> list[Row]:
        """Those that were audited and did not diverge: the means are theirs."""
        return [run for run in self.planned if run["is_audited"] and not run["is_diverged"]]

    @property
    def control_ids(self) -> list[str]:
        return list(dict.fromkeys(control for run in self.finished for control in run["control_runs"] or ()))

    @property
    def is_frozen(self) -> bool:
        return bool(self.first["frozen_blocks"])

    @property
    def control_values(self) -> list[float]:
        """The accuracies of the control runs that the database holds, one a seed; what is not finite is in none."""
        found = [self.controls[i] for i in self.control_ids if i in self.controls]
        finite = [c for c in found if c["last_accuracy"] is not None and isfinite(c["last_accuracy"])]
        return per_sample(finite, lambda run: run["last_accuracy"])

    def values(self, column: str) -> list[float]:
        """One value a seed of the measured runs, repeated runs of one averaged; NaN where none is finite."""
        return per_sample(self.measured, lambda run: run[column])

    def at_layer(self, layer: int, column: str) -> list[float]:
        """The same of a column of layers."""
        counted = {run["run_id"] for run in self.measured}
        rows = [row for row in self.layers if row["layer"] == layer and row["run_id"] in counted]
        return per_sample(rows, lambda row: row[column])


def read(connection: "DuckDBPyConnection", experiment: str | None, runs: Sequence[str] = ()) -> list[Cell]:
    """The cells of an experiment (a name or a pattern), or those of runs by their ids or unique beginnings of these.

    Raises:
        UsageError: the database holds no such experiment, or not one such run.
    """
    if experiment is not None:
        refuse_unknown(connection, experiment)
        asked = _runs(connection, "is_asked(experiment, $experiment)", experiment=experiment)
    else:
        ids = [_whole(connection, run) for run in runs]
        asked = _runs(connection, "list_contains($ids, r.run_id)", ids=ids)
    ids = [run["run_id"] for run in asked]
    named = sorted({control for run in asked for control in run["control_runs"] or ()})
    layers = _rows(connection, LAYERS, {"ids": ids})
    controls = _runs(connection, "list_contains($ids, r.run_id)", ids=named)
    served = _runs(connection, "list_has_any(coalesce(a.control_runs, []), $ids)", ids=ids)
    whole = _rows(connection, SIZES, {"ids": ids})
    by_cell: dict[str, list[Row]] = defaultdict(list)
    for run in asked:
        by_cell[run["cell"]].append(run)
    varied = cells.varied((cells.apart(rows[0]["params"]) for rows in by_cell.values()), FREE)
    found = []
    for cell, rows in by_cell.items():
        inside = {run["run_id"] for run in rows}
        used = {control for run in rows for control in run["control_runs"] or ()}
        serves = [run for run in served if inside & {*run["control_runs"]}]
        found.append(
            Cell(
                name=described(rows[0], varied),
                runs=rows,
                layers=[row for row in layers if row["run_id"] in inside],
                controls={run["run_id"]: run for run in controls if run["run_id"] in used},
                serves=list(dict.fromkeys(f"{described(run, varied)} ({run['experiment']})" for run in serves)),
                others=sum(size["n"] for size in whole if size["cell"] == cell) - len(rows),
            )
        )
    return found


def per_sample(rows: Sequence[Row], value: Callable[[Row], float | None]) -> list[float]:
    """One value a sample, the mean of its finite ones; NaN where none is. Samples without a value are left out."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if (number := value(row)) is not None:
            found[row["sample"]].append(number)
    finite = ([v for v in values if isfinite(v)] for values in found.values())
    return [fmean(values) if values else nan for values in finite]


def described(run: Mapping[str, Any], varied: Collection[str]) -> str:
    """A run's cell in words: what it is, and the params in ``varied``."""
    params = cells.apart(run["params"])
    named = [params.get("method", "no method"), *(params[key] for key in FREE[1:] if key in params)]
    apart = [f"{key} = {cells.meaning(params, key) or '–'}" for key in sorted({*varied} - {names.TRAINABLE_BLOCKS})]
    return ", ".join(filter(None, [*named, *apart, cells.blocks_in_words(params)]))


def seed_of(run: Row) -> str | None:
    """The seed of a run, whole or not; None of one without."""
    return None if run["sample"] == run["run_id"] else str(run["sample"])


def _runs(connection: "DuckDBPyConnection", which: str, **params: Any) -> list[Row]:
    keys = {"accuracy": names.ACCURACY_TEST, "norm": names.residual_norm(0), "missing": names.ALIGNMENT_MISSING}
    rows = _rows(connection, RUNS.format(which=which), params | keys)
    return [row | {"params": row["params"] or {}, "tags": row["tags"] or {}} for row in rows]


def _rows(connection: "DuckDBPyConnection", sql: str, params: Mapping[str, Any]) -> list[Row]:
    answer = run_sql(connection, sql, params)
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.fetchall()]


def _whole(connection: "DuckDBPyConnection", run: str) -> str:
    """The id that begins with ``run``."""
    beginning = "select run_id from runs where starts_with(run_id, $run) order by run_id"
    found = [row["run_id"] for row in _rows(connection, beginning, {"run": run})]
    if run in found:
        return run
    if not found:
        raise UsageError(f"the database holds no run {run!r} (`fa-track export` brings it up to date)")
    if len(found) > 1:
        raise UsageError(f"{len(found)} runs begin with {run!r}: {', '.join(found[:3])}, …; give more of the id")
    return str(found[0])
