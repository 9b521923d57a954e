"""Small numbers in the place of run ids and metric keys on their way into the database.

DuckDB sorts and groups four million numbers in a third of the time that the same text takes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


class Codes:
    """The numbers of the runs ``run_ids`` and of every key seen so far."""

    def __init__(self, run_ids: Sequence[str]) -> None:
        import pyarrow as pa

        self._runs = pa.array(sorted(run_ids), pa.string())
        self._keys: dict[str, int] = {}
        types = (pa.int32(), pa.int32(), pa.int64(), pa.float64(), pa.bool_(), pa.int64())
        self.schema = pa.schema(list(zip(("run", "key", "step", "value", "is_nan", "timestamp"), types, strict=True)))

    def encode(self, table: "pa.Table") -> "pa.Table":
        """Metric points of the columns ``sources.METRICS`` as ``schema``; null for a run that was not asked for."""
        import pyarrow as pa
        import pyarrow.compute as pc

        keys = table["key"].combine_chunks().dictionary_encode()
        known = [self._keys.setdefault(key, len(self._keys)) for key in keys.dictionary.to_pylist()]
        run = pc.index_in(table["run_id"].cast(pa.string()), value_set=self._runs)
        columns = [run, pa.array(known, pa.int32()).take(keys.indices)]
        columns += [table[name] for name in self.schema.names[2:]]
        return pa.table(columns, names=self.schema.names).cast(self.schema)

    def runs(self) -> "pa.Table":
        """``code, run_id``."""
        import pyarrow as pa

        return pa.table({"code": pa.array(range(len(self._runs)), pa.int32()), "run_id": self._runs})

    def keys(self) -> "pa.Table":
        """``code, key``."""
        import pyarrow as pa

        return pa.table({"code": pa.array(self._keys.values(), pa.int32()), "key": pa.array(self._keys, pa.string())})
