import importlib
import inspect
from types import FunctionType
from typing import Any

import fa_tracking
from reference_pages._markdown import docstring, signature

INTRODUCTION = """# Python

`import fa_tracking` imports neither torch nor MLflow: a name is loaded when it is first used.
"""

BEYOND = {
    "What `start_run` gives": ["fa_tracking.tracking.run.TrackedRun", "fa_tracking.tracking.state.State"],
    "In a training loop": ["fa_tracking.protocol.batches.evaluation_batches", "fa_tracking.tracking.abort.Abort"],
    "Callbacks": [
        "fa_tracking.integrations.training.TrackedTraining",
        "fa_tracking.integrations.lightning.FATrackCallback",
        "fa_tracking.integrations.transformers.FATrackCallback",
    ],
    "Results": [
        "fa_tracking.auditor.run.Audit",
        "fa_tracking.auditor.run.Audited",
        "fa_tracking.checks.replay.Replay",
        "fa_tracking.checks.replay.Replayed",
        "fa_tracking.checks.replay.Fired",
        "fa_tracking.checks.replay.Saving",
    ],
    "Statistics": [
        "fa_tracking.results.statistics.summarise",
        "fa_tracking.results.statistics.difference",
        "fa_tracking.results.statistics.holm",
        "fa_tracking.results.statistics.Summary",
        "fa_tracking.results.statistics.Difference",
    ],
    "Errors": [
        "fa_tracking.errors.FATrackError",
        "fa_tracking.errors.UsageError",
        "fa_tracking.errors.InvalidError",
        "fa_tracking.errors.StoreAwayError",
        "fa_tracking.errors.CheckpointError",
        "fa_tracking.errors.NoCheckpointError",
        "fa_tracking.errors.OtherDefinitionError",
    ],
}
"""What the public names give, take and raise, by the heading that it stands under."""


def page() -> str:
    parts = [INTRODUCTION.strip(), "## fa_tracking"]
    parts += [_told(getattr(fa_tracking, name), f"fa_tracking.{name}") for name in fa_tracking.__all__]
    for heading, names in BEYOND.items():
        parts += [f"## {heading}", *(_told(_load(name), name) for name in names)]
    return "\n\n".join(parts)


def _load(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _told(item: Any, name: str) -> str:
    parts = [f"### `{name}`"]
    if not inspect.isclass(item):
        return "\n\n".join([*parts, signature(inspect.unwrap(item), item.__name__), docstring(item)])
    if issubclass(item, Exception):
        return "\n\n".join([*parts, f"{docstring(item)} Exit code {item.exit_code}."])
    made = vars(item).get("__init__")
    if isinstance(made, FunctionType) and "Args:" in f"{item.__doc__}{made.__doc__}":
        parts += [signature(made, item.__name__), docstring(item), docstring(made)]
    elif hasattr(item, "__dataclass_fields__") or hasattr(item, "model_fields"):
        parts += [signature(item, item.__name__), docstring(item)]
    else:
        parts.append(docstring(item))
    return "\n\n".join([*filter(None, parts), *_members(item)])


def _members(owner: type) -> list[str]:
    """The public methods and properties that have a docstring, a base's among them where it is one of ours and has no place of its own."""
    found: dict[str, str] = {}
    for base in owner.__mro__:
        told_elsewhere = base is not owner and base.__name__ in fa_tracking.__all__
        if base.__module__.partition(".")[0] != "fa_tracking" or told_elsewhere:
            continue
        for name, member in vars(base).items():
            made = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if name.startswith("_") or name in found or not isinstance(made, FunctionType) or not made.__doc__:
                continue
            if isinstance(member, property):
                found[name] = f"#### `{owner.__name__}.{name}`\n\n{docstring(made)}"
            else:
                found[name] = f"#### `{owner.__name__}.{name}`\n\n{signature(made, name)}\n\n{docstring(made)}"
    return [*found.values()]
