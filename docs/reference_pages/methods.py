from fa_tracking import catalogue
from reference_pages._markdown import docstring
from trainers import methods
from trainers.method import LearningRule

INTRODUCTION = """# Learning rules

One file each in `trainers/methods/`, trained with `fa-track train NAME`. What they have in common, and which definitions are
ours: [the methods](../explanation/methods.md).
"""


def page() -> str:
    sections = [f"## `{name}`\n\n{_told(name)}" for name in catalogue.names(methods)]
    contract = [
        f"## A rule's file\n\n{docstring(methods)}\n\n{docstring(LearningRule)}",
        *(f"### {name}\n\n{docstring(getattr(LearningRule, name))}" for name in ("backward", "credit", "fresh")),
    ]
    return "\n\n".join([INTRODUCTION.strip(), *sections, *contract])


def _told(name: str) -> str:
    module = catalogue.load(methods, name)
    rule = module.Method
    gamma = "It has a local credit, and so a Γ." if rule.has_credit else "It has no local credit, and so no Γ."
    return f"{docstring(module)}\n\n{docstring(rule)} {gamma}"
