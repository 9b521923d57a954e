"""`fa-track import json`: logs and maps."""

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fa_tracking.importers import _fields, json_log
from fa_tracking.importers._params import Given
from fa_tracking.importers._standard import standard

from ._values import as_json, changed, edited, texts

TITLE = "import json: logs and their maps"
WEIGHT = 20

LOG = {
    "method": "dfa",
    "seed": 1,
    "depth": 4,
    "frozen_blocks": False,
    "final_test_acc": 0.5,
    "log": [
        {"epoch": 1, "test_acc": 0.4, "h_L_norm": 3.0, "g_0_norm": 1e-5, "nested": {"a": [1, {"b": 2}]}},
        {"epoch": 2, "test_acc": 0.5, "h_L_norm": 9.0, "g_0_norm": 1e-6, "nested": {"a": [1, {"b": 3}]}},
    ],
}
MAP = """
log = "log"
ignore = ["nested"]
path = '(?P<seed>\\d+)'
[params]
width = "w"
[metrics]
"accuracy/test" = { key = "test_acc", scale = 1.0 }
"residual_norm/h0" = "nested.a.0"
"""


def inputs() -> st.SearchStrategy[tuple[bytes, bytes]]:
    logs = changed(LOG).map(as_json) | edited(as_json(LOG), [b"NaN", b"1e999", b'"epoch":1,', b"[" * 5000, b"\xff"])
    maps = st.just(b"") | edited(MAP.encode()) | texts.map(lambda t: f"log = {json.dumps(t)}".encode())
    return st.tuples(logs, maps)


def feed(value: Any, folder: Path) -> None:
    log, mapped = (folder / "log.json", folder / "map.toml")
    log.write_bytes(value[0])
    mapped.write_bytes(value[1])
    fields = _fields.load(mapped)
    for raw in json_log.read(log, fields):
        standard(log, raw, fields, Given())
