"""What the charts over epochs share: methods told apart by colour, what else sets their cells apart by dash."""

import math
from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.dashboards import theme

PANELS = {
    "residual_norm": "norm of h_L",
    "grad_norm": "norm of g_L",
    "accuracy": "test accuracy",
}
LOG = ("residual_norm", "grad_norm")

PLAIN = "plain"


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the cell's name within its network, the network, and the variant: what the name adds to the method.

    The axis shows of how many epochs a cell is: its variant does not.
    """
    cells, methods = theme.variant_labels(rows), rows["method"].fillna("?")
    names = theme.variant_labels(rows.drop(columns="epochs"))
    variants = [name.removeprefix(method).strip() or PLAIN for name, method in zip(names, methods, strict=True)]
    return rows.assign(cell=cells, method=methods, variant=variants, network=theme.network_labels(rows))


def networks(rows: pd.DataFrame) -> list[str]:
    """The networks, those with the most cells first."""
    return [*rows.groupby("network")["cell"].nunique().sort_values(ascending=False, kind="stable").index]


def variants_of(rows: pd.DataFrame) -> list[str]:
    """The variants, the plain one first."""
    return sorted(rows["variant"].unique(), key=lambda variant: (variant != PLAIN, variant))


def marks(rows: pd.DataFrame) -> dict[str, Any]:
    """Colour of the method and dash of the variant, each with a legend where there are several."""
    methods, variants = sorted(rows["method"].unique()), variants_of(rows)
    colours = theme.method_colours(methods)
    dashes = alt.Scale(domain=variants, range=_repeated(theme.DASHES, variants))
    symbol: Any = theme.LEGEND_LINE  # whatever mark comes first
    legend = alt.Legend(title="variant", symbolStrokeColor="black", **symbol) if len(variants) > 1 else None
    return {
        "color": alt.Color("method:N", scale=colours, legend=alt.Legend(title="method", **symbol)),
        "strokeDash": alt.StrokeDash("variant:N", scale=dashes, legend=legend),
    }


def y_axis(rows: pd.DataFrame, quantity: str, columns: list[str], shown: bool, title: str | None = None) -> alt.Y:
    """One axis for every network: over the finite values of ``columns``, and the floor where there is one."""
    log = quantity in LOG
    floors = floors_of(rows, quantity)
    values = pd.concat([rows[column] for column in columns])
    held = [float(v) for v in [*values, *floors] if v is not None and not theme.spelled(v, log)]
    scale = alt.Scale(type="log", nice=False, padding=3) if log else alt.Scale(zero=False, nice=True, padding=3)
    if held:
        low, high = min(held), max(held)
        if log and high < 100 * low:  # so that a line of the axis is inside
            low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
        scale.domain = [low, high]
    axis = theme.log_axis(values, floors, most=5) if log else alt.Axis(tickCount=5)
    axis.labels = axis.ticks = shown
    return alt.Y(f"{columns[0]}:Q", scale=scale, axis=axis, title=title)


def floors_of(rows: pd.DataFrame, quantity: str) -> list[float]:
    return sorted(rows["g_norm_floor"].dropna().unique()) if quantity == "grad_norm" else []


def x_axis(titled: bool) -> alt.X:
    return alt.X(
        "epoch:Q", title="epoch" if titled else None, axis=alt.Axis(tickMinStep=1, tickCount=4, labelFlush=False)
    )


def points(rows: pd.DataFrame) -> bool:
    """Whether the lines show their points: where a line of one epoch would show nothing."""
    return rows["epoch"].nunique() == 1


def _repeated(values: list[Any], names: list[str]) -> list[Any]:
    return (values * len(names))[: len(names)]
