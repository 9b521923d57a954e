"""Files of claims: YAML, and the SQL in them."""

from pathlib import Path

from hypothesis import strategies as st

from fa_tracking.publishing import claim_check, claim_history, claim_summary, claims

from . import _database
from ._values import BOMB, as_json, changed, edited, yaml_text
from .sql import STATEMENTS

TITLE = "claims: YAML, their SQL and their record"
WEIGHT = 2

CLAIMS = {
    "title": "T",
    "experiment": "e",
    "claims": [
        {
            "sentence": "s",
            "query": "select * from runs",
            "where": "seed = 0",
            "holds": "method = 'dfa'",
            "show": ["seed"],
        }
    ],
}
HISTORY = {"0123456789abcdef": {"date": "2026-01-01", "digest": "d", "n": 1, "sentence": "s"}}


def inputs() -> st.SearchStrategy[tuple[bytes, bytes]]:
    _database.connection()
    sql = st.sampled_from(STATEMENTS).map(lambda s: s.replace("{p}", "/etc/passwd").replace("{f}", "read_text"))
    files = (
        changed(CLAIMS).map(yaml_text) | changed(CLAIMS, sql).map(yaml_text) | edited(yaml_text(CLAIMS)) | st.just(BOMB)
    )
    return st.tuples(files, changed(HISTORY).map(as_json) | edited(as_json(HISTORY)))


def feed(value: tuple[bytes, bytes], folder: Path) -> None:
    path, record = folder / "claims.yaml", folder / "claims.history.json"
    path.write_bytes(value[0])
    record.write_bytes(value[1])
    made = claims.load(path)
    checked = claim_check.check(_database.connection(), made, claim_history.read_history(record))
    assert "root:" not in claim_summary.summary(made.title, checked)
