"""Options that several commands share."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from fa_tracking import executors
from fa_tracking.cli import _complete
from fa_tracking.cli._spelling import Decorator, repeated
from fa_tracking.errors import InvalidError, reason_of
from fa_tracking.executors import Needs
from fa_tracking.protocol import diagnostics
from fa_tracking.results.database import DEFAULT_DATABASE

if TYPE_CHECKING:
    from pydantic import ValidationError


def as_usage(error: "ValidationError", options: Mapping[str, str] | None = None) -> click.UsageError:
    """What is wrong with a value, as wrong usage of its option; of values that contradict each other, without one.

    Args:
        options: the option of each field, where it has another name.
    """
    first = error.errors()[0]
    if not first["loc"]:
        return click.UsageError(f"{reason_of(first)}.")
    return click.BadParameter(
        f"{first['msg']}, got {first['input']!r}.",
        param_hint=(options or {}).get(str(first["loc"][0]), str(first["loc"][0])),
    )


def thresholds(command: Callable[..., None]) -> Callable[..., None]:
    """Where the diagnostics fire, one option each; the command takes them as ``thresholds``."""
    options = {d.THRESHOLD.name: d for d in diagnostics.catalogue() if hasattr(d, "THRESHOLD")}

    @wraps(command)
    def with_thresholds(*args: Any, **given: Any) -> None:
        from fa_tracking.protocol.thresholds import DiagnosticThresholds

        values = {name: given.pop(name) for name in options}
        try:
            chosen = DiagnosticThresholds.of({name: v for name, v in values.items() if v is not None})
        except InvalidError as error:
            assert error.found is not None
            raise as_usage(error.found, {name: d.THRESHOLD.option for name, d in options.items()}) from error
        command(*args, thresholds=chosen, **given)

    for name, d in reversed(options.items()):
        threshold = d.THRESHOLD
        said = f"({d.FLAG}) fires {threshold.fires} {threshold.says}  [default: {threshold.default:g}]"
        with_thresholds = click.option(threshold.option, name, type=float, help=said)(with_thresholds)
    return with_thresholds


def executor(default: str | None, unset: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Where a command's runs are worked on; it takes ``executor``, None where none is chosen, and ``needs``.

    Args:
        unset: what happens where no executor is chosen, as the help says it.
    """
    plain = Needs()

    def add(command: Callable[..., None]) -> Callable[..., None]:
        @click.option(
            "--executor",
            type=click.Choice(executors.names()),
            default=default,
            help=f"Where runs go  [default: {unset}]",
        )
        @click.option("--jobs", type=click.IntRange(1), help="Runs at a time  [default: 1; on a cluster all that fit]")
        @click.option("--cpus-per-run", type=click.IntRange(1), default=1, show_default=True, help="Threads per run.")
        @click.option(
            "--gpus-per-run", type=click.FloatRange(0), default=0.0, help="GPUs per run on a cluster, such as 0.25."
        )
        @click.option(
            "--retries",
            type=click.IntRange(0),
            default=plain.retries,
            show_default=True,
            help="How often a run is started again after its process or machine is lost.",
        )
        @click.option("--cells-per-job", type=click.IntRange(1), default=1, help="Runs per Slurm task.")
        @click.option(
            "--set",
            "given",
            multiple=True,
            metavar="KEY=VALUE",
            help="For Ray or Slurm, such as partition=gpu or time=90.",
        )
        @wraps(command)
        def with_executor(*args: Any, given: tuple[str, ...], **options: Any) -> None:
            asked = {name: options.pop(name) for name in (f.name for f in fields(Needs)) if name in options}
            if bad := [pair for pair in given if "=" not in pair]:
                raise click.BadParameter(f"{bad[0]!r} is not KEY=VALUE", param_hint="--set")
            needs = Needs(**asked, set=dict(pair.split("=", 1) for pair in given))
            options["executor"] = options["executor"] or ("local" if (needs.jobs or 1) > 1 else None)
            command(*args, needs=needs, **options)

        return with_executor

    return add


functional = click.option(
    "--functional",
    is_flag=True,
    help="Measure in each epoch how the credits change the loss; an audit always does so for the last epoch.",
)

device = click.option(
    "--device", metavar="DEVICE", default="cpu", show_default=True, help="Device, by its name in torch: cuda, cuda:1, …"
)


def aborting(command: Callable[..., None]) -> Callable[..., None]:
    """When a run stops before its end; the command takes it as ``abort``."""

    @repeated("--abort-on", metavar="FLAG", help="Stop if this flag (n, a, b or c) fires; repeatable.")
    @click.option(
        "--patience",
        type=click.IntRange(1),
        metavar="N",
        help="Stop only after N epochs in a row with a flag.  [default: 1]",
    )
    @wraps(command)
    def with_options(*args: Any, abort_on: tuple[str, ...], patience: int | None, **given: Any) -> None:
        from fa_tracking.tracking.abort import Abort

        if patience and not abort_on:
            raise click.UsageError("--patience says how long a flag must hold: give --abort-on too")
        command(*args, abort=Abort(abort_on, patience or 1) if abort_on else None, **given)

    return with_options


def while_training(command: Callable[..., None]) -> Callable[..., None]:
    """What a training saves on its way, and when it stops; the command takes them as ``abort`` and the loop's names."""
    options = (
        aborting,
        click.option(
            "--checkpoint-every",
            type=click.IntRange(0),
            default=0,
            metavar="N",
            help="Also save a checkpoint every N epochs; 0: only the last.",
        ),
        click.option(
            "--state-seconds",
            type=click.FloatRange(0),
            default=60.0,
            show_default=True,
            help="Save the state for `fa-track resume` whenever so many seconds have passed.",
        ),
        click.option("--threads", type=click.IntRange(1), default=1, show_default=True),
        functional,
        device,
    )
    for add in reversed(options):
        command = add(command)
    return command


def _answering(context: click.Context, option: click.Parameter, uri: str | None) -> str | None:
    from fa_tracking.tracking.store import must_answer

    must_answer(uri)
    return uri


_store: dict[str, Any] = {
    "metavar": "URI",
    "envvar": "MLFLOW_TRACKING_URI",
    "help": "MLflow store  [default: MLFLOW_TRACKING_URI, else mlflow.db in this folder]",
}
tracking_uri = click.option("--tracking-uri", callback=_answering, **_store)
any_tracking_uri = click.option("--tracking-uri", **_store)
"""Of a server that need not answer."""
database = click.option(
    "--db",
    type=click.Path(),
    envvar="FA_TRACK_DB",
    default=DEFAULT_DATABASE,
    show_default=True,
    help="Results database; a command that only reads also takes a folder of Parquet tables (FA_TRACK_DB).",
)
data_dir = click.option(
    "--data-dir",
    metavar="DIR",
    envvar="FA_TRACK_DATA",
    help="The data set's folder, or the folder that contains it (FA_TRACK_DATA).",
)


def about(text: str = "Experiment to read  [default: the only one of the database]") -> Decorator:
    """The experiment in the results database: by its name, or several by a pattern of names.

    The command is given one ``experiment``, with a tilde before a pattern; None where it is missing.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def asked(*args: Any, experiment: str | None, experiment_glob: str | None, **more: Any) -> Any:
            if experiment and experiment_glob:
                raise click.UsageError("--experiment and --experiment-glob contradict each other: give one of them")
            return command(*args, experiment=f"~{experiment_glob}" if experiment_glob else experiment, **more)

        one = click.option("--experiment", metavar="NAME", help=text, shell_complete=_complete.experiments)
        several = click.option(
            "--experiment-glob", metavar="PATTERN", help="All experiments with matching names, such as 'repro*'."
        )
        return one(several(asked))

    return decorate


def the_only(experiment: str | None, db: str) -> str:
    """The experiment that was named, else the only one of the database."""
    from fa_tracking.results.database import connect, only_experiment, sql_errors

    if experiment:
        return experiment
    with connect(db) as connection, sql_errors():
        return only_experiment(connection)


def experiment(command: Callable[..., Any]) -> Callable[..., Any]:
    """The experiment of the store that a command is about; where none is named, the only one that there is."""

    @click.option(
        "--experiment",
        metavar="NAME",
        help="Experiment in MLflow  [default: the only one that has runs]",
        shell_complete=_complete.experiments,
    )
    @wraps(command)
    def asked(*args: Any, experiment: str | None, tracking_uri: str | None, **more: Any) -> Any:
        if experiment is None:
            from fa_tracking.tracking.store import only_experiment

            experiment = only_experiment(tracking_uri)
        return command(*args, experiment=experiment, tracking_uri=tracking_uri, **more)

    return asked


into_experiment = click.option(
    "--experiment",
    metavar="NAME",
    default="scratch",
    show_default=True,
    help="Experiment in MLflow that the runs go into.",
    shell_complete=_complete.experiments,
)
