"""How options are spelled in every command: ``--format`` for the form of an answer, an option once for each value.

What was spelled otherwise until version 0.2 is still read, and says the new spelling.
"""

from collections.abc import Callable
from typing import Any

import click

from fa_tracking.cli._show import say
from fa_tracking.untrusted import one_line

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def answer_format(
    *forms: str, text: str = "How the answer is printed.", choice: type[click.Choice] = click.Choice
) -> Decorator:
    """How a command prints its answer: the first of ``forms`` unless ``--format`` says another; it takes ``form``.

    What was a flag of its own until version 0.2, ``--json`` or ``--github``, is one of the forms, and still read.

    Args:
        choice: converts the form; to None where it is no form but an old spelling of something else.
    """

    def chosen(context: click.Context, option: click.Parameter, value: str | None) -> str:
        by_hand = context.get_parameter_source("form") is click.core.ParameterSource.COMMANDLINE
        asked = dict.fromkeys([*context.meta.get(_OLD_FORMS, []), *([value] if value and by_hand else [])])
        if len(asked) > 1:
            raise click.UsageError(f"one answer has one --format, not {' and '.join(asked)}")
        return next(iter(asked), forms[0])

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for form in ("json", "github"):
            if form in forms:
                command = _old_flag(form)(command)
        shown: dict[str, Any] = {"type": choice(forms), "default": forms[0], "show_default": True, "help": text}
        return click.option("--format", "form", callback=chosen, **shown)(command)

    return add


_OLD_FORMS = "fa_tracking.old_forms"


def _old_flag(form: str) -> Decorator:
    def kept(context: click.Context, option: click.Parameter, value: bool) -> None:
        if value:
            say_new(f"--{form}", f"--format {form}")
            context.meta.setdefault(_OLD_FORMS, []).append(form)

    return click.option(f"--{form}", is_flag=True, hidden=True, expose_value=False, is_eager=True, callback=kept)


def repeated(name: str, old: str | None = None, **more: Any) -> Decorator:
    """An option that is given once for each value; the command takes a tuple of them.

    Several values with commas, as until version 0.2, are still read, and so is the option's ``old`` name.
    """
    into = more.pop("into", name.removeprefix("--").replace("-", "_"))

    def parted(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
        before = context.meta.pop(f"{_OLD_FORMS}.{old}", ())
        if any("," in value for value in (*before, *values)) or before:
            each = [part.strip() for value in (*before, *values) for part in value.split(",")]
            say_new(str(old) if before else f"a comma in {name}", " ".join(f"{name} {one_line(part)}" for part in each))
            return tuple(each)
        return values

    def kept(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> None:
        if values:
            context.meta[f"{_OLD_FORMS}.{old}"] = values

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        if old:
            command = click.option(
                old, into + "_", multiple=True, hidden=True, expose_value=False, is_eager=True, callback=kept
            )(command)
        return click.option(name, into, multiple=True, callback=parted, **more)(command)

    return add


def say_new(old: str, new: str) -> None:
    say(f"{old} is still accepted until version 0.4; write {new}")
