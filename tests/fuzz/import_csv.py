"""`fa-track import csv`: tables, and exports that hold several trainings."""

from pathlib import Path

from hypothesis import strategies as st

from fa_tracking.importers import _fields, csv_log
from fa_tracking.importers._params import Given
from fa_tracking.importers._standard import standard

from ._values import edited

TITLE = "import csv: tables"
WEIGHT = 10

TABLE = b"""method,seed,depth,epoch,test_acc,h_0_norm,h_L_norm,note
dfa,1,4,1,0.4,3.0,9.0,warm
dfa,1,4,2,0.5,nan,inf,
"""
EXPORT = b""""Step","a - test_acc","a - test_acc__MIN","a - test_acc__MAX","b - loss","b - loss__MIN","b - loss__MAX"
"1","0.2","0.2","0.2","","",""
"2","0.3","0.3","0.3","1.0","0.9","1.1"
"""
PARTS = [b'"', b'""', b",", b";", b"\t", b"\r", b"\x00", b"\xff", b"epoch,", b" - ", b"__MIN", b"1e999", b"-1"]


def inputs() -> st.SearchStrategy[bytes]:
    return edited(TABLE, PARTS) | edited(EXPORT, PARTS)


def feed(value: bytes, folder: Path) -> None:
    log = folder / "log.csv"
    log.write_bytes(value)
    for raw in csv_log.read(log, _fields.Fields()):
        standard(log, raw, _fields.Fields(), Given())
