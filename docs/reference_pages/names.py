import ast
import inspect

from fa_tracking import cells
from fa_tracking.tracking import names
from reference_pages._markdown import docstring, prose, table

INTRODUCTION = """# Names in MLflow

All of them are spelled in `fa_tracking/tracking/names.py`, and nowhere else. An experiment is a study. A metric's step is the
epoch; 0 is the network before training. `audit/report.json` and the tags carry what `fa-track export` reads.
"""


def page() -> str:
    constants, functions = _constants(), _functions()
    metrics = {k: v for k, v in constants.items() if "/" in k and not k.endswith("/")}
    tags = {k: v for k, v in constants.items() if k.startswith(("fa.", "mlflow."))}
    artifacts = {k: v for k, v in constants.items() if k not in metrics | tags and not k.endswith("/")}
    parts = [
        INTRODUCTION,
        "## Params",
        f"{', '.join(f'`{name}`' for name in names.PARAMS)}, and what a user adds. All but `seed` make the cell: runs of one cell "
        "differ in their seed alone.",
        "A run that logs none of these means what version 0.1 did, which had none. Logged with this meaning, a param stands in no "
        "cell's name, so both are runs of one cell:",
        table(
            ("param", "what a run means that leaves it out"), ((f"`{k}`", f"`{v}`") for k, v in cells.ABSENT.items())
        ),
        "## Metrics",
        _named("metric", metrics),
        "By layer l, here of l = 3:",
        _named("metric", {k: v for k, v in functions.items() if not k.startswith(names.CHECKPOINTS)}),
        "## Tags",
        _named("tag", tags),
        f"A tag holds at most {names.TAG_LIMIT} characters; where one would be longer, it says so and where the whole stands.",
        "## Artifacts",
        _named("path", artifacts),
        "Of epoch 3:",
        _named("path", {k: v for k, v in functions.items() if k.startswith(names.CHECKPOINTS)}),
    ]
    return "\n\n".join(part.strip() for part in parts)


def _named(kind: str, found: dict[str, str]) -> str:
    return table((kind, "what it is"), ((f"`{name}`", said) for name, said in found.items()))


def _constants() -> dict[str, str]:
    """Every text that is assigned, with what the docstring behind it says."""
    body = ast.parse(inspect.getsource(names)).body
    found = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            said = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            found[node.value.value] = prose(str(said))
    return found


def _functions() -> dict[str, str]:
    """What each function spells of 3, and its docstring."""
    return {spell(3): docstring(spell) for _, spell in inspect.getmembers(names, inspect.isfunction)}
