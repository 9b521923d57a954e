"""Marks and symbols on a terminal or in a file whose encoding lacks them: spelled out, instead of a traceback."""

import codecs
import io
import sys

SPELLED = {
    **{"✓": "+", "⚑": "!", "✗": "x", "–": "-", "—": "-", "─": "-", "…": "...", "·": "."},
    **{"≥": ">=", "≤": "<=", "±": "+/-", "×": "x", "‖": "|", "λ": "lambda", "Γ": "Gamma", "→": "->"},
}


def spell_out() -> None:
    """Make stdout and stderr take every text: what they cannot encode is spelled out, or escaped as \\uXXXX.

    An ASCII stream is written as UTF-8 by click itself, which takes it for a locale that nobody has set.
    """
    codecs.register_error("fa_track_spelled", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="fa_track_spelled")


def _spelled(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    escaped = (SPELLED.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking)
    return "".join(escaped), error.end
