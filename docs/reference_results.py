"""Writes docs/reference-results/ from a results database: its tables as Parquet, less what belongs to one machine.

python docs/reference_results.py --db fa_results.duckdb [--to docs/reference-results/study]
"""

import argparse
from pathlib import Path

from fa_tracking.results.database import DEFAULT_DATABASE, connect

FOLDER = Path(__file__).parent / "reference-results"

FINISHED = "run_id in (select run_id from runs where status = 'FINISHED')"
RUNS = f"""
select * replace ('docs/reference-results' as source, null as artifact_uri) from runs where {FINISHED} order by run_id
"""
TAGS = f"""
select * from tags where {FINISHED} and key like 'fa.%' and key not in ('fa.data_dir', 'fa.process', 'fa.measured')
order by run_id, key
"""
TABLES = {
    "runs": RUNS,
    "tags": TAGS,
    "params": f"select * from params where {FINISHED} order by run_id, key",
    "metrics": f"select * from metrics where {FINISHED} order by run_id, key, step, timestamp",
    "layers": f"select * from layers where {FINISHED} order by run_id, step, layer",
    "knockouts": f"select * from knockouts where {FINISHED} order by run_id, removed",
    "functional": f"select * from functional where {FINISHED} order by run_id, layer, credit",
    "audits": f"select * from audits where {FINISHED} order by run_id",
}


def main() -> None:
    import pyarrow.parquet as pq

    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--db", default=DEFAULT_DATABASE)
    arguments.add_argument("--to", type=Path, default=FOLDER)
    given = arguments.parse_args()
    given.to.mkdir(exist_ok=True)
    with connect(given.db) as connection:
        for name, sql in TABLES.items():
            table = connection.sql(sql).to_arrow_table()
            pq.write_table(table, given.to / f"{name}.parquet", compression="zstd")
            print(f"{name:<10} {table.num_rows:>7} rows")


if __name__ == "__main__":
    main()
