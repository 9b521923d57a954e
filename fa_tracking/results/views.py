"""The views and macros that the queries share, made in a connection."""

import re
from importlib.resources import files
from typing import TYPE_CHECKING

from fa_tracking import cells
from fa_tracking.protocol.diagnostics import frozen_control, grad_norm
from fa_tracking.protocol.verdicts import OTHER_THRESHOLDS, THRESHOLDS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def create_views(connection: "DuckDBPyConnection") -> None:
    """What the queries share, over the tables of schema.sql: created, or brought up to date where it is not."""
    views = files("fa_tracking.results").joinpath("views.sql").read_text(encoding="utf-8")
    absent = ", ".join(f"'{key}': '{value}'" for key, value in cells.ABSENT.items())
    words = ", ".join(f"'{key}'" for key in cells.WORDS)
    filled = {"absent": f"map {{{absent}}}", "words": f"({words})", "other_thresholds": f"'{OTHER_THRESHOLDS}'"}
    filled |= {"chance_error": repr(grad_norm.CHANCE_ERROR), "rounding_pp": repr(frozen_control.ROUNDING_PP)}
    filled |= {name: repr(value) for name, value in THRESHOLDS.items()}
    connection.execute(re.sub(rf"\$({'|'.join(filled)})\b", lambda found: filled[found[1]], views))
