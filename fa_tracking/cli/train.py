"""`fa-track train`: one run."""

import math
from typing import TYPE_CHECKING

import click

from fa_tracking.cli import _complete, _options
from fa_tracking.cli._show import progress, say, say_next
from fa_tracking.cli._train import Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from click.decorators import FC

    from fa_tracking.tracking.abort import Abort
    from fa_tracking.trainers.config import RunConfig

ORDER = 2


def _choice(option: str, values: list[str], says: str) -> "Callable[[FC], FC]":
    """An option that takes one of the values, else the first."""
    return click.option(option, type=click.Choice(values), default=values[0], show_default=True, help=says)


@click.command("train")
@click.argument("method", shell_complete=_complete.methods)
@_options.into_experiment
@click.option("--architecture", default="resmlp", show_default=True, shell_complete=_complete.architectures)
@click.option("--width", type=click.IntRange(1), default=256, show_default=True, help="Size d of a hidden state.")
@click.option("--depth", type=click.IntRange(1), default=4, show_default=True, help="Number L of blocks.")
@click.option(
    "--expansion", type=int, default=0, help="A block's hidden units, in multiples of its width; 0: the network's own."
)
@click.option("--alpha", type=float, default=1.0, show_default=True, help="Share of tanh in student_net's φ.")
@click.option("--dataset", default="digit_pairs", show_default=True, shell_complete=_complete.data_sets)
@_choice("--labels", ["true", "random"], "Training labels; random: drawn anew for each batch.")
@_options.data_dir
@click.option("--seed", type=click.IntRange(0), default=42, show_default=True)
@click.option(
    "--epochs", type=click.IntRange(0), default=30, show_default=True, help="Epochs to train; 0: random initialisation."
)
@click.option("--batch-size", type=click.IntRange(1), default=128, show_default=True)
@click.option("--optimizer", default="adamw", show_default=True)
@click.option("--lr", type=float, default=1e-3, show_default=True)
@_choice("--lr-schedule", ["constant", "cosine"], "Learning rate over the epochs; cosine falls from lr towards 0.")
@click.option(
    "--lr-warmup", type=int, default=0, show_default=True, help="First epochs, in which the rate rises to lr."
)
@click.option("--momentum", type=float, default=0.0, show_default=True, help="SGD's momentum.")
@click.option("--weight-decay", type=float, default=0.01, show_default=True)
@click.option("--clip-norm", type=float, default=math.inf, show_default=True, help="A block's largest gradient norm.")
@click.option("--penalty", type=float, default=0.0, show_default=True, help="λ of the penalty λ‖f_l(h_l)‖².")
@_choice(
    "--credit-normalisation",
    ["none", "rms", "rms_eps"],
    "Divide each sample's local credit by its root mean square (rms), or by that plus 1e-6 (rms_eps).",
)
@_choice("--credit-index", ["output", "input"], "Credit that a block learns from: its output's or its input's.")
@click.option("--trainable-blocks", type=click.IntRange(0), metavar="K", help="Train the last K blocks  [default: all]")
@click.option("--frozen-blocks", is_flag=True, help="The same as --trainable-blocks 0: the control for (d).")
@click.option(
    "--augmentation",
    default="none",
    show_default=True,
    help="Change of the training images: none, crop_flip, crop_flip_mean.",
)
@_options.while_training
@click.option("--download", is_flag=True, help="Let torchvision fetch a data set that --data-dir lacks.")
@_options.tracking_uri
def command(
    experiment: str,
    tracking_uri: str | None,
    data_dir: str | None,
    download: bool,
    checkpoint_every: int,
    state_seconds: float,
    threads: int,
    functional: bool,
    abort: "Abort | None",
    device: str,
    **params: object,
) -> None:
    """Train one run with METHOD (bp, dfa, …) and log it to MLflow.

    \b
    Example:
      fa-track train dfa --experiment dfa_penalty --width 64 --epochs 10 --lr 0.01
      fa-track train dfa --dataset cifar10 --data-dir data --abort-on a --abort-on b --patience 2
    """
    from fa_tracking.trainers.options import RunOptions
    from fa_tracking.trainers.tracked import train

    config = config_of(params)
    options = RunOptions(
        data_dir=data_dir,
        download=download,
        checkpoint_every=checkpoint_every,
        state_seconds=state_seconds,
        threads=threads,
        device=device,
        abort=abort,
        functional=functional,
    )
    watched = Watched()
    with progress(f"{config.method}, seed {config.seed}") as update, watched.stoppable():
        train(
            config,
            experiment,
            tracking_uri,
            options,
            progress=watched.each_epoch(update),
            started=watched.start,
        )
    if abort and watched.epoch is not None and watched.epoch < config.epochs:
        held = f"{' or '.join(abort.flags)} fired {_times(abort.patience)}"
        say(
            f"stopped at epoch {watched.epoch} of {config.epochs}: {held}; saved: every metric and this epoch's "
            "checkpoint"
        )
    watched.say_accuracy()
    say_next("audit", "--experiment", experiment)


def config_of(params: "Mapping[str, object]") -> "RunConfig":
    """The run that the options ask for; what was not given, and a flag that was not set, is the config's own default.

    Raises:
        BadParameter: of click: a value that a run cannot take.
    """
    from pydantic import ValidationError

    from fa_tracking.trainers.config import RunConfig

    try:
        return RunConfig(**{name: v for name, v in params.items() if v is not None and v is not False})  # type: ignore[arg-type]
    except ValidationError as error:
        raise _options.as_usage(error) from error


def _times(patience: int) -> str:
    return f"in each of the last {patience} epochs" if patience > 1 else "in the last epoch"
