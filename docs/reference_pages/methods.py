from fa_tracking import catalogue
from fa_tracking.trainers import methods
from fa_tracking.trainers.method import LearningRule
from reference_pages._markdown import docstring, table

INTRODUCTION = """# Learning rules

One file each in `trainers/methods/`, trained with `fa-track train NAME`. What they have in common, and which definitions are
ours: [the methods](../explanation/methods.md).
"""


def page() -> str:
    rules = {name: catalogue.load(methods, name) for name in catalogue.names(methods)}
    rows = [
        (f"[`{n}`](#{n})", docstring(m).partition("\n\n")[0].replace("\n", " "), "yes" if m.Method.has_credit else "no")
        for n, m in rules.items()
    ]
    sections = [f"## `{name}`\n\n{docstring(rule)}\n\n{docstring(rule.Method)}" for name, rule in rules.items()]
    contract = [
        f"## A rule's file\n\n{docstring(methods)}\n\n{docstring(LearningRule)}",
        *(
            f"### {name}\n\n{docstring(getattr(LearningRule, name))}"
            for name in ("signals", "credit", "fresh", "followers")
        ),
    ]
    return "\n\n".join([INTRODUCTION.strip(), table(("file", "rule", "Γ"), rows), *sections, *contract])
