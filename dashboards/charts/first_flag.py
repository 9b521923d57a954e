"""First flags as a timeline: a bar a run from epoch 0 to its planned end, pale from the flag that could stop it."""

from typing import Any

import altair as alt
import pandas as pd

from fa_tracking.dashboards import theme

TITLE = "First flags: when each diagnostic first fires, and the compute a stop there would save"
QUERY = "first_flag_timeline"
ORDER = 5

WIDTH, SEED = 340, 30
ROOM, GAP, LINE = 540, 4, 14
"""Height that the bars of all runs may take together, that between two cells, and that of a line of text."""
LEGIBLE = 8
"""Height of the least bar that has its seed beside it."""

FLAGS = {"a_epoch": "a", "b_epoch": "b", "c_epoch": "c", "n_epoch": "n"}
FLAG_COLOUR = alt.Scale(domain=[*FLAGS.values()], range=["#D55E00", "#7A3E9D", "#009E73", "#000000"])
FLAG_SHAPE = alt.Scale(domain=[*FLAGS.values()], range=["triangle-up", "triangle-down", "circle", "cross"])
PARTS = alt.Scale(domain=["needed", "saved", "aborted there"], range=["#8FB8D8", "#F3DCCB", "#FFFFFF"])


def draw(rows: pd.DataFrame) -> alt.LayerChart:
    """Bars grouped by cell; beside each cell the epochs at which its flags first fire, and in how many runs."""
    rows = rows.assign(cell=theme.cell_labels(rows))
    rows, height, bar = _placed(rows)
    scale = alt.Scale(domain=[height, 0], nice=False, zero=False)
    y = alt.Y("y:Q", scale=scale, axis=None)
    end = max(1, int(rows["planned"].max()))
    x = alt.X("epoch:Q", scale=alt.Scale(domain=[0, end], nice=False), title="epoch", axis=alt.Axis(tickMinStep=1))

    identity = ["cell", "method", "architecture", "width", "seed", "run_id", "y"]
    told = theme.tooltip(
        "cell:N", "seed:Q", "first_epoch:Q", "planned:Q", alt.Tooltip("share_saved:Q", format=".1%"), "run_id:N"
    )
    parts = _parts(rows)
    bars = (
        alt.Chart(parts[[*identity, "part", "epoch", "until", "first_epoch", "planned", "share_saved"]])
        .mark_bar(height=bar, stroke="#8A8A8A", strokeWidth=0.4)
        .encode(x=x, x2=alt.X2("until:Q"), y=y, opacity=theme.opacity(1), tooltip=told)
        .encode(color=alt.Color("part:N", scale=PARTS, legend=_legend("epochs", parts["part"], symbolType="square")))
    )
    fired = rows.melt(identity, [*FLAGS], "flag", "epoch").dropna(subset="epoch").replace({"flag": FLAGS})
    fired = fired.sort_values("flag", ascending=False)  # (a) on top: where two fire at once, it is what stops a run
    legend = _legend("first fires", fired["flag"].sort_values())
    marks = (
        alt.Chart(fired)
        .mark_point(filled=True, size=min(60, bar**2))
        .encode(
            x=x,
            y=y,
            opacity=theme.opacity(1),
            tooltip=theme.tooltip("cell:N", "seed:Q", "flag:N", "epoch:Q", "run_id:N"),
        )
        .encode(
            color=alt.Color("flag:N", scale=FLAG_COLOUR, legend=legend),
            shape=alt.Shape("flag:N", scale=FLAG_SHAPE, legend=legend),
        )
    )
    seeds = _seeds(rows[identity], y, bar)
    aside = SEED if seeds else 0
    cells = rows.drop_duplicates("cell").assign(beside=lambda some: [_beside(r) for r in some.to_dict("records")])
    texts = alt.Chart(cells[["cell", "method", "architecture", "width", "middle", "beside"]])
    texts = texts.encode(y=alt.Y("middle:Q", scale=scale, axis=None))
    names = texts.mark_text(align="right", fontSize=10).encode(x=alt.XValue(-6 - aside), text=alt.Text("cell:N"))
    beside = texts.mark_text(align="left", fontSize=10).encode(x=alt.XValue(WIDTH + 6), text=alt.Text("beside:N"))
    caption = theme.caption(
        "A bar is a run over its planned epochs. Stopping at the first of (a), (b) and n (not finite) saves the epochs",
        "that are pale; (c) alone stops no run. Right: the epochs at which a cell's flags first fire, then how many of",
        "its runs would stop.",
        theme.usual(rows),
    )
    layers = alt.layer(bars, marks, names, beside, *seeds).resolve_scale(color="independent", shape="independent")
    return layers.properties(width=WIDTH, height=height, title=caption)


def describe(rows: pd.DataFrame) -> str:
    """How many runs would stop early, where, and the share of their epochs that this saves."""
    stopped = rows[rows["first_epoch"].notna()]
    if stopped.empty:
        return f"{len(rows)} runs; in none does (a), (b) or n fire at any logged epoch."
    epochs, shares = theme.value_range(stopped["first_epoch"]), theme.value_range(stopped["share_saved"] * 100)
    return f"{len(rows)} runs; {len(stopped)} would stop, at epoch {epochs}, which saves {shares} % of their epochs."


def _placed(rows: pd.DataFrame) -> tuple[pd.DataFrame, float, float]:
    """The rows with the height at which each bar stands and the middle of its cell; all their height; that of a bar."""
    bar = min(13.0, max(3.0, ROOM / len(rows)))
    sizes = rows.groupby("cell", sort=False)["run_id"].transform("size")
    rooms = (sizes * bar).clip(lower=LINE) + GAP
    firsts = ~rows["cell"].duplicated()
    tops = (rooms.where(firsts, 0).cumsum() - rooms).where(firsts).groupby(rows["cell"]).transform("first")
    middle = tops + rooms / 2
    rank = rows.groupby("cell").cumcount() + 0.5 - sizes / 2
    return rows.assign(middle=middle, y=middle + rank * bar), float(rooms[firsts].sum()), bar * 0.85


def _seeds(runs: pd.DataFrame, y: alt.Y, bar: float) -> list[alt.Chart]:
    """Each bar's seed, left of it, where it can be read."""
    runs = runs[runs["seed"].notna()]
    if bar < LEGIBLE or runs.empty:
        return []
    seeds = alt.Chart(runs).mark_text(align="right", fontSize=9, limit=SEED, color="#444444")
    head = alt.Chart(pd.DataFrame({"heading": ["seed"]})).mark_text(align="right", fontSize=9, color="#444444")
    return [
        seeds.encode(x=alt.XValue(-8), y=y, text=alt.Text("seed:N"), opacity=theme.opacity(1)),
        head.encode(x=alt.XValue(-8), y=alt.YValue(-4), text=alt.Text("heading:N")),
    ]


def _legend(title: str, there: pd.Series, **symbol: Any) -> alt.Legend | None:
    return None if there.empty else alt.Legend(title=title, values=[*dict.fromkeys(there)], **symbol)


def _parts(rows: pd.DataFrame) -> pd.DataFrame:
    """Each run's bar in parts: what it needed to its first flag or its end, and what comes after that."""
    stop = pd.to_numeric(rows["first_epoch"]).fillna(pd.to_numeric(rows["final_epoch"]))
    bars = rows.assign(part="needed", epoch=0, until=stop)
    part = ["aborted there" if pd.isna(first) else "saved" for first in rows["first_epoch"]]
    rest = rows.assign(part=part, epoch=stop, until=pd.to_numeric(rows["planned"]))
    return pd.concat([bars, rest[rest["epoch"] < rest["until"]]])


def _beside(row: dict[Any, Any]) -> str:
    return f"{row['fired'] or 'no flag'} · {row['n_flagged']}/{row['n']}"
