from types import ModuleType

from fa_tracking import pitfalls
from reference_pages._markdown import prose

INTRODUCTION = """# Pitfalls

One file each in `fa_tracking/pitfalls/`: `fa-track pitfalls` computes every one on the spot, `fa-track pitfalls NAME` explains
one, and `fa-track pitfalls check PATH…` looks in code for those with a rule. What the rules look for, and how they did on public
code: [pitfalls](../explanation/pitfalls.md).
"""


def page() -> str:
    return INTRODUCTION + "".join(_section(name, module) for name, module in pitfalls.catalogue().items())


def _section(name: str, pitfall: ModuleType) -> str:
    rule = f"\n\nIt has a rule. Instead: {prose(pitfall.FIX)}." if hasattr(pitfall, "FIX") else ""
    told = f"**{prose(pitfalls.title(pitfall))}.** {prose(pitfalls.why(pitfall))}"
    return f"\n## `{name}`\n\n{told}\n\nIn FA-Track: {prose(pitfall.CURE)}.{rule}\n"
