"""The views and macros that the queries share, made in a connection.

They stand in the database file, so that any DuckDB client can ask what the catalogue asks:
``select * from cells_of('~*')``. A view takes the experiment that it is asked for, so each is a macro.
"""

import re
from importlib.resources import files
from typing import TYPE_CHECKING

from fa_tracking import cells
from fa_tracking.protocol.diagnostics import catalogue, frozen_control, grad_norm, stored
from fa_tracking.protocol.verdicts import OTHER_THRESHOLDS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PARTS = ("values", "cells", "statistics", "rules", "runs", "epochs", "judgements")
"""The files of ``macros/``, in the order in which they are made: each asks only what stands before it."""


def create_views(connection: "DuckDBPyConnection") -> None:
    """What the queries share, over the tables of schema.sql: created, or brought up to date where it is not."""
    connection.execute(views_sql())


def views_sql() -> str:
    """The SQL of all views, with what it takes from Python filled in."""
    folder = files("fa_tracking.results").joinpath("macros")
    views = "\n".join(folder.joinpath(f"{part}.sql").read_text(encoding="utf-8") for part in PARTS)
    filled = _filled()
    return re.sub(rf"\$({'|'.join(filled)})\b", lambda found: filled[found[1]], views)


def _filled() -> dict[str, str]:
    own = [d.THRESHOLD for d in stored()]
    others = {d.FLAG: d.THRESHOLD for d in catalogue() if hasattr(d, "THRESHOLD")}
    further = {flag: repr(t.default) for flag, t in others.items() if t not in own}
    signs = {flag: {"above": "1", "below": "-1"}[t.fires] for flag, t in others.items()}
    return {
        "absent": _map({key: _text(value) for key, value in cells.ABSENT.items()}),
        "words": f"({', '.join(map(_text, cells.WORDS))})",
        "chance_error": repr(grad_norm.CHANCE_ERROR),
        "rounding_pp": repr(frozen_control.ROUNDING_PP),
        "signs": _map(signs),
        "threshold_names": ", ".join(t.name for t in own),
        "is_other": " or ".join(f"coalesce({t.name} <> {t.default!r}, false)" for t in own),
        "further_thresholds": f"cast({_map(further)} as map(varchar, double))",
        "other_thresholds": _text(OTHER_THRESHOLDS),
    }


def _map(values: dict[str, str]) -> str:
    return f"map {{{', '.join(f'{_text(key)}: {value}' for key, value in values.items())}}}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
