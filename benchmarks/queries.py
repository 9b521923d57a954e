"""Claim on `fa-track query`: each query of the catalogue answers over 10,000 runs × 4,000 points (40 metrics × 100
epochs) in under a second, warm, on two cores.

    python benchmarks/queries.py [--runs N] [--rounds N] [--db FILE] [--parquet]

The runs are one experiment of cells of ten seeds, their numbers random, written inside DuckDB in the order of an
export; Γ is missing where the gradient is below the floor, one value in 100,000 is NaN. Beside three of the queries
stands the same question in pandas, on data frames that already hold the columns it needs: their loading is not timed.
An answer is fetched as Arrow. With --parquet each query is asked of views over the same rows as Parquet too, in turn,
and the ratio stands beside it. --db keeps the database, and uses the one that is there.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path

import duckdb
import pandas as pd
from _timing import interleaved, machine

from fa_tracking.results.database import ask, connect, create_views, queries
from fa_tracking.results.export.parquet import write_parquet

EPOCHS = 100
SEEDS = 10
LAYERS = 5
EXPERIMENT = "benchmark"

RUNS = f"""
insert into runs by name
select
    md5(cast(i as varchar)) as run_id, 'benchmark' as source, '{EXPERIMENT}' as experiment, 'FINISHED' as status,
    make_timestamp(i * 1000000) as start_time, make_timestamp(i * 1000000 + 600000000) as end_time,
    ['bp', 'dfa', 'fa', 'ep', 'state_bridge'][cell % 5 + 1] as method,
    ['resmlp', 'small_cnn'][cell // 5 % 2 + 1] as architecture, [128, 256, 512][cell // 10 % 3 + 1] as width,
    [2, 4][cell // 30 % 2 + 1] as depth, 'cifar10' as dataset, i % {SEEDS} as seed, {EPOCHS} as epochs,
    0.001 as lr, [0, 0.001, 0.01][cell // 60 % 3 + 1] as penalty, cell // 180 % 2 = 1 as frozen_blocks,
    if(frozen_blocks, 0, depth) as trainable_blocks,
    128 + cell // 360 as batch_size, 'none' as augmentation, if(i % 97 = 0, 50, null) as aborted_at
from (select range as i, range // {SEEDS} as cell from range($runs));

insert into params
unpivot (
    select
        run_id, method, architecture, dataset, augmentation, cast(width as varchar) as width,
        cast(depth as varchar) as depth, cast(seed as varchar) as seed, cast(epochs as varchar) as epochs,
        cast(lr as varchar) as lr, cast(penalty as varchar) as penalty, cast(batch_size as varchar) as batch_size,
        cast(trainable_blocks as varchar) as trainable_blocks
    from runs
) on columns(* exclude (run_id)) into name key value value;

update runs set cell = c.cell from (
    select run_id, string_agg(key || '=' || value, ' ' order by key) as cell
    from params where key <> 'seed' group by run_id
) c where runs.run_id = c.run_id;
"""

METRICS = f"""
create temp table keys as
select unnest([
    'accuracy/test', 'accuracy/train', 'loss/train', 'diagnostics/max_block_growth', 'diagnostics/stream_growth',
    'diagnostics/deepest_grad_norm', 'diagnostics/grad_gain', 'diagnostics/chance_error', 'diagnostics/stability',
    'diagnostics/alignment_missing'
]) as key
union all
select prefix || layer
from unnest([
    'residual_norm/h', 'grad_norm/g', 'alignment/l', 'alignment_pooled/l', 'alignment_null/l', 'alignment_null_sd/l'
]) as p(prefix), range({LAYERS}) as l(layer);

insert into metrics
select
    run_id, key, step,
    case
        when random() < 1e-5 then 'nan'::double
        when key in ('diagnostics/max_block_growth', 'diagnostics/stream_growth') then exp(5 * random())
        when key in ('diagnostics/deepest_grad_norm', 'diagnostics/grad_gain') then exp(-12 - 6 * random())
        else random()
    end,
    make_timestamp(step * 1000000)
from (select key from keys order by key), (select run_id from runs order by run_id), range({EPOCHS}) as s(step);

insert into layers by name
select
    run_id, step, layer, exp(10 * random()) as residual_norm, if(has_gamma, 1e-4, 1e-9) as grad_norm,
    if(has_gamma, random() - 0.5, null) as alignment, if(has_gamma, random() - 0.5, null) as alignment_pooled,
    if(has_gamma, 0.02 * random() - 0.01, null) as alignment_null_mean, if(has_gamma, 0.02, null) as alignment_null_sd
from (
    select run_id, step, layer, random() < 0.7 and method <> 'bp' as has_gamma
    from runs, range({EPOCHS}) as s(step), range({LAYERS}) as l(layer)
);
"""

AUDITS = """
insert into audits by name
with measured as (
    select
        run_id, random() as headline_accuracy, 10 * random() - 2 as margin_pp, exp(6 * random()) as max_block_growth,
        exp(-10 - 10 * random()) as deepest_grad_norm, random() as stability, random() < 0.01 as fires_n
    from runs
),
fired as (
    select
        *, max_block_growth > 50 as fires_a, deepest_grad_norm < 1e-7 as fires_b, stability > 0.3 as fires_c,
        margin_pp < 2 as fires_d
    from measured
)
select
    *, concat_ws(',', if(fires_n, 'n', null), if(fires_a, 'a', null), if(fires_b, 'b', null), if(fires_c, 'c', null),
    if(fires_d, 'd', null)) as flags, if(flags = '', 'trustworthy', 'needs walk-back: ' || flags) as verdict,
    50 as h_norm_explosion_ratio, 1e-7 as g_norm_floor, 0.3 as stability_drift_ceiling, 2 as frozen_acc_margin_pp
from fired;

insert into knockouts
select run_id, removed, random(), 1280 from runs, unnest(['none', 'all', '0', '1', '2', '3']) as r(removed);
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=10_000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--db", type=Path)
    arguments.add_argument("--parquet", action="store_true")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = given.db or Path(folder) / "r.duckdb"
        if not database.is_file():
            build(database, given.runs)
        measure(database, given.rounds, given.parquet)
    print(machine())


def build(database: Path, runs: int) -> None:
    with duckdb.connect(str(database)) as connection:
        connection.execute(files("fa_tracking.results").joinpath("schema.sql").read_text())
        connection.execute("select setseed(0.5)")
        for sql in RUNS.split(";\n\n"):
            connection.execute(sql, {"runs": runs} if "$runs" in sql else None)
        for sql in (METRICS, AUDITS):
            connection.execute(sql)
        create_views(connection)


def measure(database: Path, rounds: int, as_parquet: bool) -> None:
    with ExitStack() as opened:
        connection = opened.enter_context(connect(database))
        copy = opened.enter_context(connect(_copied(database))) if as_parquet else None

        def answer(of: duckdb.DuckDBPyConnection, name: str) -> Callable[[], object]:
            return lambda: ask(of, queries()[name], EXPERIMENT).to_arrow_table()

        counted = connection.sql("select (select count(*) from runs), (select count(*) from metrics)").fetchall()
        runs, points = counted[0]
        size = database.stat().st_size / 1e6
        print(f"{runs:,} runs, {points:,} points, {size:,.0f} MB; warm, median of {rounds}")
        slowest = 0.0
        for name in queries():
            candidates = {"sql": answer(connection, name)}
            if copy:
                candidates["parquet"] = answer(copy, name)
            elif name in IN_PANDAS:
                candidates["pandas"] = IN_PANDAS[name](connection)
            times = interleaved(candidates, rounds, warmup=1)
            middle = {k: statistics.median(v) for k, v in times.items()}
            slowest = max(slowest, middle["sql"])
            rows = ask(connection, queries()[name], EXPERIMENT).shape[0]
            beside = "".join(f"   in {k} {v:7.3f} s" for k, v in middle.items() if k != "sql")
            of_file = f", {middle['parquet'] / middle['sql']:5.2f} of the file's" if copy else ""
            print(f"  {name:<22} {middle['sql']:7.3f} s  {rows:>9,} rows{beside}{of_file}", flush=True)
        print(f"slowest query {slowest:.3f} s")


def _copied(database: Path) -> Path:
    """The same rows as Parquet, beside the database."""
    folder = database.with_suffix("")
    if not folder.is_dir():
        write_parquet(database, folder)
    size = sum(file.stat().st_size for file in folder.rglob("*.parquet")) / 1e6
    print(f"as Parquet {size:,.0f} MB")
    return folder


def pandas_first_flag(connection: duckdb.DuckDBPyConnection) -> Callable[[], object]:
    """The first epoch of (a), (b), (c) and of what is not finite, and the accuracy there and at the end."""
    audits = connection.sql(
        "select run_id, h_norm_explosion_ratio, g_norm_floor, stability_drift_ceiling from audits"
    ).df()
    points = connection.sql(
        "select run_id, key, step, value from metrics where key in ('accuracy/test', 'diagnostics/max_block_growth', "
        "'diagnostics/stream_growth', 'diagnostics/deepest_grad_norm', 'diagnostics/grad_gain', "
        "'diagnostics/chance_error', 'diagnostics/stability')"
    ).df()

    def answer() -> pd.DataFrame:
        wide = points.pivot(index=["run_id", "step"], columns="key", values="value").reset_index()
        wide = wide.merge(audits, on="run_id")
        growth, grad = wide["diagnostics/max_block_growth"], wide["diagnostics/deepest_grad_norm"]
        explained = (
            wide["diagnostics/grad_gain"] * wide["diagnostics/chance_error"].fillna(0.95) >= wide["g_norm_floor"]
        )
        ratio = wide["h_norm_explosion_ratio"]
        fired = {
            "a": (growth > ratio) & ~(wide["diagnostics/stream_growth"] <= ratio),
            "b": (grad < wide["g_norm_floor"]) & ~explained,
            "c": wide["diagnostics/stability"] > wide["stability_drift_ceiling"],
            "n": wide[["diagnostics/max_block_growth", "diagnostics/deepest_grad_norm"]].isna().any(axis=1),
        }
        fired["first"] = fired["a"] | fired["b"] | fired["n"]
        found = pd.DataFrame({k: wide[f].groupby(wide["run_id"])["step"].min() for k, f in fired.items()})
        at = wide.set_index(["run_id", "step"])["accuracy/test"]
        found["at_first"] = (
            found["first"]
            .reset_index()
            .merge(at.reset_index(), left_on=["run_id", "first"], right_on=["run_id", "step"], how="left")[
                "accuracy/test"
            ]
            .to_numpy()
        )
        found["at_end"] = wide.sort_values("step").groupby("run_id")["accuracy/test"].last()
        return found

    return answer


def pandas_cross_seed(connection: duckdb.DuckDBPyConnection) -> Callable[[], object]:
    """The means and sample deviations of accuracy and margin by cell, one number a seed; no flags, no verdicts."""
    runs = connection.sql("select run_id, cell, seed, aborted_at from runs").df()
    audits = connection.sql("select run_id, headline_accuracy, margin_pp, fires_n from audits").df()

    def answer() -> pd.DataFrame:
        joined = runs.merge(audits, on="run_id", how="left")
        counted = joined[joined["aborted_at"].isna() & ~joined["fires_n"].fillna(True)]
        by_seed = counted.groupby(["cell", "seed"])[["headline_accuracy", "margin_pp"]].mean()
        return by_seed.groupby("cell").agg(["mean", "std", "count"])

    return answer


def pandas_alignment_by_layer(connection: duckdb.DuckDBPyConnection) -> Callable[[], object]:
    """Mean, sample deviation and n of Γ by cell and layer at the last epoch, beside the null's mean."""
    runs = connection.sql("select run_id, cell, seed from runs where aborted_at is null").df()
    layers = connection.sql("select run_id, step, layer, alignment, alignment_null_mean from layers").df()

    def answer() -> pd.DataFrame:
        last = layers[layers["step"] == layers.groupby("run_id")["step"].transform("max")]
        joined = runs.merge(last, on="run_id")
        by_seed = joined.groupby(["cell", "layer", "seed"])[["alignment", "alignment_null_mean"]].mean()
        return by_seed.groupby(["cell", "layer"]).agg(["mean", "std", "count"])

    return answer


IN_PANDAS = {
    "first_flag": pandas_first_flag,
    "cross_seed": pandas_cross_seed,
    "alignment_by_layer": pandas_alignment_by_layer,
}


if __name__ == "__main__":
    main()
